"""How fast files go to and from each store, beside the SDK's own call in the same run, medians.

    python bench/blobs.py [--mib 64] [--files 50] [--repeats 3] [STORE ...]

The stores are servers on this machine: moto, Swift, an OSS server and a WebHDFS server of our own,
an SFTP server. They and the disk are the limit, not a network; what counts are the last two
columns: how fast we are beside the SDK's call alone, and beside that call with what a blob manager
promises: the SHA-256 of the content, and of a local copy that it is on the disk.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import fsspec
import hdfs
import oss2

from aiflow_core.plugins import make
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.testing.stores.oss import SECRETS, oss_server
from aiflow_core.testing.stores.s3 import BUCKET, S3Server, s3_server
from aiflow_core.testing.stores.sftp import sftp_server
from aiflow_core.testing.stores.swift import swift_server
from aiflow_core.testing.stores.webhdfs import SUPERUSER, webhdfs_server

MIB = 2**20
SMALL = 16 * 1024


@dataclass(frozen=True)
class Store:
    """A store, as the blob manager of that name sees it, and as its SDK does.

    Attributes:
        put: of the SDK; takes a local file and a name.
        get: of the SDK; takes a name and the local file.
        sync: makes what was put under the name durable, where the SDK does not.
    """

    name: str
    settings: dict[str, Any]
    put: Callable[[Path, str], Any]
    get: Callable[[str, Path], Any]
    sync: Callable[[str], Any] = str


@contextmanager
def local(place: Path) -> Iterator[Store]:
    bare = place / "bare"
    bare.mkdir()
    yield Store(
        "local",
        {"root_directory": str(place / "blob")},
        lambda file, name: shutil.copyfile(file, bare / name),
        lambda name, file: shutil.copyfile(bare / name, file),
        sync=lambda name: (sync(bare / name), sync(bare)),
    )


@contextmanager
def s3(place: Path) -> Iterator[Store]:
    with s3_server(place) as server:
        yield by_s3(server)


@contextmanager
def swift(place: Path) -> Iterator[Store]:
    with swift_server(place) as server:
        yield by_s3(server)


def by_s3(server: S3Server) -> Store:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        **{f"aws_{name}": value for name, value in server.writer.items()},
    )
    return Store(
        "s3",
        server.settings(),
        lambda file, name: client.upload_file(str(file), BUCKET, name),
        lambda name, file: client.download_file(BUCKET, name, str(file)),
    )


@contextmanager
def oss(place: Path) -> Iterator[Store]:
    with oss_server(place) as server:
        settings = server.settings()
        auth = oss2.make_auth("writer", SECRETS["writer"], oss2.AUTH_VERSION_4)
        bucket = oss2.Bucket(
            auth, settings["endpoint"], settings["bucket"], region="cn-hangzhou", is_path_style=True
        )
        checkpoints = oss2.ResumableStore(root=str(place / "checkpoints"))
        loads = oss2.ResumableDownloadStore(root=str(place / "checkpoints"))
        yield Store(
            "oss",
            settings,
            lambda file, name: oss2.resumable_upload(
                bucket, name, str(file), store=checkpoints, part_size=8 * MIB, num_threads=4
            ),
            lambda name, file: oss2.resumable_download(
                bucket, name, str(file), store=loads, part_size=16 * MIB, num_threads=4
            ),
        )


@contextmanager
def by_webhdfs(place: Path) -> Iterator[Store]:
    with webhdfs_server(place) as url:
        client = hdfs.InsecureClient(url, SUPERUSER)
        client.makedirs("/bare")
        yield Store(
            "hdfs",
            {"hdfs_url": url, "hdfs_user": SUPERUSER, "root_directory": "/blob"},
            lambda file, name: client.upload(f"/bare/{name}", str(file), overwrite=True),
            lambda name, file: client.download(f"/bare/{name}", str(file), overwrite=True),
        )


@contextmanager
def by_sftp(place: Path) -> Iterator[Store]:
    with sftp_server(place) as server:
        files = fsspec.filesystem("sftp", **server.settings(), skip_instance_cache=True)
        yield Store(
            "fsspec",
            {
                "protocol": "sftp",
                "root_directory": "/blob",
                "storage_options": server.settings(),
            },
            lambda file, name: files.put_file(str(file), f"/{name}"),
            lambda name, file: files.get_file(f"/{name}", str(file)),
        )


STORES = {
    "local": local,
    "s3": s3,
    "swift": swift,
    "oss": oss,
    "hdfs": by_webhdfs,
    "fsspec": by_sftp,
}


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def written(place: Path, count: int, size: int, seed: int) -> list[Path]:
    """Files of which no two are alike."""
    place.mkdir(parents=True)
    files = []
    for n in range(count):
        with (place / f"{n}.bin").open("wb") as file:
            file.write(f"{seed} {n} ".encode())
            file.truncate(size)
        files.append(place / f"{n}.bin")
    return files


def compare(
    label: str,
    store: Store,
    blobs: BlobManager,
    place: Path,
    count: int,
    size: int,
    repeats: int,
) -> None:
    times: dict[str, list[float]] = {}
    for n in range(repeats):
        files = written(place / "files", count, size, n)
        back = place / "back"
        back.mkdir()
        uris: list[str] = []

        def put(files: list[Path] = files, uris: list[str] = uris) -> None:
            uris.extend(map(blobs.upload, files))

        def get(uris: list[str] = uris, back: Path = back) -> None:
            for uri in uris:
                blobs.download(uri, back)

        def sdk_put(files: list[Path] = files) -> None:
            for file in files:
                store.put(file, file.name)

        def sdk_get(files: list[Path] = files, back: Path = back) -> None:
            for file in files:
                store.get(file.name, back / file.name)

        def equal_put(files: list[Path] = files) -> None:
            for file in files:
                digest(file)
                store.put(file, f"equal-{file.name}")
                store.sync(f"equal-{file.name}")

        def equal_get(files: list[Path] = files, back: Path = back) -> None:
            for file in files:
                store.get(f"equal-{file.name}", back / file.name)
                digest(back / file.name)

        # In turn, and each first as often as the other: what changes on the machine changes all.
        for way, ours, sdk, equal in (
            ("upload", put, sdk_put, equal_put),
            ("download", get, sdk_get, equal_get),
        ):
            calls = [("", ours), ("sdk ", sdk), ("equal ", equal)]
            for name, call in calls[n % 3 :] + calls[: n % 3]:
                times.setdefault(name + way, []).append(seconds(call))
        for uri in uris:
            blobs.delete(uri)
        shutil.rmtree(place)
    what = f"{count} of {size // 1024} KiB" if count > 1 else f"{size // MIB} MiB"
    for way in ("upload", "download"):
        median = {name: statistics.median(times[name + way]) for name in ("", "sdk ", "equal ")}
        speeds = "   ".join(
            f"{said} {count * size / MIB / median[name]:7.1f} MiB/s {count / median[name]:7.1f} /s"
            for name, said in (("", "ours"), ("sdk ", "SDK"))
        )
        print(
            f"{label:7} {way:9} {what:16} {speeds}   {median['sdk '] / median['']:5.0%} "
            f"{median['equal '] / median['']:5.0%}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", nargs="*", default=list(STORES), help=", ".join(STORES))
    parser.add_argument("--mib", type=int, default=64, help="size of the large file")
    parser.add_argument("--files", type=int, default=50, help="how many small files")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    for name in given.stores:
        with ExitStack() as stack:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            store = stack.enter_context(STORES[name](place))
            blobs: BlobManager = make("aiflow.blob_manager", store.name, store.settings)
            compare(name, store, blobs, place / "large", 1, given.mib * MIB, given.repeats)
            compare(name, store, blobs, place / "small", given.files, SMALL, given.repeats)


if __name__ == "__main__":
    main()
