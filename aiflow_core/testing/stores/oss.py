"""A server that speaks the dialect of Alibaba Cloud OSS and checks signatures.

There is none to be had, so this one is ours. It knows what a blob manager needs: objects, ranges,
parts, listings, errors. As a program, `python -m aiflow_core.testing.stores.oss PORT DIRECTORY`, it
is a process of its own.
"""

import base64
import contextlib
import hashlib
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from aiflow_core.testing.stores.oss_signature import BadSignature, user_of
from aiflow_core.testing.stores.process import free_port, serving

BUCKET = "aiflow"
SECRETS = {"writer": "the secret of the writer", "reader": "the secret of the reader"}
_LEAST_PART = 100 * 1024
_PAGE = 100
_STATUS = {
    **{"AccessDenied": 403, "InvalidAccessKeyId": 403, "SignatureDoesNotMatch": 403},
    **{"NoSuchBucket": 404, "NoSuchKey": 404, "NoSuchUpload": 404},
    **{"InvalidPart": 400, "EntityTooSmall": 400, "InvalidDigest": 400, "NotImplemented": 501},
}


class Refused(Exception):
    """An answer other than what was asked for; its argument is what the service calls it."""


class Storage:
    """Objects and unfinished uploads, as files of a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self.objects: dict[str, tuple[Path, str, float]] = {}
        self.uploads: dict[str, tuple[str, float, dict[int, tuple[Path, str]]]] = {}

    def write(self, content: bytes, md5: str | None) -> tuple[Path, str]:
        """A new file of that content, and its tag."""
        digest = hashlib.md5(content, usedforsecurity=False)
        if md5 is not None and base64.b64decode(md5) != digest.digest():
            raise Refused("InvalidDigest")
        path = self._directory / uuid.uuid4().hex
        path.write_bytes(content)
        return path, digest.hexdigest().upper()

    def put(self, key: str, path: Path, tag: str) -> None:
        """From now on the file is the object."""
        with self._lock:
            self.objects[key] = path, tag, time.time()

    def page(self, prefix: str, after: str) -> tuple[list[tuple[str, Path, str, float]], bool]:
        """Some of the objects in order, and whether there are more."""
        with self._lock:
            found = sorted(k for k in self.objects if k.startswith(prefix) and k > after)
            page = [(key, *self.objects[key]) for key in found[:_PAGE]]
        return page, len(found) > _PAGE

    def upload(self, key: str, upload: str) -> dict[int, tuple[Path, str]]:
        """The parts of an unfinished upload."""
        found = self.uploads.get(upload)
        if found is None or found[0] != key:
            raise Refused("NoSuchUpload")
        return found[2]

    def complete(self, key: str, upload: str, chosen: Sequence[tuple[int, str]]) -> str:
        """Make the chosen parts, numbers and tags, the object; returns its tag."""
        parts = self.upload(key, upload)
        for number, tag in chosen:
            if number not in parts or parts[number][1] != tag.strip('"'):
                raise Refused("InvalidPart")
        files = [parts[number][0] for number, _ in chosen]
        if any(file.stat().st_size < _LEAST_PART for file in files[:-1]):
            raise Refused("EntityTooSmall")
        whole = self._directory / uuid.uuid4().hex
        with whole.open("wb") as target:
            for file in files:
                target.write(file.read_bytes())
        if self.uploads.pop(upload, None) is None:
            raise Refused("NoSuchUpload")
        tag = f"{uuid.uuid4().hex.upper()}-{len(files)}"
        self.put(key, whole, tag)
        return tag


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    storage: Storage

    def setup(self) -> None:
        super().setup()
        # Head and body of an answer are two packets; nobody shall wait between them.
        self.connection.setsockopt(6, 1, 1)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qsl(url.query, keep_blank_values=True)
        self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        bucket, _, key = path[1:].partition("/")
        try:
            user = user_of(self.command, f"/{bucket}/{key}", query, headers, SECRETS)
            if user == "reader" and self.command not in ("GET", "HEAD"):
                raise Refused("AccessDenied")
            if bucket != BUCKET:
                raise Refused("NoSuchBucket")
            self._answer_to(key, dict(query), headers)
        except BadSignature as error:
            self._refuse(error.code)
        except Refused as error:
            self._refuse(str(error))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def _answer_to(self, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> None:
        match self.command, bool(key):
            case "GET", False if query.get("list-type") == "2":
                self._list_objects(query)
            case "GET", False if "uploads" in query:
                self._list_uploads(query)
            case "PUT", True if "uploadId" in query:
                parts = self.storage.upload(key, query["uploadId"])
                part = self.storage.write(self._body, headers.get("content-md5"))
                parts[int(query["partNumber"])] = part
                self._send(200, headers={"ETag": f'"{part[1]}"'})
            case "PUT", True:
                path, tag = self.storage.write(self._body, headers.get("content-md5"))
                self.storage.put(key, path, tag)
                self._send(200, headers={"ETag": f'"{tag}"'})
            case "POST", True if "uploads" in query:
                upload = uuid.uuid4().hex
                self.storage.uploads[upload] = key, time.time(), {}
                self._xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")
            case "POST", True if "uploadId" in query:
                chosen = [
                    (int(part.findtext("PartNumber", "")), part.findtext("ETag", ""))
                    for part in ElementTree.fromstring(self._body).iter("Part")
                ]
                tag = self.storage.complete(key, query["uploadId"], chosen)
                self._xml("CompleteMultipartUploadResult", f'<ETag>"{tag}"</ETag>')
            case "GET", True if "uploadId" in query:
                self._list_parts(key, query)
            case "DELETE", True if "uploadId" in query:
                self.storage.upload(key, query["uploadId"])
                del self.storage.uploads[query["uploadId"]]
                self._send(204)
            case "DELETE", True:
                self.storage.objects.pop(key, None)
                self._send(204)
            case (("GET" | "HEAD"), True):
                self._get(key, headers.get("range", ""))
            case _:
                raise Refused("NotImplemented")

    def _get(self, key: str, wanted: str) -> None:
        if key not in self.storage.objects:
            raise Refused("NoSuchKey")
        path, tag, modified = self.storage.objects[key]
        size = path.stat().st_size
        start, stop = 0, size
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last or size) + 1, size)
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(stop - start) if self.command == "GET" else b""
        about = {
            "ETag": f'"{tag}"',
            "Last-Modified": formatdate(modified, usegmt=True),
            **({"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if wanted else {}),
        }
        self._send(206 if wanted else 200, content, about, stop - start)

    def _list_objects(self, query: Mapping[str, str]) -> None:
        after = query.get("continuation-token") or query.get("start-after", "")
        page, is_truncated = self.storage.page(query.get("prefix", ""), after)
        objects = "".join(
            f"<Contents><Key>{quote(key)}</Key><LastModified>{_iso(modified)}</LastModified>"
            f'<ETag>"{tag}"</ETag><Type>Normal</Type><Size>{path.stat().st_size}</Size>'
            "<StorageClass>Standard</StorageClass></Contents>"
            for key, path, tag, modified in page
        )
        following = quote(page[-1][0]) if is_truncated else ""
        self._xml(
            "ListBucketResult",
            "<EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
            f"<NextContinuationToken>{following}</NextContinuationToken>{objects}",
        )

    def _list_uploads(self, query: Mapping[str, str]) -> None:
        uploads = "".join(
            f"<Upload><Key>{quote(key)}</Key><UploadId>{upload}</UploadId>"
            f"<Initiated>{_iso(begun)}</Initiated></Upload>"
            for upload, (key, begun, _) in sorted(self.storage.uploads.items())
            if key.startswith(query.get("prefix", ""))
        )
        self._xml(
            "ListMultipartUploadsResult",
            "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
            f"<NextKeyMarker></NextKeyMarker><NextUploadIdMarker></NextUploadIdMarker>{uploads}",
        )

    def _list_parts(self, key: str, query: Mapping[str, str]) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><LastModified>{_iso(0)}</LastModified>"
            f'<ETag>"{tag}"</ETag><Size>{path.stat().st_size}</Size></Part>'
            for number, (path, tag) in sorted(self.storage.upload(key, query["uploadId"]).items())
        )
        self._xml(
            "ListPartsResult",
            f"<IsTruncated>false</IsTruncated><NextPartNumberMarker></NextPartNumberMarker>{parts}",
        )

    def _refuse(self, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{escape(code)}.</Message></Error>".encode()
        said = {"x-oss-err": base64.b64encode(body).decode()} if self.command == "HEAD" else {}
        self._send(_STATUS[code], body, {"Content-Type": "application/xml", **said})

    def _xml(self, name: str, inside: str) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?><{name}>{inside}</{name}>'.encode()
        self._send(200, body, {"Content-Type": "application/xml"})

    def _send(
        self,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("x-oss-request-id", uuid.uuid4().hex)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


@dataclass(frozen=True, kw_only=True)
class OssServer:
    """A server with the bucket `BUCKET` and two users, of whom one may only read."""

    endpoint: str

    def settings(self, user: str = "writer", **others: Any) -> dict[str, Any]:
        """Settings of a blob manager."""
        return {
            "bucket": BUCKET,
            "endpoint": self.endpoint,
            "region": "cn-hangzhou",
            "addressing_style": "path",
            "access_key_id": user,
            "access_key_secret": SECRETS[user],
            **others,
        }


@contextlib.contextmanager
def oss_server(directory: Path) -> Iterator[OssServer]:
    """A server that keeps its objects in `directory`."""
    port = free_port()
    (directory / "objects").mkdir()
    command = [sys.executable, "-m", __name__, str(port), str(directory / "objects")]
    with serving(command, port, directory / "oss.log"):
        yield OssServer(endpoint=f"http://127.0.0.1:{port}")


def main(port: int, directory: Path) -> None:
    """Serve until the process is ended."""
    handler = type("BoundHandler", (Handler,), {"storage": Storage(directory)})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
