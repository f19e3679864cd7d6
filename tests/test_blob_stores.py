"""The quickstart on each store, by project.yaml alone; and what is not chosen is not imported."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aiflow_core.plugins import make
from aiflow_core.testing.stores.oss import oss_server
from aiflow_core.testing.stores.s3 import s3_server
from aiflow_core.testing.stores.sftp import sftp_server
from aiflow_core.testing.stores.webhdfs import SUPERUSER, webhdfs_server

from .blocks import codes

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart" / "workflow.py"
AIFLOW = Path(sys.executable).parent / "aiflow"
LIBRARIES = ["boto3", "botocore", "oss2", "hdfs", "fsspec", "paramiko"]


def local(stack: ExitStack, home: Path) -> dict[str, Any]:
    return {"root_directory": "${AIFLOW_HOME}/elsewhere"}


def s3(stack: ExitStack, home: Path) -> dict[str, Any]:
    return stack.enter_context(s3_server(home)).settings(root_directory="quickstart")


def oss(stack: ExitStack, home: Path) -> dict[str, Any]:
    return stack.enter_context(oss_server(home)).settings(root_directory="quickstart")


def hdfs(stack: ExitStack, home: Path) -> dict[str, Any]:
    url = stack.enter_context(webhdfs_server(home))
    return {"hdfs_url": url, "hdfs_user": SUPERUSER, "root_directory": "/quickstart"}


def by_fsspec(stack: ExitStack, home: Path) -> dict[str, Any]:
    server = stack.enter_context(sftp_server(home))
    return {
        "protocol": "sftp",
        "root_directory": "/quickstart",
        "storage_options": server.settings(),
    }


Store = Callable[[ExitStack, Path], dict[str, Any]]
STORES: dict[str, Store] = {"local": local, "s3": s3, "oss": oss, "hdfs": hdfs, "fsspec": by_fsspec}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("name", STORES)
def test_the_quickstart_runs_on_the_store_that_project_yaml_names(
    name: str, stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = STORES[name](stack, tmp_path)
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    project = {"blob": {"type": name, "config": settings}}
    (tmp_path / "project.yaml").write_text(json.dumps(project))

    done = subprocess.run(
        [str(AIFLOW), "run", str(QUICKSTART)],
        env=dict(os.environ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "I am the 4th task." in done.stdout
    settings = json.loads(json.dumps(settings).replace("${AIFLOW_HOME}", str(tmp_path)))
    (blob,) = make("aiflow.blob_manager", name, settings).list_blobs()
    assert blob.key.endswith(".zip"), "the bundle went to the store that was chosen"
    assert not (tmp_path / "blob").exists(), "and not to the default one"


def test_bash_and_local_need_no_library_of_another_store(tmp_path: Path) -> None:
    code = f"""
import sys
from aiflow_core.plugins import driver_class, make
driver_class("aiflow.operator", "bash")
blobs = make("aiflow.blob_manager", "local", {{"root_directory": {str(tmp_path)!r}}})
blobs.upload(__file__)
print([name for name in {LIBRARIES} if name in sys.modules])
"""
    (tmp_path / "probe.py").write_text(code)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "probe.py")], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_the_code_of_the_how_to_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.bin").write_text("model")
    (tmp_path / "my_project").mkdir()
    (tmp_path / "my_project" / "workflow.py").touch()
    names: dict[str, Any] = {}
    for code in codes("how-to/blob-managers.md", "python"):
        exec(code, names)

    assert names["path"].read_text() == "model"
    assert (Path(names["directory"]) / "workflow.py").is_file()
    (left,) = names["blobs"].list_blobs()
    assert left.key.endswith(".bin"), "the project was cleaned up, the model was not"
    rack = names["RackBlobManager"]("top")
    uri = rack.upload(tmp_path / "model.bin")
    assert rack.download(uri, tmp_path / "back").read_text() == "model"
    assert [blob.uri for blob in rack.list_blobs()] == [uri]
