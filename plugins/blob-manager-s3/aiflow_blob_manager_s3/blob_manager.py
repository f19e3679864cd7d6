"""A blob manager whose store is S3, or speaks its protocol."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import boto3
import botocore.exceptions as failures
from botocore.config import Config

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
    *("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "InvalidToken"),
    *("ExpiredToken", "ExpiredTokenException", "AuthFailure", "RequestTimeTooSkewed"),
    *("AuthorizationHeaderMalformed", "UnrecognizedClientException"),
}
_DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "MethodNotAllowed", "403"}
_BUSY = {
    *("SlowDown", "RequestTimeout", "RequestTimeTooLong", "Throttling", "ThrottlingException"),
    *("ServiceUnavailable", "InternalError", "OperationAborted", "BadDigest", "429"),
}


class S3BlobManager(PartsBlobManager):
    """A uri is `s3://<bucket>/<root directory>/<key>`.

    Args:
        bucket_name: the bucket; it must exist.
        root_directory: what the names of all objects begin with; nothing unless given.
        region_name: region of the bucket.
        endpoint_url: where the store answers, when that is not Amazon's.
        access_key_id, secret_access_key, session_token: the credentials. Without them the SDK looks
            where it always does: environment, shared files, the role of the machine.
        profile_name: the profile in the SDK's shared files.
        addressing_style: `path`, `virtual` or `auto`: where in the address the bucket stands.
        use_ssl, verify, service_name, api_version: as `boto3.client` takes them.
        config: further arguments of `botocore.config.Config`.
        connections: how many parts of a large file are under way at once.
        attempts, local_repository: as of every blob manager.
    """

    def __init__(
        self,
        bucket_name: str,
        root_directory: str = "",
        region_name: str | None = None,
        endpoint_url: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        session_token: str | None = None,
        profile_name: str | None = None,
        addressing_style: str = "auto",
        use_ssl: bool = True,
        verify: bool | str | None = None,
        service_name: str = "s3",
        api_version: str | None = None,
        config: dict[str, Any] | None = None,
        connections: int = 4,
        attempts: int = 5,
        local_repository: str | None = None,
    ) -> None:
        root = "/".join(filter(None, [bucket_name, root_directory.strip("/")]))
        super().__init__(f"s3://{root}", attempts=attempts, local_repository=local_repository)
        self.connections = connections
        self._bucket = bucket_name
        given = dict(config or {})
        styles = {"addressing_style": addressing_style, **given.pop("s3", {})}
        # This manager itself tries again, and knows where to go on.
        given = {"retries": {"total_max_attempts": 1}, "max_pool_connections": 16, **given}
        try:
            self._client = boto3.session.Session(profile_name=profile_name).client(
                service_name,
                region_name=region_name,
                api_version=api_version,
                use_ssl=use_ssl,
                verify=verify,
                endpoint_url=endpoint_url,
                aws_access_key_id=access_key_id,
                aws_secret_access_key=secret_access_key,
                aws_session_token=session_token,
                config=Config(s3=styles, **given),
            )
        except (failures.BotoCoreError, ValueError, TypeError) as error:
            raise ConfigError(
                f"The blob manager 's3' cannot be made of its settings: {error}.",
                next_step="Correct blob_manager_config.",
            ) from error

    # --- hooks of every blob manager -------------------------------------------------------------

    def _read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        answer = self._client.get_object(**self._at(key), Range=f"bytes={start}-{stop - 1}")
        with closing(answer["Body"]) as body:
            yield from body.iter_chunks(CHUNK)

    def _stat(self, key: str) -> Blob | None:
        try:
            found = self._client.head_object(**self._at(key))
        except failures.ClientError as error:
            if _code(error) not in ("403", "404"):
                raise
            # The answer to HEAD has no body to say what is missing or why; that to another has.
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._name(key), MaxKeys=1)
            if _code(error) == "403":
                raise
            return None
        modified_ms = round(found["LastModified"].timestamp() * 1000)
        return self._blob(key, found["ContentLength"], modified_ms)

    def _list(self, prefix: str, after: str) -> Iterator[Blob]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket,
            Prefix=self._name(prefix),
            **({"StartAfter": self._name(after)} if after else {}),
        )
        for page in pages:
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self._name(""))
                modified_ms = round(found["LastModified"].timestamp() * 1000)
                yield self._blob(key, found["Size"], modified_ms)

    def _delete(self, key: str) -> None:
        self._client.delete_object(**self._at(key))

    def _explain(self, error: Exception) -> AIFlowError | None:
        match error:
            case failures.ClientError():
                return self._explain_answer(_code(error), error)
            case failures.NoCredentialsError() | failures.PartialCredentialsError():
                return CredentialsError(
                    self._root,
                    str(error).rstrip("."),
                    next_step="Set access_key_id and secret_access_key, or what the SDK looks at.",
                )
            case failures.BotoCoreError() | OSError():
                return UnavailableError(
                    f"{self._root} does not answer: {str(error).rstrip('.')}.",
                    next_step="Check endpoint_url, region_name and the network.",
                )
        return None

    # --- hooks of those that take parts ----------------------------------------------------------

    def _put_whole(self, key: str, content: bytes) -> None:
        self._client.put_object(**self._at(key), Body=content)

    def _unfinished(self, key: str) -> str:
        answer = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._name(key))
        ids = [u["UploadId"] for u in answer.get("Uploads", ()) if u["Key"] == self._name(key)]
        return ids[0] if ids else ""

    def _begin(self, key: str) -> str:
        upload: str = self._client.create_multipart_upload(**self._at(key))["UploadId"]
        return upload

    def _parts(self, key: str, upload: str) -> Mapping[int, Part]:
        pages = self._client.get_paginator("list_parts").paginate(**self._at(key), UploadId=upload)
        return {
            part["PartNumber"]: Part(part["ETag"], part["Size"])
            for page in pages
            for part in page.get("Parts", ())
        }

    def _put_part(self, key: str, upload: str, number: int, content: bytes) -> str:
        tag: str = self._client.upload_part(
            **self._at(key), UploadId=upload, PartNumber=number, Body=content
        )["ETag"]
        return tag

    def _finish(self, key: str, upload: str, tags: Mapping[int, str]) -> None:
        parts = [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]
        self._client.complete_multipart_upload(
            **self._at(key), UploadId=upload, MultipartUpload={"Parts": parts}
        )

    def _abort(self, key: str, upload: str) -> None:
        self._client.abort_multipart_upload(**self._at(key), UploadId=upload)

    # ---------------------------------------------------------------------------------------------

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._name(key)}

    def _name(self, key: str) -> str:
        """The name of the object in the bucket."""
        return self._uri(key).removeprefix(f"s3://{self._bucket}/")

    def _explain_answer(self, code: str, error: failures.ClientError) -> AIFlowError:
        said = str(error.response.get("Error", {}).get("Message") or code).rstrip(".")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket":
            return NotFoundError(
                "bucket", self._bucket, next_step="Make it, or correct bucket_name."
            )
        if code == "NoSuchUpload" or code == "InvalidPart":
            return self._ended()
        if code in ("NoSuchKey", "404"):
            return NotFoundError("blob", self._root, next_step="It was deleted meanwhile.")
        if code in _WRONG_CREDENTIALS:
            return CredentialsError(
                self._root,
                code,
                next_step="Check access_key_id and secret_access_key, or what the SDK looks at.",
            )
        if code in _DENIED:
            return PermissionDeniedError(
                self._root,
                f"{error.operation_name}, {code}",
                next_step="Grant the user s3:GetObject, s3:PutObject, s3:DeleteObject and "
                "s3:ListBucket, and for large files s3:ListBucketMultipartUploads, "
                "s3:ListMultipartUploadParts and s3:AbortMultipartUpload.",
            )
        if code in _BUSY or status >= 500:
            return UnavailableError(
                f"{self._root} does not answer: {said}.", next_step="Try again later."
            )
        return AIFlowError(
            f"{self._root} refuses {error.operation_name}: {said} ({code}).",
            next_step="Check the settings of the blob manager.",
        )


def _code(error: failures.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
