"""A blob manager whose store is Alibaba Cloud OSS."""

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import oss2
import oss2.exceptions as failures
from oss2.credentials import EnvironmentVariableCredentialsProvider

from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    CredentialsError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from aiflow_core.specs.blob_manager import Blob
from aiflow_core.specs.blob_parts import Part, PartsBlobManager
from aiflow_core.specs.blob_transfer import CHUNK

_WRONG_CREDENTIALS = {
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurityToken"),
    *("SecurityTokenExpired", "RequestTimeTooSkewed"),
}
_ENVIRONMENT = "OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"


class OssBlobManager(PartsBlobManager):
    """A uri is `oss://<bucket>/<root directory>/<key>`.

    Args:
        bucket: its name; it must exist.
        endpoint: where the service answers, as `oss-cn-hangzhou.aliyuncs.com`, or a name of one's
            own for it when `addressing_style` is `cname`.
        root_directory: what the names of all objects begin with; nothing unless given.
        access_key_id, access_key_secret, security_token: the credentials. Without them
            `OSS_ACCESS_KEY_ID`, `OSS_ACCESS_KEY_SECRET` and `OSS_SESSION_TOKEN` of the environment.
        region: as `cn-hangzhou`. With it requests are signed with version 4, else with version 1.
        addressing_style: `virtual`, `path` or `cname`: where in the address the bucket stands.
        timeout: seconds after which a connection, or a silence in it, is given up.
        connections: how many parts of a large file are under way at once.
        attempts, local_repository: as of every blob manager.
    """

    def __init__(
        self,
        bucket: str,
        endpoint: str,
        root_directory: str = "",
        access_key_id: str | None = None,
        access_key_secret: str | None = None,
        security_token: str | None = None,
        region: str | None = None,
        addressing_style: str = "virtual",
        timeout: float = 60,
        connections: int = 4,
        attempts: int = 5,
        local_repository: str | None = None,
    ) -> None:
        root = "/".join(filter(None, [bucket, root_directory.strip("/")]))
        super().__init__(f"oss://{root}", attempts=attempts, local_repository=local_repository)
        if addressing_style not in ("virtual", "path", "cname"):
            raise self._wrong(f"addressing_style is not {addressing_style!r}")
        self.connections = connections
        try:
            self._bucket = oss2.Bucket(
                _auth(access_key_id, access_key_secret, security_token, region),
                endpoint,
                bucket,
                region=region,
                is_path_style=addressing_style == "path",
                is_cname=addressing_style == "cname",
                connect_timeout=timeout,
                enable_crc=False,  # contents are compared by stronger sums
            )
        except (failures.ClientError, ValueError) as error:
            raise self._wrong(_said(error)) from error

    # --- hooks of every blob manager -------------------------------------------------------------

    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        # `standard`: a range that is not there is an error, not the whole object.
        answer = self._bucket.get_object(
            self._name(key),
            byte_range=(start, stop - 1),
            headers={"x-oss-range-behavior": "standard"},
        )
        with closing(answer):
            while chunk := answer.read(CHUNK):
                yield chunk

    def _stat(self, key: str) -> Blob | None:
        try:
            found = self._bucket.head_object(self._name(key))
        except failures.NoSuchKey:
            return None
        return self._blob(key, found.content_length, found.last_modified * 1000)

    def _list(self, prefix: str, after: str) -> Iterator[Blob]:
        token = ""
        while True:
            page = self._bucket.list_objects_v2(
                prefix=self._name(prefix),
                start_after=self._name(after) if after else "",
                continuation_token=token,
                max_keys=1000,
            )
            for found in page.object_list:
                key = found.key.removeprefix(self._name(""))
                yield self._blob(key, found.size, found.last_modified * 1000)
            if not page.is_truncated:
                return
            token = page.next_continuation_token

    def _delete(self, key: str) -> None:
        self._bucket.delete_object(self._name(key))

    def _explain(self, error: Exception) -> AIFlowError | None:
        match error:
            case failures.RequestError() | OSError():
                return UnavailableError(
                    f"{self._root} does not answer: {_said(error)}.",
                    next_step="Check endpoint, region and the network.",
                )
            case failures.ServerError():
                return self._explain_answer(error)
            case failures.ClientError() if "key id" in _said(error) or "access key" in _said(error):
                return CredentialsError(
                    self._root,
                    "there are none",
                    next_step=f"Set access_key_id and access_key_secret, or {_ENVIRONMENT}.",
                )
            case failures.OssError():
                return AIFlowError(
                    f"{self._root} cannot be used: {_said(error)}.",
                    next_step="Check the settings of the blob manager.",
                )
        return None

    # --- hooks of those that take parts ----------------------------------------------------------

    def _put_whole(self, key: str, content: bytes) -> None:
        self._bucket.put_object(self._name(key), content, headers=_sum(content))

    def _unfinished(self, key: str) -> str:
        name = self._name(key)
        found = self._bucket.list_multipart_uploads(prefix=name)
        return next((u.upload_id for u in found.upload_list if u.key == name), "")

    def _begin(self, key: str) -> str:
        upload: str = self._bucket.init_multipart_upload(self._name(key)).upload_id
        return upload

    def _parts(self, key: str, upload: str) -> Mapping[int, Part]:
        return {
            part.part_number: Part(part.etag, part.size)
            for part in oss2.PartIterator(self._bucket, self._name(key), upload)
        }

    def _put_part(self, key: str, upload: str, number: int, content: bytes) -> str:
        tag: str = self._bucket.upload_part(
            self._name(key), upload, number, content, headers=_sum(content)
        ).etag
        return tag

    def _finish(self, key: str, upload: str, tags: Mapping[int, str]) -> None:
        parts = [oss2.models.PartInfo(number, tags[number]) for number in sorted(tags)]
        self._bucket.complete_multipart_upload(self._name(key), upload, parts)

    def _abort(self, key: str, upload: str) -> None:
        self._bucket.abort_multipart_upload(self._name(key), upload)

    # ---------------------------------------------------------------------------------------------

    def _name(self, key: str) -> str:
        """The name of the object in the bucket."""
        return self._uri(key).removeprefix(f"oss://{self._bucket.bucket_name}/")

    def _explain_answer(self, error: failures.ServerError) -> AIFlowError:
        match error.code:
            case "NoSuchBucket":
                return NotFoundError(
                    "bucket",
                    self._bucket.bucket_name,
                    next_step="Make it, or correct bucket and endpoint.",
                )
            case "NoSuchUpload" | "InvalidPart":
                return self._ended()
            case "NoSuchKey":
                return NotFoundError("blob", self._root, next_step="It was deleted meanwhile.")
            case code if code in _WRONG_CREDENTIALS:
                return CredentialsError(
                    self._root,
                    code,
                    next_step=f"Check access_key_id and access_key_secret, or {_ENVIRONMENT}.",
                )
        if error.status == 403:
            return PermissionDeniedError(
                self._root,
                error.code or "AccessDenied",
                next_step="Grant the user oss:GetObject, oss:PutObject, oss:DeleteObject, "
                "oss:ListObjects, oss:ListMultipartUploads, oss:ListParts and "
                "oss:AbortMultipartUpload.",
            )
        if error.status >= 500 or error.status == 429 or error.code == "InvalidDigest":
            return UnavailableError(
                f"{self._root} does not answer: {error.code or error.status}.",
                next_step="Try again later.",
            )
        return AIFlowError(
            f"{self._root} refuses the request: {error.message or error.status} ({error.code}).",
            next_step="Check the settings of the blob manager.",
        )

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(
            f"The blob manager 'oss' cannot be made of its settings: {what}.",
            next_step="Correct blob_manager_config.",
        )


def _auth(key_id: str | None, secret: str | None, token: str | None, region: str | None) -> Any:
    version = oss2.AUTH_VERSION_4 if region else oss2.AUTH_VERSION_1
    if key_id and secret:
        if token:
            return oss2.StsAuth(key_id, secret, token, auth_version=version)
        return oss2.make_auth(key_id, secret, version)
    if key_id or secret:
        raise ValueError("access_key_id and access_key_secret belong together")
    provider = EnvironmentVariableCredentialsProvider()
    return oss2.ProviderAuthV4(provider) if region else oss2.ProviderAuth(provider)


def _sum(content: bytes) -> dict[str, str]:
    """The store refuses what did not arrive as it was sent."""
    digest = hashlib.md5(content, usedforsecurity=False).digest()
    return {"Content-MD5": base64.b64encode(digest).decode()}


def _said(error: Exception) -> str:
    """What happened, without the request."""
    body = getattr(error, "body", None)
    said = body if isinstance(body, str) else str(error)
    return said.removeprefix("RequestError: ").removeprefix("ClientError: ").rstrip(".")
