"""From settings to plugins that run together."""

import dataclasses
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aiflow_core.app import App
from aiflow_core.errors import PluginError, UnavailableError, UsageError
from aiflow_core.model.event import Event, EventFilter
from aiflow_core.model.workflow import TaskDefinition, WorkflowDefinition
from aiflow_core.plugins import make


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def project(home: Path, text: str) -> App:
    (home / "project.yaml").write_text(text)
    return App.configured()


def run_to_its_end(embedded: Any) -> str:
    """Submit a workflow of one task, and wait for the event that tells its end."""
    task = TaskDefinition(name="t", operator="bash", params={"bash_command": "echo $PWD"})
    embedded.scheduler.submit_workflow(WorkflowDefinition(name="wf", tasks=(task,)))
    with embedded.events.subscribe(0, EventFilter(keys=("workflow_status.wf",))) as subscription:
        embedded.scheduler.start_workflow_execution("wf")
        for events in subscription:
            for event in events:
                if event.value in ("SUCCESS", "FAILED", "STOPPED"):
                    return str(event.value)
    raise AssertionError


def said_by_another_process() -> str:
    """What an embedded deployment says there that is to begin in this home, too."""
    code = """
from contextlib import ExitStack
from aiflow_core.app import App
with ExitStack() as stack:
    App.configured().embedded(stack)
"""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stderr


class TestEmbedded:
    def test_runs_a_workflow_beside_the_servers_of_the_same_home(self, home: Path) -> None:
        with ExitStack() as stack:
            embedded = App.configured().embedded(stack)
            assert run_to_its_end(embedded) == "SUCCESS"

        assert not (home / "aiflow.db").exists()
        assert (home / "embedded" / "deployment.db").exists()

    def test_is_alone_in_its_home(self, home: Path) -> None:
        with ExitStack() as stack:
            embedded = App.configured().embedded(stack)
            assert embedded.deployment.home == home / "embedded"
            assert "Another `aiflow run` is at work" in said_by_another_process()

        with ExitStack() as stack:
            App.configured().embedded(stack)

    def test_is_reached_by_tasks_at_its_own_address(self, home: Path) -> None:
        with ExitStack() as stack:
            embedded = App.configured().embedded(stack)
            remote = make(
                "aiflow.event_store",
                "notification-server",
                {"server_uri": embedded.deployment.notification_uri},
            )
            stack.callback(remote.close)

            (stored,) = remote.append([Event(key="k", value="v")])

            assert stored in embedded.events.read(stored.offset - 1)


class TestServing:
    def test_does_not_depend_on_who_is_started_first(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A server answers while its notification server is away."""
        monkeypatch.setenv("AIFLOW__SERVER__RPC_PORT", "0")
        app = project(
            home,
            "event_store: {type: notification-server,"
            " config: {server_uri: '127.0.0.1:1', timeout: 0.2}}",
        )
        with app.tables() as tables:
            tables.initialize()

        with ExitStack() as stack:
            address = app.serve(stack)
            clients = msgspec.structs.replace(app.clients, server_address=address)
            with dataclasses.replace(app, clients=clients).client() as client:
                assert client.list_workflows() == []
                with pytest.raises(UnavailableError, match="notification server"):
                    client.start_workflow_execution("wf")

    def test_may_use_other_plugins(self, home: Path) -> None:
        app = project(
            home,
            "event_store: {type: sql, config: {uri: 'sqlite:///${AIFLOW_HOME}/events.db'}}\n"
            "blob: {type: local, config: {root_directory: '${AIFLOW_HOME}/elsewhere'}}\n",
        )
        with app.tables() as tables:
            tables.initialize()
        events = make("aiflow.event_store", "sql", {"uri": f"sqlite:///{home}/events.db"})
        events.initialize()
        events.close()
        (home / "file").write_text("x")
        assert Path(app.blob_manager().upload(home / "file")).is_relative_to(home / "elsewhere")

        with ExitStack() as stack:
            settings = msgspec.structs.replace(app.server, rpc_port=0)
            address = dataclasses.replace(app, server=settings).serve(stack)
            clients = msgspec.structs.replace(app.clients, server_address=address)
            with dataclasses.replace(app, clients=clients).client() as client:
                assert client.list_workflows() == []

    def test_names_a_plugin_that_is_not_there(self, home: Path) -> None:
        app = project(home, "scheduler: {type: evnt}")

        with pytest.raises(PluginError, match="Did you mean 'event'"):
            app.scheduler()

    def test_names_a_setting_that_a_plugin_does_not_have(self, home: Path) -> None:
        app = project(home, "scheduler: {type: event, config: {url: 'sqlite://'}}")

        with pytest.raises(PluginError, match=r"no setting 'url'.*Did you mean 'uri'"):
            app.scheduler()


def test_a_scheduler_without_tables_is_said_to_have_none(home: Path) -> None:
    app = project(home, "scheduler: {type: remote}")

    with pytest.raises(UsageError, match="keeps no tables"), app.tables():
        pytest.fail("there are tables")
