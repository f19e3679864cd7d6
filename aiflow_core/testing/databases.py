"""Real database servers for tests: a pytest plugin, loaded with `-p aiflow_core.testing.databases`.

A test that takes `database_url` runs once for each of SQLite, PostgreSQL and MariaDB, each time
with a fresh database. A server is started when the first test asks for it, belongs to this pytest
process alone, and ends with it however it ends. Where a server's programs are not installed, its
tests are reported as not run, by name and number.
"""

import contextlib
import importlib.util
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, ClassVar, Self

import pytest

START_TIMEOUT = 60.0

# Started between pytest and the server: it ends the server and removes its directory when its
# standard input closes, and that happens even when pytest is killed. A line on its standard input
# ends the server as well; while there is a file `down` the directory then stays, and the next line
# starts the server again. File descriptor 3, because the shell gives background jobs no standard
# input.
SUPERVISOR = """
exec 3<&0
while :; do
    "$@" </dev/null 3<&- & server=$!
    { read -r _ <&3; kill -s "$STOP_SIGNAL" "$server"; } & watcher=$!
    wait "$server"; code=$?
    kill "$watcher" 2>/dev/null
    wait "$watcher" 2>/dev/null
    [ -e "$DIRECTORY/down" ] && read -r _ <&3 || break
done
cd / && rm -rf -- "$DIRECTORY"
exit "$code"
"""


