"""A server that speaks WebHDFS as a name node and a data node of Hadoop do.

Small enough for every test run; what it knows of paths, owners, redirects and errors is what the
same tests see of a real Hadoop, see `hadoop`. As a program, `python -m
aiflow_core.testing.stores.webhdfs PORT DIRECTORY`, it is a process of its own.
"""

import contextlib
import json
import posixpath
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from aiflow_core.testing.stores.process import free_port, serving

SUPERUSER = "hdfs"
_PREFIX = "/webhdfs/v1"


class RemoteError(Exception):
    """What Hadoop answers as a RemoteException: its Java class, and a status."""

    def __init__(self, name: str, status: int, message: str) -> None:
        self.name, self.status, self.message = name, status, message
        super().__init__(message)


@dataclass
class Node:
    """A file or a directory."""

    owner: str
    file: Path | None = None
    modified_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    def status(self, name: str) -> dict[str, Any]:
        return {
            "pathSuffix": name,
            "type": "DIRECTORY" if self.file is None else "FILE",
            "length": 0 if self.file is None else self.file.stat().st_size,
            "owner": self.owner,
            "permission": "755" if self.file is None else "644",
            "modificationTime": self.modified_ms,
        }


class Tree:
    """All paths. Whoever owns a directory, and the superuser, may change what is in it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.RLock()
        self._nodes = {"/": Node(SUPERUSER)}

    def node(self, path: str) -> Node:
        found = self._nodes.get(path)
        if found is None:
            raise RemoteError("FileNotFoundException", 404, f"File does not exist: {path}")
        return found

    def children(self, path: str) -> list[dict[str, Any]]:
        node = self.node(path)
        if node.file is not None:
            return [node.status("")]
        with self._lock:
            return [
                node.status(posixpath.basename(name))
                for name, node in sorted(self._nodes.items())
                if posixpath.dirname(name) == path and name != "/"
            ]

    def make_directories(self, path: str, user: str) -> None:
        with self._lock:
            if path in self._nodes:
                if self._nodes[path].file is not None:
                    raise RemoteError("ParentNotDirectoryException", 403, f"{path} is a file")
                return
            self.make_directories(posixpath.dirname(path), user)
            self._may_change(posixpath.dirname(path), user)
            self._nodes[path] = Node(user)

    def begin(self, path: str, user: str) -> None:
        """What the name node does when a file is created: it is there, and empty."""
        with self._lock:
            if path in self._nodes:
                raise RemoteError("FileAlreadyExistsException", 403, f"{path} already exists")
            self.make_directories(posixpath.dirname(path), user)
            self._may_change(posixpath.dirname(path), user)
            file = self._directory / uuid.uuid4().hex
            file.touch()
            self._nodes[path] = Node(user, file)

    def rename(self, source: str, target: str, overwrite: bool, user: str) -> bool:
        with self._lock:
            node = self.node(source)
            self._may_change(posixpath.dirname(source), user)
            if posixpath.dirname(target) not in self._nodes:
                if overwrite:
                    raise RemoteError("FileNotFoundException", 404, "the parent does not exist")
                return False
            self._may_change(posixpath.dirname(target), user)
            if target in self._nodes and not overwrite:
                return False
            self._nodes[target] = node
            del self._nodes[source]
            return True

    def delete(self, path: str, user: str) -> bool:
        with self._lock:
            if path not in self._nodes:
                return False
            self._may_change(posixpath.dirname(path), user)
            if any(posixpath.dirname(name) == path for name in self._nodes if name != "/"):
                raise RemoteError("PathIsNotEmptyDirectoryException", 403, f"{path} is not empty")
            del self._nodes[path]
            return True

    def _may_change(self, path: str, user: str) -> None:
        if user not in (SUPERUSER, self.node(path).owner):
            raise RemoteError(
                "AccessControlException",
                403,
                f'Permission denied: user={user}, access=WRITE, inode="{path}"',
            )


class Handler(BaseHTTPRequestHandler):
    """A connection to the name node, or by the paths below `/data` to the data node."""

    protocol_version = "HTTP/1.1"
    tree: Tree

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        try:
            if "delegation" in query:  # a cluster that asks for proof knows none of ours
                raise RemoteError("InvalidToken", 403, "The token cannot be decoded")
            user = query.get("user.name", "dr.who")
            is_data = url.path.startswith("/data/")
            path = unquote(url.path.removeprefix("/data").removeprefix(_PREFIX)) or "/"
            op = query["op"].upper()
            if op in ("CREATE", "OPEN") and not is_data:
                self._to_data_node(op, path, url, user)
            elif op == "CREATE":
                self._receive(path, user)
            elif op == "OPEN":
                self._send_content(path, query)
            else:
                self._json(200, self._answer(op, path, query, user))
        except RemoteError as error:
            about = {"exception": error.name, "message": error.message}
            self._json(error.status, {"RemoteException": about})

    do_GET = do_PUT = do_DELETE = _serve

    def _answer(self, op: str, path: str, query: dict[str, str], user: str) -> Any:
        tree = self.tree
        match op:
            case "GETFILESTATUS":
                return {"FileStatus": tree.node(path).status("")}
            case "LISTSTATUS":
                return {"FileStatuses": {"FileStatus": tree.children(path)}}
            case "MKDIRS":
                tree.make_directories(path, user)
                return {"boolean": True}
            case "DELETE":
                return {"boolean": tree.delete(path, user)}
            case "RENAME":
                overwrite = query.get("renameoptions") == "OVERWRITE"
                done = tree.rename(path, query["destination"], overwrite, user)
                return None if overwrite else {"boolean": done}
        raise RemoteError("UnsupportedOperationException", 400, f"{op} is not supported")

    def _to_data_node(self, op: str, path: str, url: Any, user: str) -> None:
        if op == "CREATE":
            self.tree.begin(path, user)
        elif self.tree.node(path).file is None:
            raise RemoteError("FileNotFoundException", 404, f"Path is not a file: {path}")
        host = self.headers["Host"]
        self.send_response(307)
        self.send_header("Location", f"http://{host}/data{_PREFIX}{quote(path)}?{url.query}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _receive(self, path: str, user: str) -> None:
        file = self.tree.node(path).file
        assert file is not None
        with file.open("wb") as target:
            while size := int(self.rfile.readline().split(b";")[0], 16):
                target.write(self.rfile.read(size))
                self.rfile.readline()
        self.rfile.readline()
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_content(self, path: str, query: dict[str, str]) -> None:
        file = self.tree.node(path).file
        assert file is not None
        start = int(query.get("offset", 0))
        left = min(int(query.get("length", sys.maxsize)), file.stat().st_size - start)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(left))
        self.end_headers()
        with file.open("rb") as source:
            source.seek(start)
            while left and (chunk := source.read(min(left, 2**20))):
                self.wfile.write(chunk)
                left -= len(chunk)

    def _json(self, status: int, content: Any) -> None:
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def webhdfs_server(directory: Path) -> Iterator[str]:
    """The address of a server that keeps its files in `directory`."""
    port = free_port()
    (directory / "files").mkdir()
    command = [sys.executable, "-m", __name__, str(port), str(directory / "files")]
    with serving(command, port, directory / "webhdfs.log"):
        yield f"http://127.0.0.1:{port}"


def main(port: int, directory: Path) -> None:
    """Serve until the process is ended."""
    handler = type("BoundHandler", (Handler,), {"tree": Tree(directory)})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
