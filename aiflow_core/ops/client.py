"""The AIFlow server, as the operations reach it."""

from abc import ABC
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from aiflow_core import remote
from aiflow_core.specs.scheduler import (
    DeadLetterOperations,
    ExplanationOperations,
    LogOperations,
    NamespaceOperations,
    ScheduleOperations,
    Scheduler,
    SnapshotOperations,
    StateOperations,
    TriggerOperations,
)


class Server(
    Scheduler,
    NamespaceOperations,
    ScheduleOperations,
    TriggerOperations,
    SnapshotOperations,
    StateOperations,
    LogOperations,
    DeadLetterOperations,
    ExplanationOperations,
    ABC,
):
    """Every contract of a scheduler. What the one over there does not offer, it says itself."""


@contextmanager
def server() -> Iterator[Server]:
    """The server that the settings name."""
    with remote.server() as scheduler:
        yield cast(Server, scheduler)
