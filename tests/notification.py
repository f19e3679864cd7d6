"""Notification servers as processes, any number on one database."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LogServer:
    """A notification server that was started.

    Attributes:
        address: where it listens.
    """

    process: "subprocess.Popen[str]"
    address: str

    def await_death(self) -> None:
        self.process.wait(20)


@contextmanager
def log_server(
    home: Path, db_uri: str, crash_at: str = "", under: Sequence[str] = (), **settings: object
) -> Iterator[LogServer]:
    """A server with its settings in `home`, on a database that has its tables. Whatever has become
    of it, it is gone at the end.

    `crash_at` is the crash point at which it dies, `under` a command that runs it, `settings` are
    lines of its file.
    """
    home.mkdir(exist_ok=True)
    lines = {"db_uri": db_uri, "server_port": 0} | settings
    file = home / "notification_server.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    with ExitStack() as stack:
        log = stack.enter_context((home / "log").open("a+"))
        process = subprocess.Popen(
            [*under, sys.executable, "-P", "-m", "aiflow_notification_server", "server", "start"],
            env=os.environ | {"NOTIFICATION_HOME": str(home), "AIFLOW_CRASH_AT": crash_at},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdout
        said = process.stdout.readline()
        started = re.search(r"started at (\S+)\.$", said)
        assert started, f"The server did not start: {said}{(home / 'log').read_text()}"
        yield LogServer(process, started[1])
