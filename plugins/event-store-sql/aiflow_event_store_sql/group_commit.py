"""Group commit: what several threads append at the same time becomes durable in one transaction.

There is no thread of its own. Whoever finds nobody committing commits everything that waits, and
then passes this duty to the first of those that came meanwhile: a lone caller pays nothing, and
under load each commit takes as many lists as came during the one before.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import accumulate

from aiflow_core.errors import AIFlowError, UnavailableError
from aiflow_core.model.event import Event

Commit = Callable[[Sequence[Sequence[Event]]], list[list[Event]]]


class GroupCommit:
    """Calls `commit` with the lists of several callers, never twice at the same time.

    `commit` makes all the lists durable or none, and returns them as they now stand. It must be
    idempotent: it is repeated when a caller is interrupted who was committing for others.
    """

    def __init__(self, commit: Commit, most: int = 10_000) -> None:
        """`most` limits the events of one commit, but for a single list that is longer."""
        self._commit = commit
        self._most = most
        self._lock = threading.Lock()
        self._queue: list[_Ticket] = []
        self._someone_leads = False

    @property
    def waiting(self) -> int:
        """How many lists wait for the next commit."""
        with self._lock:
            return len(self._queue)

    def append(self, events: Sequence[Event]) -> list[Event]:
        """Have the list committed and return what `commit` returned for it."""
        ticket = _Ticket(events)
        with self._lock:
            self._queue.append(ticket)
            ticket.leads = not self._someone_leads
            self._someone_leads = True
        if not ticket.leads:
            try:
                ticket.wait()
            except BaseException:
                self._leave(ticket)
                raise
        if ticket.leads:
            self._lead()
        return ticket.outcome()

    def _lead(self) -> None:
        with self._lock:
            sizes = accumulate(len(ticket.events) for ticket in self._queue)
            taken = max(1, sum(size <= self._most for size in sizes))
            batch, self._queue = self._queue[:taken], self._queue[taken:]
        others = batch[1:]  # this caller's own ticket is the first
        try:
            self._settle(batch)
        finally:
            with self._lock:
                # Unsettled after an interruption: the next one commits theirs.
                self._queue[:0] = [t for t in others if not (t.settled or t.abandoned)]
            # First the one who keeps the disk busy, then those who only return.
            self._pass_on()
            for ticket in others:
                if ticket.settled:
                    ticket.wake()

    def _settle(self, batch: "Sequence[_Ticket]") -> None:
        try:
            results = self._commit([ticket.events for ticket in batch])
        except UnavailableError as error:
            # The database is away for each of them; trying one by one would only take longer.
            for ticket in batch:
                ticket.settle(error=error)
        except Exception as error:
            if len(batch) == 1:
                batch[0].settle(error=error)
                return
            # One list may have spoilt it for the others.
            for ticket in batch:
                self._settle([ticket])
        else:
            for ticket, result in zip(batch, results, strict=True):
                ticket.settle(result)

    def _pass_on(self) -> None:
        with self._lock:
            if not self._queue:
                self._someone_leads = False
                return
            successor = self._queue[0]
            successor.leads = True
        successor.wake()

    def _leave(self, ticket: "_Ticket") -> None:
        with self._lock:
            ticket.abandoned = True
            if ticket in self._queue:
                self._queue.remove(ticket)
        if ticket.leads:
            self._pass_on()


class _Ticket:
    """One caller's list and what became of it."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events = events
        self.leads = False
        self.abandoned = False
        self.settled = False
        self._result: list[Event] = []
        self._error: Exception | None = None
        self._turn = threading.Lock()
        self._turn.acquire()

    def wait(self) -> None:
        """Block until `wake`, which comes once: the list is settled, or its caller now leads."""
        self._turn.acquire()

    def wake(self) -> None:
        self._turn.release()

    def settle(self, result: list[Event] | None = None, error: Exception | None = None) -> None:
        self._result, self._error = result or [], error
        self.settled = True

    def outcome(self) -> list[Event]:
        if isinstance(self._error, UnavailableError):
            # One for each caller: threads must not share a traceback.
            raise AIFlowError.from_wire(self._error.to_wire()) from self._error
        if self._error:
            raise self._error
        return self._result
