"""The two servers of the quickstart, set up and used through the commands that a user types."""

import json
import os
import re
import select
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROGRAMS = Path(sys.executable).parent
_START = ("server", "start")
MODULES = {"aiflow": "aiflow_core.cli", "notification": "aiflow_notification_server"}


@dataclass(frozen=True)
class TwoServers:
    """A notification server and an AIFlow server that run in the background.

    Attributes:
        home: `AIFLOW_HOME`.
        notification_home: `NOTIFICATION_HOME`.
        environment: of every command.
    """

    home: Path
    notification_home: Path
    environment: dict[str, str]

    def run(self, command: str, cwd: Path | None = None, expect: int = 0) -> str:
        """What the command prints. It must exit with `expect`."""
        program, *words = shlex.split(command)
        done = subprocess.run(
            [str(PROGRAMS / program), *words],
            env=self.environment,
            cwd=cwd or self.home,
            capture_output=True,
            text=True,
            timeout=90,
        )
        assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def rows(self, command: str) -> list[dict[str, Any]]:
        """What a `list` command shows."""
        rows: list[dict[str, Any]] = json.loads(self.run(f"{command} -o json"))
        return rows

    # --- workflows -----------------------------------------------------------------------------

    def upload(self, workflow_file: Path, *options: str) -> None:
        self.run(
            " ".join(["aiflow workflow upload", workflow_file.name, *options]),
            cwd=workflow_file.parent,
        )

    def start(self, workflow: str) -> int:
        """Start an execution of the workflow; its id."""
        said = self.run(f"aiflow workflow-execution start {workflow}")
        found = re.search(r"Workflow execution: (\d+) submitted\.", said)
        assert found, said
        return int(found[1])

    def execution(self, workflow: str, execution: int) -> dict[str, Any]:
        executions = self.rows(f"aiflow workflow-execution list {workflow}")
        return next(e for e in executions if e["id"] == execution)

    def tasks(self, execution: int) -> list[tuple[str, str]]:
        """Name and status of each task execution, oldest first."""
        rows = self.rows(f"aiflow task-execution list {execution}")
        return [(row["task_name"], row["status"]) for row in rows]

    def ended(self, workflow: str, execution: int, seconds: float = 45) -> dict[str, Any]:
        """The execution, when it has come to its end."""

        def end() -> dict[str, Any] | None:
            found = self.execution(workflow, execution)
            return found if found["status"] in ("SUCCESS", "FAILED", "STOPPED") else None

        return self.until(end, seconds, lambda: self.tasks(execution))

    def until(
        self, condition: Callable[[], Any], seconds: float = 45, facts: Callable[[], Any] = str
    ) -> Any:
        """What `condition` returns, as soon as that is something."""
        return until(condition, seconds, facts)

    def log(self, workflow: str, execution: int, task: str) -> str:
        """All that the task has written in that execution."""
        files = sorted(self.home.glob(f"logs/**/{workflow}/{execution}/{task}/*.log"))
        return "".join(file.read_text() for file in files)

    # --- processes -----------------------------------------------------------------------------

    def pid(self, program: str) -> int:
        """Process id of the server of the command `program`, which runs."""
        return int((self.home_of(program) / f"{program}_server.pid").read_text())

    def home_of(self, program: str) -> Path:
        return {"aiflow": self.home, "notification": self.notification_home}[program]

    def crash(self, program: str) -> None:
        """Kill the server with its whole process tree; it is gone on return."""
        server = psutil.Process(self.pid(program))
        kill([server, *server.children(recursive=True)])


@contextmanager
def quickstart(root: Path, **settings: str) -> Iterator[TwoServers]:
    """The deployment of the quickstart in `root`, on ports that are free.

    `settings` are lines of `aiflow_server.yaml` other than the default ones, by key. Whatever has
    become of the servers in between, at the end there is no process left of all that they started.
    """
    servers = prepared(root, **settings)
    try:
        servers.run("notification server start -d")
        servers.run("aiflow server start -d")
        yield servers
        servers.run("aiflow server stop")
        servers.run("notification server stop")
    finally:
        kill(processes_of(servers.home))


