"""The servers of a run: real processes in a directory of their own, which end with the run."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil
import yaml

from ..servers import ServerProcess, TwoServers, kill, prepared, processes_below
from .workflows import JOURNAL_VARIABLE

ROOT = Path(__file__).parents[2]
WORKFLOWS = Path(__file__).with_name("workflows.py")

ZYGOTE = "aiflow_executor_local.zygote"

T = TypeVar("T")


class Deployment:
    """The servers, by name, and what is running of them.

    Attributes:
        servers: the processes that the run restarts, `notification` and `aiflow`.
        journal: what the tasks write.
    """

    def __init__(self, root: Path, members: TwoServers) -> None:
        self.root = root
        self.home = members
        self.servers = {
            program: ServerProcess(members, program) for program in ("notification", "aiflow")
        }
        self.journal = root / "journal"

    # --- addresses -----------------------------------------------------------------------------

    @property
    def log_uri(self) -> str:
        return str(self._setting("aiflow_server.yaml", "notification_server_uri"))

    @property
    def server_address(self) -> str:
        return str(self._setting("aiflow_client.yaml", "server_address"))

    @property
    def metadata_database(self) -> str:
        uri = str(self._setting("aiflow_server.yaml", "metadata_backend_uri"))
        return uri.replace("${AIFLOW_HOME}", str(self.home.home))

    @property
    def log_database(self) -> str:
        file = self.home.notification_home / "notification_server.yaml"
        uri = str(yaml.safe_load(file.read_text())["db_uri"])
        return uri.replace("${NOTIFICATION_HOME}", str(self.home.notification_home))

    def _setting(self, file: str, key: str) -> object:
        return yaml.safe_load((self.home.home / file).read_text())[key]

    # --- processes -----------------------------------------------------------------------------

    def start(self, wait: bool = True) -> None:
        """Start every server that does not run; with `wait`, return when all are ready."""
        for server in self.servers.values():
            if not server.runs:
                server.start()
        for server in self.servers.values():
            if wait and not server.is_ready:
                server.wait_until_ready()

    def upload(self) -> None:
        """Submit the workflows of the load."""
        self.home.upload(WORKFLOWS)

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
    metadata_database: str | None = None,
    log_database: str | None = None,
    parallelism: int = 8,
) -> Iterator[Deployment]:
    """The servers of the quickstart below `root`, not started yet. Whatever happens, no process is
    left of all that they start."""
    settings = {"local_executor_parallelism": str(parallelism)}
    if metadata_database is not None:
        settings["metadata_backend_uri"] = metadata_database
    notification = {} if log_database is None else {"db_uri": log_database}
    with _guarded(root):
        servers = prepared(root, notification, **settings)
        deployment = Deployment(root, servers)
        servers.environment[JOURNAL_VARIABLE] = str(deployment.journal)
        try:
            yield deployment
        finally:
            deployment.kill_everything()


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
