"""This server among those that serve the same log."""

import logging
import threading
from contextlib import ExitStack

from aiflow_core.clock import Clock
from aiflow_core.errors import UnavailableError
from aiflow_core.specs.event_store import KeepsMembers

log = logging.getLogger(__name__)


class Membership:
    """Keeps the address of this server with the log, for as long as it runs.

    It says that it lives three times while others would still believe it, so that one failure does
    no harm. One that dies is forgotten when its time is over; while it is paused, too, and known
    again when it goes on.
    """

    def __init__(self, log: KeepsMembers, uri: str, ttl_ms: int, clock: Clock) -> None:
        self._log = log
        self._uri = uri
        self._ttl_ms = ttl_ms
        self._clock = clock
        self._stopped = threading.Event()

    def start(self, stack: ExitStack) -> None:
        """Be known from now on until the stack is closed. `UnavailableError` when the log is."""
        self._log.join(self._uri, self._ttl_ms)
        stack.callback(self._leave)
        thread = threading.Thread(target=self._run, name="membership", daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(self._stopped.set)

    def _run(self) -> None:
        failing = False
        while not self._clock.wait(self._stopped, self._ttl_ms / 3000):
            try:
                self._log.join(self._uri, self._ttl_ms)
                failing = False
            except UnavailableError as error:
                if not failing:
                    log.warning("Clients may think that this server has died: %s", error)
                failing = True

    def _leave(self) -> None:
        try:
            self._log.leave(self._uri)
        except UnavailableError as error:
            log.warning("Clients will try this server for %s ms more: %s", self._ttl_ms, error)
