"""Endpoint: lets others reach a deployment over a network."""

from abc import ABC, abstractmethod
from contextlib import ExitStack

from aiflow_core.specs.event_store import EventStore
from aiflow_core.specs.scheduler import Scheduler


class Endpoint(ABC):
    """Serves an event store or a scheduler at an address.

    Constructor keywords are the endpoint's settings; they say where to listen.
    """

    @abstractmethod
    def start(self, stack: ExitStack, events: EventStore, scheduler: Scheduler | None) -> str:
        """Listen, hang the clean-up on `stack`, and return the address as `host:port`.

        Returns when requests are answered. `ConflictError` when the port is in use.
        """
