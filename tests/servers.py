"""The two servers of the quickstart, set up and used through the commands that a user types."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

PROGRAMS = Path(sys.executable).parent


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
        home = {"aiflow": self.home, "notification": self.notification_home}[program]
        return int((home / f"{program}_server.pid").read_text())

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


def prepared(root: Path, **settings: str) -> TwoServers:
    """The same, with servers that were not started yet."""
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
    servers.run("notification db init")
    servers.run("aiflow db init")
    return servers


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
    return [
        process
        for process in psutil.process_iter(["environ", "name"])
        # A zombie has no environment any more; that of a stranger cannot be seen.
        if (process.info["environ"] or {}).get("AIFLOW_HOME") == str(home)
    ]


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
