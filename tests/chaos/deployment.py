"""The servers of a run: real processes in a directory of their own, which end with the run."""

import random
import re
import subprocess
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import yaml
from sqlalchemy import make_url

from aiflow_core.testing.databases import DatabaseServer, MariaServer, PostgresServer

from ..servers import ServerProcess, TwoServers, configure, kill, prepared, processes_below
from . import machines
from .history import rows
from .machines import Machine
from .proxy import Network
from .workflows import JOURNAL_VARIABLE

ROOT = Path(__file__).parents[2]
WORKFLOWS = Path(__file__).with_name("workflows.py")

ZYGOTE = "aiflow_executor_local.zygote"

KINDS: dict[str, type[DatabaseServer]] = {"postgresql": PostgresServer, "mariadb": MariaServer}

T = TypeVar("T")


@dataclass(frozen=True)
class Addresses:
    """Where clients find the servers, and where the databases are."""

    server_address: str
    log_uri: str
    metadata_database: str
    log_database: str


@dataclass(frozen=True)
class Wiring:
    """What lies between the members, the database and the clients.

    Attributes:
        network: has the lines; None: there is nothing in between.
        machines: one for each member; none: all are on this one.
    """

    network: Network | None = None
    machines: Sequence[Machine] = ()

    def way(self, who: int, whom: str, host: str, port: int) -> str:
        """`host:port` at which `who` (the number of a member, 0 for clients) reaches `whom`."""
        if self.network is None:
            return f"{host}:{port}"
        at = self.machines[who - 1].outside if self.machines and who else "127.0.0.1"
        return f"{at}:{self.network.line(f'{_named(who)} > {whom}', host, port, at)}"

    def host(self, number: int) -> str:
        """Where the servers of a member listen."""
        return self.machines[number - 1].inside if self.machines else "127.0.0.1"

    def prefix(self, number: int) -> Sequence[str]:
        """What lets a command run on the machine of a member."""
        return self.machines[number - 1].prefix if self.machines else ()


def _named(who: int) -> str:
    return f"member-{who}" if who else "clients"


class Deployment:
    """The servers, by name, and what is running of them.

    Attributes:
        members: a home of an AIFlow server and one of a notification server each.
        addresses: as clients know them.
        servers: the processes that the run restarts: `notification-1`, `aiflow-1`, ...
        journal: what the tasks write.
        lease: seconds after which another server takes over, when there are several.
        database: the server of the databases, None for SQLite.
        wiring: what lies between them.
    """

    def __init__(
        self,
        root: Path,
        members: Sequence[TwoServers],
        addresses: Addresses,
        lease: float,
        database: DatabaseServer | None,
        wiring: Wiring,
    ) -> None:
        self.root = root
        self.members = members
        self.addresses = addresses
        self.lease = lease
        self.database = database
        self.wiring = wiring
        self.journal = root / "journal"
        self.servers: dict[str, ServerProcess] = {}
        for number, member in enumerate(members, 1):
            member.environment[JOURNAL_VARIABLE] = str(self.journal)
            for program in ("notification", "aiflow"):
                name = f"{program}-{number}"
                prefix = wiring.prefix(number)
                self.servers[name] = ServerProcess(member, program, name, prefix)

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
        leases = rows(self.addresses.metadata_database, "lease")
        holders = [row["holder"] for row in leases if row["name"] == "scheduler"]
        for server in self.of("aiflow"):
            file = server.servers.home / "server_id"
            # The holder is the server since its machine was started.
            if file.exists() and any(holder.startswith(file.read_text()) for holder in holders):
                return server.name
        return None

    def epochs(self) -> list[int]:
        """The epoch of each time that an AIFlow server began to schedule."""
        return [
            int(found[1])
            for line in self._log_lines()
            if (found := re.search(r"This server schedules, in epoch (\d+)", line))
        ]

    def said(self, *texts: str) -> int:
        """How many lines in the logs of the AIFlow servers hold one of these texts."""
        return sum(any(text in line for text in texts) for line in self._log_lines())

    def _log_lines(self) -> Iterator[str]:
        for server in self.of("aiflow"):
            yield from server.log.read_text(errors="replace").splitlines()

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
    lined: bool = False,
    ha: bool = False,
) -> Iterator[Deployment]:
    """So many AIFlow servers and notification servers below `root`, not started yet. Whatever
    happens, no process is left of all that they start.

    `kind` is that of the database. `lined`: what goes between them passes lines that can be cut,
    and each member is a machine of its own, where this one allows that. `ha`: a single server, too,
    does what several need. For the rest see `Deployment`.
    """
    numbers = range(1, servers + 1)
    with _database(kind) as database, _guarded(root), _wired(root, servers, lined) as wiring:
        notification = {} if database is None else {"db_uri": database.url("log")}
        if ha:
            notification["enable_ha"] = "true"
        metadata = {} if database is None else {"metadata_backend_uri": database.url("metadata")}
        settings = {
            **metadata,
            "local_executor_parallelism": str(parallelism),
            "enable_ha": str(ha or servers > 1),
            "ha_ttl_ms": str(round(lease * 1000)),
            "task_heartbeat_timeout": str(lease),
            "task_executor_heartbeat_check_interval": "1",
        }
        members = [prepared(root / str(n), notification, **settings) for n in numbers]
        addresses = _introduce(members, wiring)
        deployment = Deployment(root, members, addresses, lease, database, wiring)
        try:
            yield deployment
        finally:
            deployment.kill_everything()