def prepared(
    root: Path, notification: Mapping[str, str] | None = None, **settings: str
) -> TwoServers:
    """The same, with servers that were not started yet.

    `notification` are lines of `notification_server.yaml` other than the default ones, by key.
    """
    home, notification_home = root / "aiflow", root / "notification_service"
    home.mkdir(parents=True)
    servers = TwoServers(
        home=home,
        notification_home=notification_home,
        environment={
            **os.environ,
            "AIFLOW_HOME": str(home),
            "NOTIFICATION_HOME": str(notification_home),
        },
    )
    servers.run("notification config init")
    servers.run("aiflow config init")
    use_free_ports(notification_home, home)
    configure(home / "aiflow_server.yaml", **settings)
    configure(notification_home / "notification_server.yaml", **notification or {})
    servers.run("notification db init")
    servers.run("aiflow db init")
    return servers


class ServerProcess:
    """One of the servers as a child of this process, which therefore sees how it ends.

    It is started without the command line in between, in about half the time, and waited for
    separately: a test may want to kill it before it is ready. `prefix` are the first words of the
    command, which say where it is to run.
    """

    def __init__(
        self, servers: TwoServers, program: str, name: str = "", prefix: Sequence[str] = ()
    ) -> None:
        self.servers = servers
        self.program = program
        self.name = name or program
        self.prefix = prefix
        self.log = servers.home_of(program) / "logs" / f"{program}.log"
        self.is_ready = False
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.program} was not started"
        return self._process.pid

    def start(self) -> None:
        """Start it; it may be ready later, or never."""
        if self._process is not None:
            self._reap()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # -P, as the command has it: a file beside the user is not imported for a module.
                [*self.prefix, sys.executable, "-P", "-m", MODULES[self.program], *_START],
                env=self.servers.environment,
                cwd=self.servers.home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Return when it serves, which it says in its only line of output."""
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while not select.select([self._process.stdout], [], [], 0.05)[0]:
            assert self.exit_code is None, f"{self.program} has ended: {self.last_words()}"
            assert time.monotonic() < deadline, f"not ready in {seconds} s: {self.last_words()}"
        said = self._process.stdout.readline().decode()
        assert "started at" in said, f"{self.program} said {said!r}: {self.last_words()}"
        self.is_ready = True

    @property
    def exit_code(self) -> int | None:
        """How it has ended by itself; None while it runs, and while it is not to."""
        return None if self._process is None else self._process.poll()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tree(self) -> list[psutil.Process]:
        """It and its children; the zygotes and the tasks have left its tree."""
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self.pid)
            return [server, *server.children(recursive=True)]
        return []

    def kill(self) -> None:
        """End it with its tree by SIGKILL; it is gone on return. Nothing when it does not run."""
        if self._process is not None:
            kill(self.tree())
            self._reap()

    def stop(self, seconds: float = 60) -> int:
        """Tell it to stop; the exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(seconds)
        self._reap()
        return code

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""

    def _reap(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self.is_ready = False
        self._process.wait()
        self._process.stdout.close()
        self._process = None


def use_free_ports(*homes: Path) -> None:
    """Write other ports than the default ones into the configuration files of the homes."""
    ports = {"50052": free_port(), "50051": free_port()}
    for file in (file for home in homes for file in home.glob("*.yaml")):
        text = file.read_text()
        for default, port in ports.items():
            text = text.replace(default, str(port))
        file.write_text(text)


def configure(file: Path, **settings: str) -> None:
    """Set keys of a configuration file."""
    text = file.read_text()
    for key, value in settings.items():
        text, count = re.subn(rf"(?m)^{key}:.*$", f"{key}: {value}", text)
        assert count == 1, key
    file.write_text(text)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(condition: Callable[[], Any], seconds: float = 45, facts: Callable[[], Any] = str) -> Any:
    """What `condition` returns, as soon as that is something."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {facts()}"
        time.sleep(0.05)
    return found


def processes_of(home: Path) -> list[psutil.Process]:
    """The living processes of a deployment: servers, zygotes, tasks and what these started.

    Each has its name in `info`, as it was just now.
    """
    return [p for p in psutil.process_iter(["environ", "name"]) if _home_of(p) == home]


def processes_below(root: Path) -> list[psutil.Process]:
    """The same of all deployments whose homes are below a directory."""
    return [
        p
        for p in psutil.process_iter(["environ", "name"])
        if (home := _home_of(p)) is not None and root in home.parents
    ]


def _home_of(process: psutil.Process) -> Path | None:
    # A zombie has no environment any more; that of a stranger cannot be seen.
    home = (process.info["environ"] or {}).get("AIFLOW_HOME")
    return None if home is None else Path(home)


def kill(processes: list[psutil.Process]) -> None:
    """End the processes with SIGKILL; they are gone on return."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: not any(map(lives, processes)), facts=lambda: processes)


def lives(process: psutil.Process) -> bool:
    """Whether it runs; a zombie, which its parent has not waited for yet, does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
