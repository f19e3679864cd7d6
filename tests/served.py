"""A deployment whose two servers run in the process of the test, and a shell before it.

A command costs a fraction of what a process for it would.
"""

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aiflow_core.app import App
from aiflow_core.plugins import make

from .commands import PROGRAMS
from .servers import free_port


@dataclass(frozen=True)
class Served:
    """Runs commands in this process.

    Attributes:
        home: `AIFLOW_HOME` and the working directory.
    """

    home: Path

    def __call__(self, command: str, code: int | None = 0) -> Result:
        """Run a line as it is typed; it must exit with `code` (None: with any), and without a
        traceback."""
        program, *words = shlex.split(command)
        result = CliRunner().invoke(PROGRAMS[program], words, prog_name=program)
        shown = f"{command}\n{result.stdout}\n{result.stderr}"
        assert code is None or result.exit_code == code, shown
        assert "Traceback" not in result.stderr, shown
        return result


@contextmanager
def served(home: Path) -> Iterator[Served]:
    """A deployment with its files in `home`, until the end of the block."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("AIFLOW_HOME", str(home))
        patch.setenv("NOTIFICATION_HOME", str(home / "notification"))
        port = free_port()
        patch.setenv("AIFLOW__SERVER__RPC_PORT", str(port))
        patch.setenv("AIFLOW__CLIENT__SERVER_ADDRESS", f"127.0.0.1:{port}")
        patch.chdir(home)
        events = make("aiflow.event_store", "sql", {"uri": f"sqlite:///{home / 'ns.db'}"})
        stack.callback(events.close)
        events.initialize()
        notification = make("aiflow.endpoint", "notification", {"port": 0})
        address = notification.start(stack, events, None)
        patch.setenv("AIFLOW__SERVER__NOTIFICATION_SERVER_URI", address)
        patch.setenv("AIFLOW__NOTIFICATION__ADVERTISED_URI", address)
        with App.configured().tables() as tables:
            tables.initialize()
        App.configured().serve(stack)
        yield Served(home)
