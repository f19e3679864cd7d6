"""A real object store that speaks S3: OpenStack Swift with its middleware `s3api`.

Needs `uv`, which fetches Swift (30 packages, 20 MB) into its cache the first time.
"""

import contextlib
import getpass
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3

from aiflow_core.testing.stores.process import free_port, serving
from aiflow_core.testing.stores.s3 import BUCKET, S3Server

VERSION = "2.38.3"
# Swift's way to say it: the secret, and then the groups.
_ACCOUNTS = {"writer": "secret-of-the-writer .admin", "reader": "secret-of-the-reader"}
# What is written must be listed when a request returns, however slow this machine is.
_LIMITS = "conn_timeout = 30\nnode_timeout = 60\ncontainer_update_timeout = 60"
_PIPELINE = (
    "catch_errors gatekeeper cache listing_formats bulk s3api tempauth slo dlo "
    "versioned_writes symlink"
)
# Authentication insists on a memcached, and keeps nothing in it for requests that are signed.
_CACHE = """
class KeepsNothing:
    def __getattr__(self, name):
        return lambda *args, **kwargs: None


def factory(global_conf, **conf):
    def put_before(app):
        def answer(env, start_response):
            env["swift.cache"] = KeepsNothing()
            return app(env, start_response)

        return answer

    return put_before
"""


@contextlib.contextmanager
def swift_server(directory: Path) -> Iterator[S3Server]:
    """One node, which keeps everything in `directory`; its file system must have extended
    attributes. `FileNotFoundError` when `uv` is missing."""
    (directory / "devices" / "disk").mkdir(parents=True)
    (directory / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = aiflow\n"
        "[storage-policy:0]\nname = only\ndefault = yes\n"
    )
    (directory / "keeps_nothing.py").write_text(_CACHE)
    with contextlib.ExitStack() as stack:
        for kind in ("account", "container", "object"):
            port = free_port()
            _make_ring(directory, kind, port)
            itself = f"[app:{kind}-server]\nuse = egg:swift#{kind}\n{_LIMITS}\n"
            stack.enter_context(_server(directory, kind, port, "", itself))
        port = free_port()
        stack.enter_context(_server(directory, "proxy", port, f"{_PIPELINE} ", _proxy()))
        url = f"http://127.0.0.1:{port}"
        users = {
            name: {"access_key_id": f"aiflow:{name}", "secret_access_key": said.split()[0]}
            for name, said in _ACCOUNTS.items()
        }
        server = S3Server(endpoint_url=url, **users)
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=url,
            region_name="us-east-1",
            **{f"aws_{name}": value for name, value in server.writer.items()},
        )
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_acl(Bucket=BUCKET, ACL="public-read")
        yield server


def _make_ring(directory: Path, kind: str, port: int) -> None:
    """Where things are kept: one copy of all, on this machine."""
    builder = str(directory / f"{kind}.builder")
    place = ["--region", "1", "--zone", "1", "--ip", "127.0.0.1", "--port", str(port)]
    for words in (
        ["create", "4", "1", "1"],
        ["add", *place, "--device", "disk", "--weight", "1"],
        ["rebalance"],
    ):
        command = [*_program("swift-ring-builder"), builder, *words]
        subprocess.run(command, check=True, capture_output=True)


def _server(
    directory: Path, kind: str, port: int, filters: str, rest: str
) -> contextlib.AbstractContextManager[None]:
    file = directory / f"{kind}-server.conf"
    file.write_text(
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\n"
        f"user = {getpass.getuser()}\nswift_dir = {directory}\n"
        f"devices = {directory / 'devices'}\nmount_check = false\nlog_udp_host = 127.0.0.1\n"
        f"[pipeline:main]\npipeline = {filters}{kind}-server\n{rest}"
    )
    return serving(
        [*_program(f"swift-{kind}-server"), str(file)],
        port,
        directory / f"{kind}.log",
        {"PYTHONPATH": str(directory)},
    )


def _proxy() -> str:
    """The sections of the proxy: its filters, and itself."""
    settings = {name: f"use = egg:swift#{name}" for name in _PIPELINE.split()}
    settings["cache"] = "paste.filter_factory = keeps_nothing:factory"
    for name, said in _ACCOUNTS.items():
        settings["tempauth"] += f"\nuser_aiflow_{name} = {said}"
    filters = "".join(f"[filter:{name}]\n{lines}\n" for name, lines in settings.items())
    itself = f"use = egg:swift#proxy\naccount_autocreate = true\n{_LIMITS}"
    return f"{filters}[app:proxy-server]\n{itself}\n"


def _program(name: str) -> list[str]:
    uv = shutil.which("uv")
    if uv is None:
        raise FileNotFoundError("Swift needs uv, which is not installed.")
    package = ["--from", f"swift=={VERSION}", "--with", "setuptools<81"]
    return [uv, "tool", "run", "--quiet", "--python", sys.executable, *package, name]
