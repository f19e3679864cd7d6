"""The servers of a run: real processes in a directory of their own, which end with the run."""

import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import yaml

from aiflow_core.testing.databases import DatabaseServer, MariaServer, PostgresServer

from ..servers import ServerProcess, TwoServers, configure, kill, prepared, processes_below
from .history import rows
from .workflows import JOURNAL_VARIABLE

ROOT = Path(__file__).parents[2]
WORKFLOWS = Path(__file__).with_name("workflows.py")

ZYGOTE = "aiflow_executor_local.zygote"

KINDS: dict[str, type[DatabaseServer]] = {"postgresql": PostgresServer, "mariadb": MariaServer}

T = TypeVar("T")


class Deployment:
    """The servers, by name, and what is running of them.

    Attributes:
        members: a home of an AIFlow server and one of a notification server each.
        servers: the processes that the run restarts: `notification-1`, `aiflow-1`, ...
        journal: what the tasks write.
        lease: seconds after which another server takes over, when there are several.
        database: the server of the databases, None for SQLite.
    """

    def __init__(
        self,
        root: Path,
        members: Sequence[TwoServers],
        lease: float,
        database: DatabaseServer | None,
    ) -> None:
        self.root = root
        self.members = members
        self.lease = lease
        self.database = database
        self.journal = root / "journal"
        self.servers: dict[str, ServerProcess] = {}
        for number, member in enumerate(members, 1):
            member.environment[JOURNAL_VARIABLE] = str(self.journal)
            for program in ("notification", "aiflow"):
                name = f"{program}-{number}"
                self.servers[name] = ServerProcess(member, program, name)

    # --- what the settings say -----------------------------------------------------------------

    @property
    def log_uri(self) -> str:
        return str(self._setting("aiflow_server.yaml", "notification_server_uri"))

    @property
    def server_address(self) -> str:
        return str(self._setting("aiflow_client.yaml", "server_address"))

    @property
    def metadata_database(self) -> str:
        uri = str(self._setting("aiflow_server.yaml", "metadata_backend_uri"))
        return uri.replace("${AIFLOW_HOME}", str(self.members[0].home))

    @property
    def log_database(self) -> str:
        home = self.members[0].notification_home
        uri = str(yaml.safe_load((home / "notification_server.yaml").read_text())["db_uri"])
        return uri.replace("${NOTIFICATION_HOME}", str(home))

    def _setting(self, file: str, key: str) -> object:
        return yaml.safe_load((self.members[0].home / file).read_text())[key]

    # --- processes -----------------------------------------------------------------------------

    def start(self, wait: bool = True, but: Container[str] = ()) -> None:
        """Start every server that does not run, but those; `wait` until all are ready."""
        wanted = [server for name, server in self.servers.items() if name not in but]
        for server in wanted:
            if not server.runs:
                server.start()
        for server in wanted:
            if wait and not server.is_ready:
                server.wait_until_ready()

    def upload(self) -> None:
        """Submit the workflows of the load."""
        self.members[0].upload(WORKFLOWS)

    def of(self, program: str) -> list[ServerProcess]:
        """The servers of that program."""
        return [server for server in self.servers.values() if server.program == program]

    def leader(self) -> str | None:
        """The name of the AIFlow server that has the lease to schedule."""
        leases = rows(self.metadata_database, "lease")
        holders = {row["holder"] for row in leases if row["name"] == "scheduler"}
        for name, server in self.servers.items():
            file = server.servers.home / "server_id"
            if server.program == "aiflow" and file.exists() and file.read_text() in holders:
                return name
        return None

    def said(self, *texts: str) -> int:
        """How many lines in the logs of the AIFlow servers hold one of these texts."""
        return sum(
            any(text in line for text in texts)
            for server in self.of("aiflow")
            for line in server.log.read_text(errors="replace").splitlines()
        )

    def processes(self) -> list[psutil.Process]:
        """All that runs of the deployment."""
        return processes_below(self.root)

    def zygotes(self) -> list[psutil.Process]:
        """The processes that fork tasks."""
        return [p for p, parent in self._of_zygotes() if not _is_of_zygotes(parent)]

    def tasks(self) -> list[psutil.Process]:
        """The processes that run tasks, or wait for one."""
        return [p for p, parent in self._of_zygotes() if _is_of_zygotes(parent)]

    def kill_everything(self) -> None:
        """End all at once, as the end of the machine would."""
        while left := self.processes():
            kill(left)
        for server in self.servers.values():
            server.kill()

    def _of_zygotes(self) -> Iterator[tuple[psutil.Process, psutil.Process | None]]:
        for process in self.processes():
            parent = _or_none(process.parent)
            if _is_of_zygotes(process):
                yield process, parent


@contextmanager
def deployed(
    root: Path,
    *,
    kind: str = "sqlite",
    servers: int = 1,
    lease: float = 3.0,
    parallelism: int = 8,
) -> Iterator[Deployment]:
    """So many AIFlow servers and notification servers below `root`, not started yet. Whatever
    happens, no process is left of all that they start.

    `kind` is that of the database; for the rest see `Deployment`.
    """
    with _database(kind) as database, _guarded(root):
        notification = {} if database is None else {"db_uri": database.url("log")}
        metadata = {} if database is None else {"metadata_backend_uri": database.url("metadata")}
        settings = {
            **metadata,
            "local_executor_parallelism": str(parallelism),
            "enable_ha": str(servers > 1),
            "ha_ttl_ms": str(round(lease * 1000)),
        }
        members = [
            prepared(root / str(number), notification, **settings)
            for number in range(1, servers + 1)
        ]
        _introduce(members)
        deployment = Deployment(root, members, lease, database)
        try:
            yield deployment
        finally:
            deployment.kill_everything()


@contextmanager
def _database(kind: str) -> Iterator[DatabaseServer | None]:
    if kind == "sqlite":
        yield None
    else:
        with KINDS[kind](survives_crashes=True) as server:
            yield server


def _introduce(members: Sequence[TwoServers]) -> None:
    """Tell all of all addresses, and of one place for the code of workflows."""
    addresses: dict[str, list[str]] = {"notification_server_uri": [], "server_address": []}
    for file in ("aiflow_server.yaml", "aiflow_client.yaml"):
        settings = [yaml.safe_load((member.home / file).read_text()) for member in members]
        for key in addresses.keys() & settings[0].keys():
            addresses[key] = [one[key] for one in settings]
    for member in members:
        configure(
            member.home / "aiflow_server.yaml",
            notification_server_uri=",".join(addresses["notification_server_uri"]),
        )
        client = member.home / "aiflow_client.yaml"
        configure(client, server_address=",".join(addresses["server_address"]))
        blobs = members[0].home / "blob"
        client.write_text(client.read_text().replace("${AIFLOW_HOME}/blob", str(blobs)))


@contextmanager
def _guarded(root: Path) -> Iterator[None]:
    guard = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.guard", str(root)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


def _is_of_zygotes(process: psutil.Process | None) -> bool:
    return process is not None and ZYGOTE in (_or_none(process.cmdline) or ())


def _or_none(ask: Callable[[], T]) -> T | None:
    """The answer about a process, None when it is gone."""
    try:
        return ask()
    except psutil.NoSuchProcess:
        return None
