"""A moto server that checks signatures and policies. Needs `moto[s3]`, `flask` and `flask-cors`.

Without its switch moto takes any secret; with it, it knows only the users that were made before.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from aiflow_core.testing.stores.process import free_port, serving

BUCKET = "aiflow"

_POLICIES = {
    "writer": ["s3:*"],
    "reader": ["s3:GetObject", "s3:ListBucket"],
}
_REQUESTS_BEFORE_CHECKING = 3 * len(_POLICIES)


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A server with a bucket, and users who may write and who may only read.

    Attributes:
        writer, reader: `access_key_id` and `secret_access_key` of each.
    """

    endpoint_url: str
    writer: dict[str, str]
    reader: dict[str, str]

    def settings(self, **others: Any) -> dict[str, Any]:
        """Settings of a blob manager that may write."""
        return {
            "bucket_name": BUCKET,
            "endpoint_url": self.endpoint_url,
            "region_name": "us-east-1",
            "addressing_style": "path",
            **self.writer,
            **others,
        }


@contextlib.contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """A server that keeps what it must in `directory`."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    env = {"INITIAL_NO_AUTH_ACTION_COUNT": str(_REQUESTS_BEFORE_CHECKING), "TMPDIR": str(directory)}
    with serving(command, port, directory / "moto.log", env):
        url = f"http://127.0.0.1:{port}"
        users = {name: _user(url, name, actions) for name, actions in _POLICIES.items()}
        server = S3Server(endpoint_url=url, **users)
        _client("s3", url, server.writer).create_bucket(Bucket=BUCKET)
        yield server


def _user(url: str, name: str, actions: list[str]) -> dict[str, str]:
    iam = _client("iam", url, {"access_key_id": "anybody", "secret_access_key": "anything"})
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
    return {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}


def _client(service: str, url: str, user: dict[str, str]) -> Any:
    return boto3.session.Session().client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        **{f"aws_{name}": value for name, value in user.items()},
    )
