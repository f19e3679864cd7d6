"""Ids of clients: unique and growing without a table that would grow with them."""

import secrets
import threading

from aiflow_core.clock import Clock

_RANDOM_BITS = 20
_REMEMBERED = 10_000
_OLDEST = 1_700_000_000_000 << _RANDOM_BITS  # a moment before the first id of this form


class ClientIds:
    """Gives out ids of 63 bits: the time in milliseconds above, chance below.

    Whether an id was ever given is read off the id itself, so that a client may come back to a
    server that was restarted; only the last few thousand that were given back are remembered.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        self._deleted: dict[int, None] = {}

    def new(self) -> int:
        """An id that was never given before, larger than those before."""
        with self._lock:
            chance = secrets.randbits(_RANDOM_BITS)
            self._last = max(self._last + 1, (self._clock.now_ms() << _RANDOM_BITS) + chance)
            return self._last

    def delete(self, client_id: int) -> None:
        """The client of that id is gone."""
        with self._lock:
            self._deleted[client_id] = None
            if len(self._deleted) > _REMEMBERED:
                del self._deleted[next(iter(self._deleted))]

    def exists(self, client_id: int) -> bool:
        """Whether the id can have been given and was not given back."""
        with self._lock:
            newest = max(self._last, (self._clock.now_ms() + 1) << _RANDOM_BITS)
            return _OLDEST < client_id <= newest and client_id not in self._deleted
