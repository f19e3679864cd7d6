"""Each key of the manual changes what it says."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from aiflow_core import app as composition
from aiflow_core import config
from aiflow_core.app import App
from aiflow_core.config import ClientSettings, ServerSettings
from aiflow_core.database import open_engine
from aiflow_core.deployment import log_file
from aiflow_core.errors import ConflictError, PluginError
from aiflow_core.model.execution import AttemptKey
from aiflow_core.model.workflow import TaskDefinition, WorkflowDefinition
from aiflow_core.plugins import make

Serve = Callable[..., str]
LOG = "event_store: {type: sql, config: {uri: 'sqlite:///%s/events.db'}}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return at(tmp_path, monkeypatch)


def at(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a directory the home of what is configured next."""
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("AIFLOW_HOME", str(home))
    monkeypatch.chdir(home)
    return home


def configured(home: Path, **settings: Any) -> App:
    """The deployment whose server has these settings."""
    (home / "aiflow_server.yaml").write_text(msgspec.yaml.encode(settings).decode())
    return App.configured()


@pytest.fixture
def serve(home: Path) -> Iterator[Serve]:
    """Runs a server with these settings in this process, until the end of the test; its address.
    The log is in a file beside the metadata."""
    with ExitStack() as stack:

        def serve(home: Path = home, **settings: Any) -> str:
            (home / "project.yaml").write_text(LOG % home)
            app = configured(home, **{"rpc_port": 0, **settings})
            events = make("aiflow.event_store", "sql", {"uri": f"sqlite:///{home}/events.db"})
            with closing(events), app.tables() as tables:
                events.initialize()
                tables.initialize()
            return app.serve(stack)

        yield serve


