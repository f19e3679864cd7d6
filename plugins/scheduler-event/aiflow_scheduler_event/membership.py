"""This server among those on one database: whether it leads, and that it lives.

One server leads: it takes in the events and decides. The others stand by, answer requests, and look
after the attempts that they have claimed. With `ha` each server also holds a lease as a worker. The
executor ends what it runs well before that lease runs out; so when it has run out, the leader may
give up for lost what the server had claimed. A machine that was started anew is another worker:
what the one before had claimed went down with it, and with it what it knew of that.
"""

import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aiflow_core.clock import Clock
from aiflow_core.errors import ConflictError, UnavailableError
from aiflow_scheduler_event.leases import Lease, Leases

log = logging.getLogger(__name__)

LEADER = "scheduler"
WORKER = "worker/"

# Of the time that a lease lasts, the part after which attempts that nobody has renewed are ended.
_LIVES = 2 / 3

_LONGEST_PAUSE = 1.0


@dataclass(frozen=True)
class Heartbeats:
    """How a server says that it lives and can look after its tasks, and how others notice when it
    does not. All in seconds.

    Attributes:
        timeout: that the lease of a worker lasts.
        interval: between two renewals of it, a third of that at most; 0 is as often as possible.
        check_interval: between two looks of the leader for leases that have run out; likewise.
    """

    timeout: float
    interval: float = 0.0
    check_interval: float = 0.0

    @property
    def renew_every(self) -> float:
        return min(self.interval, self.timeout / 3)