@contextmanager
def _wired(root: Path, members: int, lined: bool) -> Iterator[Wiring]:
    if not lined:
        yield Wiring()
        return
    with ExitStack() as stack:
        network = stack.enter_context(Network(delay=lambda: random.uniform(0.0, 0.5)))
        built: Sequence[Machine] = ()
        if machines.missing() is None:
            built = stack.enter_context(machines.machines(root, members))
        yield Wiring(network, built)


@contextmanager
def _database(kind: str) -> Iterator[DatabaseServer | None]:
    if kind == "sqlite":
        yield None
    else:
        with KINDS[kind](survives_crashes=True) as server:
            yield server


def _introduce(members: Sequence[TwoServers], wiring: Wiring) -> Addresses:
    """Tell all of all addresses, and of one place for the code of workflows; the addresses that
    clients know."""
    settings = [_settings(member) for member in members]

    def ways(who: int, program: str, port: str) -> str:
        return ",".join(
            wiring.way(who, f"{program}-{n}", wiring.host(n), one[port])
            for n, one in enumerate(settings, 1)
        )

    clients = Addresses(
        server_address=ways(0, "aiflow", "rpc_port"),
        log_uri=ways(0, "notification", "server_port"),
        metadata_database=settings[0]["metadata_backend_uri"],
        log_database=settings[0]["db_uri"],
    )
    for number, member in enumerate(members, 1):

        def uri(key: str, whose: str, who: int = number) -> str:
            return _through(wiring, who, whose, settings[who - 1][key])

        configure(
            member.home / "aiflow_server.yaml",
            rpc_host=wiring.host(number),
            notification_server_uri=ways(number, "notification", "server_port"),
            metadata_backend_uri=uri("metadata_backend_uri", "database of aiflow"),
        )
        configure(
            member.notification_home / "notification_server.yaml",
            server_host=wiring.host(number),
            db_uri=uri("db_uri", "database of notification"),
        )
        file = member.home / "aiflow_client.yaml"
        configure(file, server_address=clients.server_address)
        blobs = members[0].home / "blob"
        file.write_text(file.read_text().replace("${AIFLOW_HOME}/blob", str(blobs)))
    return clients


def _settings(member: TwoServers) -> dict[str, Any]:
    """What the files of a member say, with its directories in place of their names."""
    found: dict[str, Any] = {}
    for file in (
        member.home / "aiflow_server.yaml",
        member.notification_home / "notification_server.yaml",
    ):
        text = file.read_text().replace("${AIFLOW_HOME}", str(member.home))
        text = text.replace("${NOTIFICATION_HOME}", str(member.notification_home))
        found |= yaml.safe_load(text)
    return found


def _through(wiring: Wiring, who: int, whose: str, uri: str) -> str:
    """The URI of a database, as a member reaches it."""
    url = make_url(uri)
    if url.host is None or url.port is None:
        return uri
    host, _, port = wiring.way(who, whose, url.host, url.port).rpartition(":")
    return url.set(host=host, port=int(port)).render_as_string(hide_password=False)


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
