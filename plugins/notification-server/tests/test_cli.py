"""The commands `notification` and `aiflow event`."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import aiflow_core
from aiflow_core.testing.clock import ManualClock
from aiflow_notification_server.cli import notification

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs `notification` in this process, with a home of its own."""
    monkeypatch.setenv("NOTIFICATION_HOME", str(tmp_path))

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(notification, arguments)

    return invoke


@pytest.fixture
def at(address: str, invoke: Callable[..., Result]) -> Callable[..., Result]:
    """Runs `notification event` in this process, against a server."""

    def at(command: str, *arguments: str) -> Result:
        return invoke("event", command, "-s", address, *arguments)

    return at


def make_home(home: Path) -> Path:
    """A home whose server listens at a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home.mkdir()
    (home / "notification_server.yaml").write_text(
        f"server_port: {port}\nwait_for_server_started_timeout: 60\n"
    )
    return home


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path / "home")


@pytest.fixture
def run(home: Path) -> Run:
    """Runs `notification` as a process, in `home` or another one."""

    def run(*arguments: str, home: Path = home) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aiflow_notification_server", *arguments],
            env=os.environ | {"NOTIFICATION_HOME": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def server(run: Run) -> Iterator[None]:
    """Runs in `home`."""
    assert run("db", "init").returncode == 0
    started = run("server", "start", "-d")
    assert started.returncode == 0, started.stderr
    assert "Notification server started, pid: " in started.stdout
    yield
    run("server", "stop")


def lines(ended: subprocess.CompletedProcess[str] | Result) -> list[str]:
    assert code(ended) == 0, ended.stderr
    return ended.stdout.splitlines()


def code(ended: subprocess.CompletedProcess[str] | Result) -> int:
    return ended.exit_code if isinstance(ended, Result) else ended.returncode


class TestConfig:
    def test_a_file_is_made_once_and_says_what_is_in_effect_without_it(
        self, invoke: Callable[..., Result], tmp_path: Path
    ) -> None:
        before = lines(invoke("config", "list"))
        path = tmp_path / "notification_server.yaml"

        assert lines(invoke("config", "init")) == [
            f"Notification server config generated at {path}"
        ]
        assert lines(invoke("config", "list")) == before
        assert yaml.safe_load(path.read_text())["db_uri"] == "sqlite:///${NOTIFICATION_HOME}/ns.db"

        path.write_text("server_port: 1234\n")
        again = invoke("config", "init")
        assert (again.exit_code, again.stdout) == (0, "")
        assert path.read_text() == "server_port: 1234\n"

    def test_a_value_is_shown_as_it_is_in_effect(
        self, invoke: Callable[..., Result], tmp_path: Path
    ) -> None:
        assert lines(invoke("config", "get-value", "db_uri")) == [f"sqlite:///{tmp_path}/ns.db"]
        assert lines(invoke("config", "get-value", "server_host")) == ["127.0.0.1"]

    def test_an_unknown_option_is_answered_with_the_nearest(
        self, invoke: Callable[..., Result]
    ) -> None:
        ended = invoke("config", "get-value", "db_url")

        assert ended.exit_code == 3
        assert ended.stderr == "Error: No such option: db_url. Did you mean 'db_uri'?\n"

    def test_an_unknown_key_in_the_file_is_an_error(
        self, invoke: Callable[..., Result], tmp_path: Path
    ) -> None:
        (tmp_path / "notification_server.yaml").write_text("sever_port: 1\n")

        ended = invoke("config", "list")

        assert ended.exit_code == 2
        assert "there is no setting 'sever_port'. Did you mean 'server_port'?" in ended.stderr

    def test_a_file_of_0_4_is_accepted(self, invoke: Callable[..., Result], tmp_path: Path) -> None:
        (tmp_path / "notification_server.yaml").write_text(
            "server_port: 50052\n"
            "db_uri: sqlite:///{NOTIFICATION_HOME}/ns.db\n"
            "enable_ha: False\n"
            "ha_ttl_ms: 5000\n"
            "advertised_uri: 127.0.0.1:50052\n"
            "wait_for_server_started_timeout: 5.0\n"
        )

        assert f"db_uri: sqlite:///{tmp_path}/ns.db" in lines(invoke("config", "list"))


class TestEvents:
    def test_a_sent_event_is_said_whole(
        self, at: Callable[..., Result], clock: ManualClock
    ) -> None:
        sent = at("send", "k", "v", "-n", "ns", "--context", '{"a": 1}', "--sender", "me")

        assert lines(sent) == [
            "Successfully send event: key:k, value:v, namespace:ns, sender:me, "
            f'create_time:{clock.now_ms()}, offset:1, context: {{"a": 1}}.'
        ]

    def test_events_are_listed_with_every_field(self, at: Callable[..., Result]) -> None:
        at("send", "k", "v", "-n", "ns", "--context", "c", "--sender", "me")

        (found,) = json.loads(at("list", "k", "-o", "json").stdout)

        assert list(found.items()) == [
            *(("namespace", "ns"), ("key", "k"), ("value", "v"), ("sender", "me")),
            *(("create_time", "2023-11-14T22:13:20.000Z"), ("context", "c"), ("offset", 1)),
        ]

    def test_list_and_count_restrict_by_what_is_given(self, at: Callable[..., Result]) -> None:
        at("send", "few.a", "1", "-n", "one", "--sender", "x")
        at("send", "few.b", "2", "-n", "two", "--sender", "x")

        def values(*options: str) -> str:
            rows = json.loads(at("list", "few.*", "-o", "json", *options).stdout)
            assert lines(at("count", "few.*", *options)) == [str(len(rows))]
            return "".join(row["value"] for row in rows)

        assert values() == "12"
        assert values("-n", "two") == "2"
        assert values("--sender", "x") == "12"
        assert values("--begin-time", "2999-01-01T00:00:00Z") == ""
        assert values("--begin-offset", "1") == "2"

    def test_no_event_is_said_so(self, at: Callable[..., Result]) -> None:
        assert lines(at("list", "nothing")) == ["No data found"]
        assert json.loads(at("list", "nothing", "-o", "json").stdout) == []
        assert lines(at("count", "nothing")) == ["0"]

    def test_a_listener_prints_events_until_it_is_interrupted(
        self, at: Callable[..., Result], address: str
    ) -> None:
        at("send", "heard", "before")
        listener = subprocess.Popen(
            [
                *(sys.executable, "-m", "aiflow_notification_server", "event", "listen", "heard"),
                *("--begin-offset", "0", "-s", address),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert listener.stdout is not None
        assert "value:before" in listener.stdout.readline()
        at("send", "heard", "now")
        assert "value:now" in listener.stdout.readline()

        listener.send_signal(signal.SIGINT)

        _, said = listener.communicate(timeout=20)
        assert (listener.returncode, said) == (0, "")

    def test_a_time_that_is_none_is_refused(self, at: Callable[..., Result]) -> None:
        ended = at("list", "k", "--begin-time", "yesterday")

        assert ended.exit_code == 2
        assert "'yesterday' is not a time such as 2024-05-01T12:00:00Z." in ended.stderr


class TestServer:
    @pytest.mark.usefixtures("server")
    def test_it_runs_once_on_its_port_and_its_database_is_left_alone(
        self, run: Run, home: Path, tmp_path: Path
    ) -> None:
        (status,) = lines(run("server", "status"))
        assert status.startswith("pid: ")
        for start in (["start"], ["start", "-d"]):
            again = run("server", *start)
            assert code(again) == 4
            assert (
                "Notification server is running, stop it first with 'notification server stop'."
                in again.stderr
            )

        reset = run("db", "reset", "-y")
        assert code(reset) == 4
        assert "Stop it first with 'notification server stop'." in reset.stderr

        other = tmp_path / "other"
        shutil.copytree(home, other, ignore=shutil.ignore_patterns("*.pid"))
        in_use = run("server", "start", "-d", home=other)
        assert code(in_use) == 4
        assert "is in use. Stop the server that listens there" in in_use.stderr

    def test_it_does_not_start_without_its_tables(self, run: Run) -> None:
        ended = run("server", "start", "-d")

        assert code(ended) == 2
        assert "Run `notification db init`." in ended.stderr

    def test_one_that_does_not_run_cannot_be_stopped(
        self, invoke: Callable[..., Result], tmp_path: Path
    ) -> None:
        ended = invoke("server", "stop")

        assert code(ended) == 3
        path = tmp_path / "notification_server.pid"
        assert f"PID file of Notification server does not exist at {path}." in ended.stderr
        assert code(invoke("server", "status")) == 3

    @pytest.mark.usefixtures("server")
    def test_events_outlast_the_server_and_a_reset_deletes_them(self, run: Run) -> None:
        run("event", "send", "lasting", "v")
        (stopped,) = lines(run("server", "stop"))
        assert stopped.startswith("pid: ")
        assert stopped.endswith(" stopped")

        run("server", "start", "-d")
        assert lines(run("event", "count", "lasting")) == ["1"]
        run("server", "stop")
        assert code(run("db", "reset")) == 2  # nobody is there to say yes
        assert lines(run("db", "reset", "-y")) == ["The database is empty."]
        run("server", "start", "-d")
        assert lines(run("event", "count", "lasting")) == ["0"]

    def test_one_that_does_not_answer_is_reported_with_what_to_do(
        self, invoke: Callable[..., Result]
    ) -> None:
        ended = invoke("event", "count", "k", "-s", "127.0.0.1:1")

        assert code(ended) == 6
        assert ended.stderr.endswith(
            "Error: The notification server at 127.0.0.1:1 does not answer. "
            "Start it with `notification server start -d`.\n"
        )


class TestDatabase:
    def test_it_is_made_taken_back_and_brought_up_to_date(
        self, invoke: Callable[..., Result]
    ) -> None:
        assert lines(invoke("db", "init")) == ["The database is ready."]
        assert lines(invoke("db", "downgrade", "-v", "base", "-y")) == [
            "The database is at version base."
        ]
        assert code(invoke("server", "start")) == 2
        assert lines(invoke("db", "upgrade")) == ["The database is at version 0002."]


def test_the_version_is_that_of_the_core(invoke: Callable[..., Result]) -> None:
    assert lines(invoke("version")) == [aiflow_core.__version__]


def test_help_imports_neither_grpc_nor_a_database() -> None:
    program = (
        "import sys; from click.testing import CliRunner\n"
        "from aiflow_notification_server.cli import notification\n"
        "assert CliRunner().invoke(notification, ['event', '--help']).exit_code == 0\n"
        "print([name for name in ('grpc', 'sqlalchemy', 'rich', 'msgspec') if name in sys.modules])"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert ended.stdout == "[]\n", ended.stderr