class DatabaseServer(ABC):
    """A database server on a free port of the loopback interface; a context manager.

    It keeps its data in a temporary directory and does not promise to keep them through a power
    failure, which makes it fast. As root it runs under the user that the distribution made for it,
    because these servers refuse to run as root.

    Args:
        survives_crashes: what was committed is there again after `crash` and `recover`.
    """

    name: ClassVar[str]
    user: ClassVar[str]
    driver: ClassVar[str]
    programs: ClassVar[Sequence[str]]
    stop_signal: ClassVar[str]

    def __init__(self, survives_crashes: bool = False) -> None:
        self.port = 0
        self._survives_crashes = survives_crashes
        self._directory = Path()
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @classmethod
    def missing(cls) -> str | None:
        """Say what this machine lacks for this server, or None."""
        absent = [program for program in cls.programs if cls._find(program) is None]
        if absent:
            return f"not installed: {', '.join(absent)}"
        if importlib.util.find_spec(cls.driver) is None:
            return f"not installed: the Python package {cls.driver}"
        if os.geteuid() == 0 and cls._account() is None:
            return f"no user {cls.user} on this machine"
        return None

    def url(self, name: str | None = None) -> str:
        """Make an empty database and return its SQLAlchemy URL."""
        name = name or f"test_{uuid.uuid4().hex}"
        self._create(name)
        return self._url(name)

    def crash(self) -> None:
        """End the server at once, as its failure would; it is gone on return."""
        (self._directory / "down").touch()
        self._tell("crash")
        self._wait_until(lambda: not self._answers(), "still answers")

    def recover(self) -> None:
        """Start the crashed server again, with the data that it has; it is ready on return."""
        self._tell("start")
        self._wait_until(self._ping, "did not start")
        # Only now: the supervisor looks for it when the server has ended, which may be a while
        # after it answered for the last time.
        (self._directory / "down").unlink()

    def drop(self, url: str) -> None:
        """Remove the database of that URL, together with the connections that are left over."""
        self._drop(url.rpartition("/")[2].partition("?")[0])

    def __enter__(self) -> Self:
        # Between choosing a free port and listening on it, another process may take it.
        for attempt in (1, 2, 3):
            try:
                self._start()
                return self
            except RuntimeError:
                self._stop()
                if attempt == 3:
                    raise
        raise AssertionError("unreachable")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    # --- what differs ---

    @classmethod
    def _directories(cls) -> Sequence[Path]:
        """Where programs may be, apart from PATH."""
        return ()

    @abstractmethod
    def _initialise(self, data: Path) -> Sequence[str]:
        """Return the command that fills the data directory."""

    @abstractmethod
    def _serve(self, data: Path) -> Sequence[str]:
        """Return the command that serves the data directory in the foreground."""

    @abstractmethod
    def _ping(self) -> bool:
        """Tell whether this very server (not another on the same port) accepts connections."""

    @abstractmethod
    def _url(self, name: str) -> str: ...

    @abstractmethod
    def _create(self, name: str) -> None: ...

    @abstractmethod
    def _drop(self, name: str) -> None: ...

    # --- what is shared ---

    @classmethod
    def _find(cls, program: str) -> str | None:
        path = os.pathsep.join([*map(str, cls._directories()), os.environ.get("PATH", os.defpath)])
        return shutil.which(program, path=path)

    @classmethod
    def _program(cls, program: str) -> str:
        found = cls._find(program)
        if found is None:
            raise FileNotFoundError(f"{program} is not installed")
        return found

    @classmethod
    def _account(cls) -> pwd.struct_passwd | None:
        try:
            return pwd.getpwnam(cls.user)
        except KeyError:
            return None

    def _start(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix=f"aiflow-{self.name}-"))
        identity: dict[str, Any] = {}
        account = self._account()
        if os.geteuid() == 0 and account is not None:
            os.chown(self._directory, account.pw_uid, account.pw_gid)
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        environment = os.environ | {
            "HOME": str(self._directory),
            "DIRECTORY": str(self._directory),
            "STOP_SIGNAL": self.stop_signal,
            "TZ": "UTC",
        }
        data = self._directory / "data"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server
        subprocess.run(
            self._initialise(data),
            cwd=self._directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            **identity,
        )
        self.port = _free_port()
        # A session of its own: Ctrl-C must not end the server before the tests that use it.
        self._supervisor = subprocess.Popen(
            ["/bin/sh", "-c", SUPERVISOR, "sh", *self._serve(data)],
            cwd=self._directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            **identity,
        )
        self._wait_until(self._ping, "did not start")

    def _tell(self, line: str) -> None:
        """Let the supervisor read a line."""
        assert self._supervisor is not None
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.write(f"{line}\n".encode())
        self._supervisor.stdin.flush()

    def _wait_until(self, condition: Callable[[], bool], problem: str) -> None:
        assert self._supervisor is not None
        assert self._log is not None
        deadline = time.monotonic() + START_TIMEOUT
        while not condition():
            if self._supervisor.poll() is not None or time.monotonic() > deadline:
                self._log.seek(0)
                text = self._log.read().decode(errors="replace")
                raise RuntimeError(f"{self.name} {problem}:\n{text[-4000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        """Whether anybody takes connections at its port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _stop(self) -> None:
        if self._supervisor is not None:
            assert self._supervisor.stdin is not None
            self._supervisor.stdin.close()
            self._supervisor.wait(START_TIMEOUT)
            self._supervisor = None
        shutil.rmtree(self._directory, ignore_errors=True)  # when it did not even start
        if self._log is not None:
            self._log.close()
            self._log = None


class PostgresServer(DatabaseServer):
    """PostgreSQL, any version that the machine has."""

    name = "postgresql"
    user = "postgres"
    driver = "psycopg"
    programs = ("initdb", "postgres")
    stop_signal = "QUIT"  # at once and without a checkpoint: the data are thrown away

    @classmethod
    def _directories(cls) -> Sequence[Path]:
        # Debian keeps them out of PATH, one directory for each version; the newest first.
        return sorted(
            Path("/usr/lib/postgresql").glob("*/bin"),
            key=lambda path: float(path.parent.name),
            reverse=True,
        )

    def _initialise(self, data: Path) -> Sequence[str]:
        return [
            *(self._program("initdb"), "-D", str(data), "-U", self.user, "-A", "trust"),
            *("-E", "UTF8", "--locale=C", "--no-sync"),
        ]

    def _serve(self, data: Path) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._directory,
            "max_connections": 200,
            "fsync": "off",
            # Off, a commit may still be in the memory of the server.
            "synchronous_commit": "on" if self._survives_crashes else "off",
            "full_page_writes": "off",
        }
        options = [f"--{key}={value}" for key, value in settings.items()]
        return [self._program("postgres"), "-D", str(data), *options]

    def _connect(self, host: str) -> Any:
        import psycopg  # late: the driver is needed only where the server is

        return psycopg.connect(
            host=host, port=self.port, user=self.user, dbname="postgres", autocommit=True
        )

    def _ping(self) -> bool:
        import psycopg

        try:
            self._connect(str(self._directory)).close()
        except psycopg.OperationalError:
            return False
        return True

    def _url(self, name: str) -> str:
        return f"postgresql+psycopg://{self.user}@127.0.0.1:{self.port}/{name}"

    def _create(self, name: str) -> None:
        with self._connect("127.0.0.1") as connection:
            connection.execute(f'CREATE DATABASE "{name}"')

    def _drop(self, name: str) -> None:
        with self._connect("127.0.0.1") as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