class _Pace:
    """Says when it is time for something again."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._last: float | None = None

    def is_due(self) -> bool:
        now = self._clock.monotonic()
        return self._last is None or now - self._last >= self._seconds

    def done(self) -> None:
        self._last = self._clock.monotonic()


class Membership:
    """Keeps the leases of this server. `run` is the body of a thread.

    Args:
        server: names this server; the same after a restart.
        worker: names it as long as its machine is up.
        ttl: seconds that the lease of the leader lasts.
        heartbeats: of this server as a worker.
        ha: there may be other servers.
        renew: told until when (of the monotonic clock) the attempts of this server may live.
        given_up: called when the others have done so with this server, before it comes back; when
            it returns, what this server had claimed has ended, or is another's.
        look_after_own: called again and again, for what other servers want of this one.
        lost: told of each worker's lease that has run out, as long as this server leads.
    """

    def __init__(
        self,
        leases: Leases,
        clock: Clock,
        server: str,
        worker: str,
        *,
        ttl: float,
        heartbeats: Heartbeats,
        ha: bool,
        renew: Callable[[float], None],
        given_up: Callable[[], None],
        look_after_own: Callable[[], None],
        lost: Callable[[Lease], None],
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._server = server
        self._name = worker
        self._ttl = ttl
        self._heartbeats = heartbeats
        self._renewal = _Pace(clock, heartbeats.renew_every)
        self._check = _Pace(clock, heartbeats.check_interval)
        self._ha = ha
        self._renew = renew
        self._was_given_up = given_up
        self._look_after_own = look_after_own
        self._lost = lost
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._leads: Lease | None = None
        self._worker: Lease | None = None
        self._away = False
        self._given_up: set[str] = set()

    # --- what others ask -----------------------------------------------------------------------

    @property
    def epoch(self) -> int | None:
        """The epoch in which this server leads, None while it stands by."""
        leads = self._leads
        return None if leads is None else leads.epoch

    @property
    def worker(self) -> Lease:
        """The lease under which attempts may be claimed. `UnavailableError` while there is none."""
        if self._worker is None:
            raise UnavailableError("This server has no lease yet.")
        return self._worker

    def wait(self, cancelled: threading.Event) -> int | None:
        """Wait until this server leads; its epoch, or None when it does not and `cancelled` is set.

        Who sets that calls `wake` afterwards.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._leads is not None or cancelled.is_set())
            return self.epoch

    def wake(self) -> None:
        """Let who waits look again whether he should."""
        with self._changed:
            self._changed.notify_all()

    def fenced(self, epoch: int) -> None:
        """A write of that epoch was refused: somebody else leads."""
        if self.epoch == epoch:
            self._lead(None)

    # --- life ----------------------------------------------------------------------------------

    def join(self) -> None:
        """Look around for the first time. `ConflictError` when another server leads and this one is
        not to stand by."""
        self.attend()
        if self._ha or self._leads is not None:
            return
        held = self._leases.holder(LEADER)
        if held is not None and held[0] != self._server:
            raise ConflictError(
                "Another AIFlow server schedules on this database.",
                next_step="Stop it, or let both have `enable_ha: true`. If it has crashed, this "
                f"one can start in {max(0, held[1]) / 1000:.0f} s.",
            )

    def run(self) -> None:
        """Keep the leases until closed, then give them up."""
        while not self._closed.is_set():
            self._clock.wait(self._closed, self._pause)
            if not self._closed.is_set():
                self.attend()
        self._leave()

    def close(self) -> None:
        """End `run`."""
        self._closed.set()

    def attend(self) -> None:
        """Renew what this server holds, and take what it can get."""
        try:
            if self._ha and (self._worker is None or self._renewal.is_due()):
                self._work()
            self._attend_leadership()
            if self._ha:
                self._look_after_own()
            if self._ha and self._leads is not None and self._check.is_due():
                self._look_after_others()
                self._check.done()
            self._away = False
        except UnavailableError as error:
            if not self._away:
                log.warning("The leases cannot be renewed, trying again: %s", error)
            self._away = True

    def _work(self) -> None:
        before = self._clock.monotonic()
        if self._worker is not None and not self._leases.renew(self._worker, self._timeout_ms):
            log.warning("This server was given up for lost; what it ran is ended")
            self._worker = None
            self._was_given_up()
            before = self._clock.monotonic()
        if self._worker is None:
            self._worker = self._leases.take(WORKER + self._name, self._name, self._timeout_ms)
        if self._worker is not None:
            self._renew(before + self._heartbeats.timeout * _LIVES)
            self._renewal.done()

    def _attend_leadership(self) -> None:
        if self._leads is not None:
            if not self._leases.renew(self._leads, self._ttl_ms):
                self._lead(None)
            return
        taken = self._leases.take(LEADER, self._server, self._ttl_ms)
        if taken is not None:
            self._lead(taken)

    def _lead(self, lease: Lease | None) -> None:
        with self._changed:
            self._leads = lease
            self._given_up.clear()
            self._changed.notify_all()
        if lease is None:
            log.warning("Another server schedules now; this one stands by")
        else:
            log.info("This server schedules, in epoch %d", lease.epoch)

    def _look_after_others(self) -> None:
        expired = {lease.name: lease for lease in self._leases.expired(WORKER)}
        self._given_up &= expired.keys()  # the others have been heard of again
        for name in sorted(expired.keys() - self._given_up):
            if expired[name].holder != self._name:
                self._lost(expired[name])
                self._given_up.add(name)

    def _leave(self) -> None:
        try:
            if self._ha and self._worker is not None:
                # For the last time: until the next start nobody will.
                self._work()
            if self._leads is not None:
                self._leases.release(self._leads)
        except UnavailableError as error:
            log.warning("The leases run out by themselves: %s", error)

    @property
    def _pause(self) -> float:
        if not self._ha:
            return min(self._ttl / 3, 10.0)
        return min(self._ttl / 3, self._heartbeats.timeout / 3, _LONGEST_PAUSE)

    @property
    def _ttl_ms(self) -> int:
        return round(self._ttl * 1000)

    @property
    def _timeout_ms(self) -> int:
        return round(self._heartbeats.timeout * 1000)


def name_of(home: Path) -> str:
    """The name of the server that has this home, made when it is asked for first."""
    file = home / "server_id"
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f".server_id.{uuid.uuid4().hex}"
        draft.write_text(uuid.uuid4().hex)
        draft.rename(file)
        return file.read_text().strip()


def worker_of(home: Path) -> str:
    """The name of that server until its machine is started anew."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    # Elsewhere than on Linux there is no executor that could be told so.
    return f"{name_of(home)}.{boot.read_text().strip()[:8] if boot.exists() else ''}"