def run_a_task(address: str, command: str = "echo hello") -> AttemptKey:
    """Run a task at a server to its end."""
    with make("aiflow.scheduler", "remote", {"server_address": address}) as scheduler:
        task = TaskDefinition(name="t", operator="bash", params={"bash_command": command})
        scheduler.submit_workflow(WorkflowDefinition("wf", tasks=(task,)))
        execution = scheduler.start_workflow_execution("wf")
        while not scheduler.get_workflow_execution(execution.id).end_date:
            threading.Event().wait(0.02)
        (found,) = scheduler.list_task_executions(execution.id)
    assert found.status == "SUCCESS", found.reason
    return found.attempt


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def asked_for(app: App, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, dict[str, Any]]]:
    """The plugins that a server is made of, by their kinds: name and settings of each."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}

    class Enough(Exception):
        pass

    def note(group: str, name: str, settings: dict[str, Any]) -> Any:
        found[group.removeprefix("aiflow.")] = name, settings
        if group == "aiflow.executor":
            raise Enough
        return make(group, name, settings)

    monkeypatch.setattr(composition, "make", note)
    with app.tables() as tables:
        tables.initialize()
    with ExitStack() as stack, pytest.raises(Enough):
        app.serve(stack)
    return found


# --- aiflow_server.yaml --------------------------------------------------------------------------


def test_log_dir_is_where_tasks_and_the_server_log(
    home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiflow_core.cli import aiflow
    from aiflow_core.daemon import Daemon

    key = run_a_task(serve(log_dir="${AIFLOW_HOME}/elsewhere"))
    started: list[Path] = []
    monkeypatch.setattr(Daemon, "start_detached", lambda _, argv, file: started.append(file) or 1)
    aiflow.main(["server", "start", "-d"], standalone_mode=False)

    assert "hello" in log_file(home / "elsewhere", "wf", key).read_text()
    assert [file.parent for file in started] == [home / "elsewhere"]
    assert not (home / "logs").exists()


def test_rpc_host_is_the_address_of_the_server(serve: Serve) -> None:
    address = serve(rpc_host="127.0.0.2")

    assert address.startswith("127.0.0.2:")
    run_a_task(address)


def test_rpc_port_is_its_port(serve: Serve) -> None:
    port = free_port()

    assert serve(rpc_port=port) == f"127.0.0.1:{port}"


def test_metadata_backend_uri_is_where_the_metadata_are(home: Path, serve: Serve) -> None:
    run_a_task(serve(metadata_backend_uri="sqlite:///${AIFLOW_HOME}/elsewhere.db"))

    engine = create_engine(f"sqlite:///{home}/elsewhere.db")
    with closing(engine.raw_connection()) as connection:
        ((count,),) = connection.execute("SELECT count(*) FROM task_execution").fetchall()
    engine.dispose()
    assert count == 1
    assert not (home / "aiflow.db").exists()


@pytest.mark.parametrize("enabled", [True, False])
def test_sql_alchemy_pool_enabled_keeps_connections_open(home: Path, enabled: bool) -> None:
    app = configured(home, sql_alchemy_pool_enabled=enabled)
    settings = app._scheduler().config

    engine = open_engine("postgresql://me@db/x", pool_enabled=settings["pool_enabled"])

    assert isinstance(engine.pool, NullPool) is not enabled


@pytest.mark.parametrize("size", [0, 7])
def test_sql_alchemy_pool_size_is_how_many(home: Path, size: int) -> None:
    uri = "postgresql://me@db/x"
    app = configured(home, sql_alchemy_pool_size=size, metadata_backend_uri=uri)

    with closing(app.scheduler()) as scheduler:  # type: ignore[type-var]
        assert scheduler._store.engine.pool.size() == size  # type: ignore[attr-defined]


@pytest.mark.parametrize("most", [-1, 3])
def test_sql_alchemy_max_overflow_is_how_many_more(home: Path, most: int) -> None:
    uri = "postgresql://me@db/x"
    app = configured(home, sql_alchemy_max_overflow=most, metadata_backend_uri=uri)

    with closing(app.scheduler()) as scheduler:  # type: ignore[type-var]
        pool = scheduler._store.engine.pool  # type: ignore[attr-defined]
        assert pool._max_overflow == most


def test_history_retention_is_how_long_executions_are_kept(home: Path, serve: Serve) -> None:
    address = serve(history_retention="1s")
    key = run_a_task(address)
    log = log_file(home / "logs", "wf", key)
    run = home / "run" / str(key.workflow_execution_id)
    assert log.exists()
    assert run.exists()

    with make("aiflow.scheduler", "remote", {"server_address": address}) as scheduler:
        while scheduler.list_workflow_executions("wf") or log.exists() or run.exists():
            threading.Event().wait(0.05)

        assert scheduler.get_workflow("wf").workflow_name == "wf"


def test_notification_server_uri_is_where_the_log_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        store = make("aiflow.event_store", "sql", {"uri": f"sqlite:///{tmp_path}/other.db"})
        stack.callback(store.close)
        store.initialize()
        address = make("aiflow.endpoint", "notification", {"port": 0}).start(stack, store, None)
        app = configured(home, rpc_port=0, notification_server_uri=address)
        with app.tables() as tables:
            tables.initialize()

        key = run_a_task(app.serve(stack), "echo at $AIFLOW_NOTIFICATION_URI")

        assert any(event.key == "task_status.wf.t" for event in store.read())
        assert f"at {address}" in log_file(home / "logs", "wf", key).read_text()


def test_enable_ha_lets_another_server_use_the_same_database(
    home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"metadata_backend_uri": f"sqlite:///{home}/shared.db"}
    other = at(home / "other", monkeypatch)
    serve(home=other, enable_ha=True, **shared)

    with pytest.raises(ConflictError, match="enable_ha"):
        serve(home=at(home / "alone", monkeypatch), **shared)
    assert serve(home=at(home / "third", monkeypatch), enable_ha=True, **shared)


def leases(home: Path) -> dict[str, float]:
    """For how many seconds each kind of lease is held."""
    engine = create_engine(f"sqlite:///{home}/aiflow.db")
    query = (
        "SELECT name, expires - CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) "
        "FROM lease"
    )
    with engine.connect() as connection:
        rows = connection.execute(text(query)).all()
    engine.dispose()
    return {name.partition("/")[0]: left / 1000 for name, left in rows}


def test_ha_ttl_ms_is_how_long_the_server_that_schedules_counts_as_alive(
    home: Path, serve: Serve
) -> None:
    serve(enable_ha=True, ha_ttl_ms=500_000, task_heartbeat_timeout=900)

    assert 400 < leases(home)["scheduler"] <= 500


def test_task_heartbeat_timeout_is_how_long_tasks_count_as_alive(home: Path, serve: Serve) -> None:
    serve(enable_ha=True, ha_ttl_ms=500_000, task_heartbeat_timeout=900)

    assert 800 < leases(home)["worker"] <= 900


def test_task_heartbeat_interval_is_the_time_between_signs_of_life(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That it is kept is tested with the scheduler's membership.
    app = configured(home, task_heartbeat_interval=7)

    assert app._scheduler().config["heartbeat_interval"] == 7


def test_task_executor_heartbeat_check_interval_is_the_time_between_looks_for_them(
    home: Path,
) -> None:
    app = configured(home, task_executor_heartbeat_check_interval=8)

    assert app._scheduler().config["heartbeat_check_interval"] == 8


@pytest.mark.parametrize("name", ["Local", "local", "LOCAL"])
def test_task_executor_is_what_runs_the_tasks(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = asked_for(configured(home, task_executor=name), monkeypatch)

    assert found["executor"][0] == "local"


def test_task_executor_must_be_installed(serve: Serve) -> None:
    with pytest.raises(PluginError, match="'loca'"):
        serve(task_executor="loca")


def test_local_executor_parallelism_is_how_many_tasks_run_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = asked_for(configured(home, local_executor_parallelism=3), monkeypatch)

    assert found["executor"] == ("local", {"parallelism": 3})


def test_k8s_executor_config_is_that_of_the_kubernetes_executor(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"namespace": "tasks", "image_tag": "1", "pod_template_file": None}
    app = configured(home, task_executor="kubernetes", k8s_executor_config=settings)

    found = asked_for(app, monkeypatch)

    assert found["executor"] == ("kubernetes", {"namespace": "tasks", "image_tag": "1"})


# --- aiflow_client.yaml --------------------------------------------------------------------------


def test_server_address_is_where_clients_find_the_server(home: Path, serve: Serve) -> None:
    address = serve()
    (home / "aiflow_client.yaml").write_text(f"server_address: {address}\n")

    with App.configured().client() as client:
        assert client.list_workflows() == []


@pytest.mark.parametrize(
    "written",
    [
        "blob_manager: {blob_manager_class: local, blob_manager_config: {root_directory: %s}}\n",
        "blob_manager: {type: local, config: {root_directory: %s}}\n",
        "blob_manager_class: local\nblob_manager_config: {root_directory: %s}\n",
    ],
)
def test_blob_manager_is_where_code_is_kept(home: Path, written: str) -> None:
    (home / "aiflow_client.yaml").write_text(written % (home / "elsewhere"))
    (home / "file").write_text("x")

    uri = App.configured().blob_manager().upload(home / "file")

    assert Path(uri).is_relative_to(home / "elsewhere")


# -------------------------------------------------------------------------------------------------


def test_each_key_that_has_an_effect_has_a_test() -> None:
    names = {
        key.name
        for settings in (ServerSettings, ClientSettings)
        for key in config.keys(settings)
        if not key.retired
    }

    untested = {n for n in names if not any(test.startswith(f"test_{n}_") for test in globals())}

    assert untested == set()
