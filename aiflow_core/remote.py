"""The AIFlow server that the settings of clients name."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiflow_core.config import ClientSettings, client_settings
from aiflow_core.plugins import make
from aiflow_core.specs.scheduler import Scheduler


@contextmanager
def server(settings: ClientSettings | None = None) -> Iterator[Scheduler]:
    """The scheduler of the server, until the end of the block; by default as the files and the
    environment say.

    One connection for each use: nothing is left open that a fork could inherit.
    """
    address = (settings or client_settings()).server_address
    with make("aiflow.scheduler", "remote", {"server_address": address}) as scheduler:
        yield scheduler
