"""How fast files go to and from each store, beside the SDK's own call in the same run, medians.

    python bench/blobs.py [--mib 64] [--files 50] [--repeats 3] [STORE ...]

The stores are servers on this machine: moto, an OSS server and a WebHDFS server of our own, an SFTP
server. They and the disk are the limit, not a network; what counts is the last column. A local copy
is not durable when `shutil.copyfile` returns, an upload is.
"""

import argparse
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
from aiflow_core.testing.stores.s3 import BUCKET, s3_server
from aiflow_core.testing.stores.sftp import sftp_server
from aiflow_core.testing.stores.webhdfs import SUPERUSER, webhdfs_server

MIB = 2**20
SMALL = 16 * 1024


@dataclass(frozen=True)
class Store:
    """A store, as the blob manager of that name sees it, and as its SDK does.

    Attributes:
        put: of the SDK; takes a local file and a name.
        get: of the SDK; takes a name and the local file.
    """

    name: str
    settings: dict[str, Any]
    put: Callable[[Path, str], Any]
    get: Callable[[str, Path], Any]


@contextmanager
def local(place: Path) -> Iterator[Store]:
    bare = place / "bare"
    bare.mkdir()
    yield Store(
        "local",
        {"root_directory": str(place / "blob")},
        lambda file, name: shutil.copyfile(file, bare / name),
        lambda name, file: shutil.copyfile(bare / name, file),
    )


@contextmanager
def s3(place: Path) -> Iterator[Store]:
    with s3_server(place) as server:
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            region_name="us-east-1",
            **{f"aws_{name}": value for name, value in server.writer.items()},
        )
        yield Store(
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


STORES = {"local": local, "s3": s3, "oss": oss, "hdfs": by_webhdfs, "fsspec": by_sftp}


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
    store: Store, blobs: BlobManager, place: Path, count: int, size: int, repeats: int
) -> None:
    times: dict[str, list[float]] = {"put": [], "sdk put": [], "get": [], "sdk get": []}
    for n in range(repeats):
        files = written(place / f"{size}-{n}", count, size, n)
        back = place / f"back-{size}-{n}"
        back.mkdir()
        uris: list[str] = []
        names = [f"{n}-{file.name}" for file in files]

        def put(files: list[Path] = files, uris: list[str] = uris) -> None:
            uris.extend(map(blobs.upload, files))

        def sdk_put(files: list[Path] = files, names: list[str] = names) -> None:
            for file, name in zip(files, names, strict=True):
                store.put(file, name)

        def get(uris: list[str] = uris, back: Path = back) -> None:
            for uri in uris:
                blobs.download(uri, back)

        def sdk_get(names: list[str] = names, back: Path = back) -> None:
            for name in names:
                store.get(name, back / name)

        # In turn, and each first as often as the other: what changes on the machine changes both.
        turn = 1 if n % 2 else -1
        for pair in (
            [("put", put), ("sdk put", sdk_put)],
            [("get", get), ("sdk get", sdk_get)],
        ):
            for name, call in pair[::turn]:
                times[name].append(seconds(call))
    what = f"{count} of {size // 1024} KiB" if count > 1 else f"{size // MIB} MiB"
    for way, said in (("put", "upload"), ("get", "download")):
        ours = statistics.median(times[way])
        theirs = statistics.median(times[f"sdk {way}"])
        total = count * size / MIB
        print(
            f"{store.name:7} {said:9} {what:16} {total / ours:8.1f} MiB/s {count / ours:8.1f} /s   "
            f"SDK {total / theirs:8.1f} MiB/s {count / theirs:8.1f} /s   {theirs / ours:5.0%}"
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
            compare(store, blobs, place / "large", 1, given.mib * MIB, given.repeats)
            compare(store, blobs, place / "small", given.files, SMALL, given.repeats)


if __name__ == "__main__":
    main()
