"""The examples of the page on the plugins of 0.3 keep the contracts, and are chosen by the settings
that the page shows."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from aiflow_core.app import App
from aiflow_core.specs.job import JobController
from aiflow_core.specs.operator import Operator
from aiflow_core.testing.blob_manager import BlobManagerContract, Make
from aiflow_core.testing.job import JobControllerContract
from aiflow_core.testing.operator import context_of
from aiflow_core.testing.scheduler import SchedulerContract, burier

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "from-0.3-plugins.md").read_text()


def example(title: str) -> ModuleType:
    (source,) = re.findall(rf'```python title="{title}"\n(.*?)```', PAGE, re.DOTALL)
    module = ModuleType(f"example_{title.replace('-', '_')}")
    exec(source, module.__dict__)
    return module


SCHEDULER, JOB, BLOBS = (example(title) for title in ("scheduler", "job", "blob-manager"))


class TestDagScheduler(SchedulerContract):
    @pytest.fixture
    def scheduler(self, tmp_path: Path) -> Any:
        return SCHEDULER.DagScheduler(deploy_path=str(tmp_path / "dags"))

    @pytest.fixture
    def bury(self, scheduler: Any) -> Callable[[], int]:
        return burier(scheduler)

    def test_a_workflow_is_deployed_as_a_file_until_it_is_deleted(
        self, scheduler: Any, flow: Any, tmp_path: Path
    ) -> None:
        file = tmp_path / "dags" / "default.flow.dag"
        assert file.read_text().splitlines()[:2] == [
            "dag flow",
            "task first: bash {'bash_command': 'sleep 60'}",
        ]

        scheduler.delete_workflow("flow")

        assert not file.exists()


class TestSpoolController(JobControllerContract):
    @pytest.fixture(autouse=True)
    def _spool(self, tmp_path: Path) -> None:
        self.spool = tmp_path / "spool"

    def make(self) -> JobController[str]:
        controller: JobController[str] = JOB.SpoolController(str(self.spool))
        return controller

    def job(self, kind: str) -> str:
        return kind

    def begun(self, key: str) -> int:
        return len(list(self.spool.glob(f"{key}*")))

    def is_running(self, handle: str) -> bool:
        return not (self.spool / handle / "status").exists()

    def await_end(self, controller: JobController[Any], handle: str) -> Any:
        """Whoever empties the spool."""
        status, job = self.spool / handle / "status", self.spool / handle / "command"
        if not status.exists():
            ends = {"succeeds": "SUCCESS", "fails": "FAILED out of luck"}
            (self.spool / handle / "output").write_text("done")
            status.write_text(ends[job.read_text()])
        return super().await_end(controller, handle)

    def test_the_operator_begins_its_command(self) -> None:
        from aiflow_core import Workflow

        with Workflow("flow"):
            operator: Operator = JOB.SpoolOperator("task", "make", spool=str(self.spool))
        operator.start(context_of(operator))

        assert [file.read_text() for file in self.spool.glob("aiflow-*/command")] == ["make"]


class TestMountedBlobManager(BlobManagerContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda root: BLOBS.MountedBlobManager(root_directory=str(tmp_path / "mnt" / root))


def test_the_blob_manager_is_chosen_by_the_settings_of_the_page_from_the_drop_in_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("AIFLOW_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    (source,) = re.findall(r'```python title="blob-manager"\n(.*?)```', PAGE, re.DOTALL)
    (settings,) = re.findall(r"```yaml\n(blob:.*?)```", PAGE, re.DOTALL)
    place = tmp_path / "ai_flow_plugins" / "blob_manager_plugins" / "mounted.py"
    place.parent.mkdir(parents=True)
    place.write_text(source)
    (tmp_path / "project.yaml").write_text(settings.replace("/mnt/shared", str(tmp_path)))
    (tmp_path / "file").write_text("content")

    blobs = App.configured().blob_manager()

    assert type(blobs).__name__ == "MountedBlobManager"
    assert blobs.download(blobs.upload(tmp_path / "file"), tmp_path / "d").read_text() == "content"


def test_the_settings_of_the_scheduler_are_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings,) = re.findall(r"```yaml\n(scheduler:.*?)```", PAGE, re.DOTALL)
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("AIFLOW_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project.yaml").write_text(settings)

    driver = App.configured().drivers()["scheduler"]

    written = yaml.safe_load(settings)["scheduler"]
    assert driver.type == written["scheduler_class_name"]
    assert driver.config == written["scheduler_config"]


@pytest.mark.parametrize(
    "name",
    [
        *("submit_workflow", "delete_workflow", "pause_workflow_scheduling"),
        *("resume_workflow_scheduling", "start_new_workflow_execution"),
        *("stop_all_workflow_execution", "stop_workflow_execution", "get_workflow_execution"),
        *("list_workflow_executions", "start_job_execution", "stop_job_execution"),
        *("restart_job_execution", "get_job_executions", "list_job_executions"),
        *("job_type", "get_job_generator", "get_job_controller", "generate", "submit_job"),
        *("stop_job", "cleanup_job", "get_result", "get_job_status"),
        *("upload_project", "download_project", "cleanup_project"),
        *("register_job_plugin_factory", "JobHandle", "JobRuntimeEnv"),
    ],
)
def test_every_method_of_the_old_interfaces_has_its_line(name: str) -> None:
    assert re.search(rf"^\| [^|]*`(?:\w+\.)?{name}\b", PAGE, re.MULTILINE)
