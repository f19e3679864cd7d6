"""Signatures of Alibaba Cloud OSS, versions 1 and 4, computed from a request as it arrived.

Written from the documentation of the service; nothing of an SDK is used, so that an SDK's own
mistakes would show.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import quote

# The query parameters that version 1 signs, as far as they concern objects and their parts.
_SIGNED_BY_V1 = {
    *("acl", "uploads", "uploadId", "partNumber", "delete", "location", "append", "position"),
    *("security-token", "tagging", "versions", "versionId", "objectMeta", "stat", "bucketInfo"),
    *("symlink", "continuation-token", "restore", "encryption", "response-content-type"),
}


class BadSignature(Exception):
    """The request is not signed by whom it says.

    Attributes:
        code: what the service calls it.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


def user_of(
    method: str,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    secrets: Mapping[str, str],
) -> str:
    """The access key id of whoever signed the request.

    Args:
        path: decoded, `/<bucket>/<key>`.
        query: decoded, as it came.
        headers: names in lower case.
        secrets: by access key id.
    """
    authorization = headers.get("authorization", "")
    if authorization.startswith("OSS4-HMAC-SHA256 "):
        user, given, expected = _version_4(method, path, query, headers, secrets)
    elif authorization.startswith("OSS "):
        user, given, expected = _version_1(method, path, query, headers, secrets)
    else:
        raise BadSignature("AccessDenied")
    if not hmac.compare_digest(given, expected):
        raise BadSignature("SignatureDoesNotMatch")
    return user


def _version_1(
    method: str,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    secrets: Mapping[str, str],
) -> tuple[str, str, str]:
    user, _, given = headers["authorization"].removeprefix("OSS ").partition(":")
    signed = sorted((k, v) for k, v in query if k in _SIGNED_BY_V1)
    resource = path + ("?" + "&".join(f"{k}={v}" if v else k for k, v in signed) if signed else "")
    own = sorted((k, v) for k, v in headers.items() if k.startswith("x-oss-"))
    lines = [
        method,
        headers.get("content-md5", ""),
        headers.get("content-type", ""),
        headers.get("x-oss-date") or headers.get("date", ""),
        *(f"{k}:{v}" for k, v in own),
        resource,
    ]
    digest = hmac.new(_secret(user, secrets), "\n".join(lines).encode(), hashlib.sha1).digest()
    return user, given, base64.b64encode(digest).decode()


def _version_4(
    method: str,
    path: str,
    query: Sequence[tuple[str, str]],
    headers: Mapping[str, str],
    secrets: Mapping[str, str],
) -> tuple[str, str, str]:
    fields = dict(
        part.strip().partition("=")[::2]
        for part in headers["authorization"].partition(" ")[2].split(",")
    )
    user, *scope = fields["Credential"].split("/")
    additional = fields.get("AdditionalHeaders", "")
    signed = sorted(
        (k, v)
        for k, v in headers.items()
        if k.startswith("x-oss-")
        or k in ("content-type", "content-md5")
        or k in additional.split(";")
    )
    encoded = sorted((_encoded(k), _encoded(v)) for k, v in query)
    request = "\n".join(
        [
            method,
            quote(path, safe="/~"),
            "&".join(f"{k}={v}" if v else k for k, v in encoded),
            "".join(f"{k}:{v}\n" for k, v in signed),
            additional,
            headers.get("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )
    to_sign = "\n".join(
        [
            "OSS4-HMAC-SHA256",
            headers.get("x-oss-date", ""),
            "/".join(scope),
            hashlib.sha256(request.encode()).hexdigest(),
        ]
    )
    key = b"aliyun_v4" + _secret(user, secrets)
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return user, fields["Signature"], hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def _encoded(text: str) -> str:
    return quote(text, safe="~")


def _secret(user: str, secrets: Mapping[str, str]) -> bytes:
    if user not in secrets:
        raise BadSignature("InvalidAccessKeyId")
    return secrets[user].encode()
