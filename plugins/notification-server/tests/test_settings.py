"""Each key of `notification_server.yaml` changes what it says."""

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
import yaml
from click.testing import CliRunner

from aiflow_core import config
from aiflow_core.daemon import Daemon
from aiflow_core.errors import ConflictError
from aiflow_core.model.event import Event
from aiflow_notification_server.cli import _serve, notification
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)
from aiflow_notification_server.settings import NotificationSettings, settings

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"

Serve = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOTIFICATION_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def serve(home: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Serve]:
    """Runs a server with these settings in this process, until the end of the test; its address."""
    with ExitStack() as stack:

        def serve(**values: Any) -> str:
            text = msgspec.yaml.encode({"server_port": 0, **values}).decode()
            (home / "notification_server.yaml").write_text(text)
            CliRunner().invoke(notification, ["db", "init"])
            _serve(stack)
            return capsys.readouterr().out.rpartition(" at ")[2].strip().rstrip(".")

        yield serve


def members(address: str) -> list[str]:
    with grpc.insecure_channel(address) as channel:
        answer = NotificationServiceStub(channel).listMembers(pb.ListMembersRequest())
    return [member.server_uri for member in answer.members]


def append_at(address: str) -> None:
    with closing(RemoteEventStore(address)) as store:
        store.append([Event("hello")])


def test_server_host_is_the_address_of_the_server(serve: Serve) -> None:
    address = serve(server_host="127.0.0.2")

    assert address.startswith("127.0.0.2:")
    append_at(address)


def test_server_port_is_its_port(serve: Serve) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    assert serve(server_port=port) == f"127.0.0.1:{port}"


def test_db_uri_is_where_the_events_are(home: Path, serve: Serve) -> None:
    append_at(serve(db_uri="sqlite:///${NOTIFICATION_HOME}/elsewhere.db"))

    with closing(sqlite3.connect(home / "elsewhere.db")) as connection:
        assert connection.execute("SELECT key FROM event").fetchall() == [("hello",)]
    assert not (home / "ns.db").exists()


def test_advertised_uri_is_where_clients_are_sent(serve: Serve) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    serve(server_port=port, advertised_uri="events.example:1")

    assert members(f"127.0.0.1:{port}") == ["events.example:1"]
    assert settings().server_uri == "events.example:1"


@pytest.mark.parametrize("enabled", [True, False])
def test_enable_ha_tells_clients_of_all_servers_of_the_database(
    home: Path, serve: Serve, enabled: bool
) -> None:
    one = serve(enable_ha=enabled)
    other = serve(enable_ha=enabled)

    assert members(one) == (sorted([one, other]) if enabled else [one])


def test_ha_ttl_ms_is_how_long_a_server_counts_as_alive(home: Path, serve: Serve) -> None:
    serve(enable_ha=True, ha_ttl_ms=500_000)

    with closing(sqlite3.connect(home / "ns.db")) as connection:
        ((left,),) = connection.execute(
            "SELECT until_ms - CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) "
            "FROM member"
        ).fetchall()
    assert 400_000 < left <= 500_000


def test_wait_for_server_started_timeout_is_how_long_the_start_waits(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def start(daemon: Daemon, argv: list[str], log_file: Path, *, timeout: float) -> int:
        waited.append(timeout)
        raise ConflictError("enough")

    monkeypatch.setattr(Daemon, "start_detached", start)
    (home / "notification_server.yaml").write_text("wait_for_server_started_timeout: 7.5\n")

    CliRunner().invoke(notification, ["server", "start", "-d"])

    assert waited == [7.5]


def test_each_key_has_a_test() -> None:
    names = [key.name for key in config.keys(NotificationSettings)]

    assert not [n for n in names if not any(test.startswith(f"test_{n}_") for test in globals())]


def test_the_file_of_config_init_says_the_defaults(home: Path) -> None:
    CliRunner().invoke(notification, ["config", "init"])
    written = yaml.safe_load((home / "notification_server.yaml").read_text())

    assert written.keys() == {key.name for key in config.keys(NotificationSettings)}
    with_file = settings()
    (home / "notification_server.yaml").unlink()
    assert with_file == settings()


def test_the_reference_has_the_schema_and_the_table() -> None:
    published = (REFERENCE / "schemas" / "notification_server.schema.json").read_text()

    schema = config.json_schema(NotificationSettings)

    assert json.loads(published) == schema, json.dumps(schema, indent=2)
    assert config.table(NotificationSettings) in (REFERENCE / "configuration.md").read_text()