# What a MySQL or MariaDB server that takes connections says first, behind four bytes of header.
_PROTOCOL_10 = b"\x0a"


class MariaServer(DatabaseServer):
    """MariaDB, which stands for the MySQL family."""

    name = "mariadb"
    user = "mysql"
    driver = "pymysql"
    programs = ("mariadb-install-db", "mariadbd")
    stop_signal = "KILL"  # its orderly end takes seconds, and the data are thrown away

    @classmethod
    def _directories(cls) -> Sequence[Path]:
        return (Path("/usr/sbin"),)  # not in everybody's PATH

    @property
    def _socket(self) -> str:
        return str(self._directory / "socket")

    def _initialise(self, data: Path) -> Sequence[str]:
        return [
            *(self._program("mariadb-install-db"), "--no-defaults", f"--datadir={data}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
            *("--innodb-flush-method=nosync", "--innodb-log-file-size=16M"),
        ]

    def _serve(self, data: Path) -> Sequence[str]:
        settings = {
            "datadir": data,
            "bind-address": "127.0.0.1",
            "port": self.port,
            "socket": self._socket,
            "pid-file": self._directory / "pid",
            "tmpdir": self._directory,
            "max-connections": 200,
            "innodb-buffer-pool-size": "64M",
            "innodb-log-file-size": "16M",
            # 2: a commit has left the memory of the server.
            "innodb-flush-log-at-trx-commit": 2 if self._survives_crashes else 0,
            "innodb-flush-method": "nosync",
        }
        options = [f"--{key}={value}" for key, value in settings.items()]
        return [self._program("mariadbd"), "--no-defaults", "--skip-name-resolve", *options]

    @contextlib.contextmanager
    def _cursor(self, **where: Any) -> Iterator[Any]:
        import pymysql  # late: the driver is needed only where the server is

        connection = pymysql.connect(user="root", autocommit=True, **where)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()

    def _ping(self) -> bool:
        # By hand: the driver leaves its socket open when a server that is starting hangs up on it.
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self._socket))
                greeting = connection.recv(5)
            except OSError:
                return False
        return greeting.endswith(_PROTOCOL_10)

    def _url(self, name: str) -> str:
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{name}?charset=utf8mb4"

    def _create(self, name: str) -> None:
        with self._cursor(unix_socket=self._socket) as cursor:
            cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")

    def _drop(self, name: str) -> None:
        import pymysql

        with self._cursor(unix_socket=self._socket) as cursor:
            # A connection with an open transaction would make DROP wait.
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
            for (connection_id,) in cursor.fetchall():
                with contextlib.suppress(pymysql.err.OperationalError):  # it has gone by itself
                    cursor.execute("KILL %s", (connection_id,))
            cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- fixtures ----------------------------------------------------------------------------------


def _serve(server_class: type[DatabaseServer]) -> Iterator[DatabaseServer]:
    missing = server_class.missing()
    if missing:
        pytest.skip(f"needs {server_class.name} ({missing})")
    with server_class() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[DatabaseServer]:
    """A `PostgresServer` of this pytest process."""
    yield from _serve(PostgresServer)


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[DatabaseServer]:
    """A `MariaServer` of this pytest process."""
    yield from _serve(MariaServer)


_SERVERS = [
    pytest.param("postgresql", marks=pytest.mark.postgresql),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
]

on_servers = pytest.mark.parametrize("database_url", _SERVERS, indirect=True)
"""For what is not to be asked of a SQLite file, which is in the hands of one machine."""


@pytest.fixture(params=["sqlite", *_SERVERS])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """SQLAlchemy URL of an empty database: a SQLite file, then PostgreSQL, then MariaDB."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server: DatabaseServer = request.getfixturevalue(f"{request.param}_server")
    url = server.url()
    yield url
    server.drop(url)


def pytest_configure(config: pytest.Config) -> None:
    for server_class in (PostgresServer, MariaServer):
        config.addinivalue_line(
            "markers", f"{server_class.name}: uses a {server_class.name} server"
        )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say plainly what a missing server left out; a number among the skipped is overlooked."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple):
            found = re.fullmatch(r"Skipped: (needs \w+ \(.*\))", report.longrepr[2])
            if found:
                reasons[found[1]] += 1
    if reasons:
        terminalreporter.section("NOT RUN", yellow=True)
        for reason, count in reasons.items():
            terminalreporter.line(f"NOT RUN: {count} tests: {reason}", yellow=True)
