"""The signs of life of a server, at the pace that its settings say."""

from collections.abc import Callable

import pytest

from aiflow_core.testing.clock import ManualClock
from aiflow_scheduler_event.leases import Lease
from aiflow_scheduler_event.membership import LEADER, WORKER, Heartbeats, Membership


class Book:
    """Leases that anybody gets who asks; notes when, in seconds."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.renewals: list[float] = []
        self.looks: list[float] = []
        self.ttls: dict[str, set[int]] = {}

    def take(self, name: str, holder: str, ttl_ms: int) -> Lease:
        self.ttls.setdefault(name, set()).add(ttl_ms)
        return Lease(name, holder, 1)

    def renew(self, lease: Lease, ttl_ms: int) -> bool:
        self.ttls[lease.name].add(ttl_ms)
        if lease.name.startswith(WORKER):
            self.renewals.append(self._clock.monotonic())
        return True

    def expired(self, prefix: str) -> list[Lease]:
        self.looks.append(self._clock.monotonic())
        return []


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def book(clock: ManualClock) -> Book:
    return Book(clock)


@pytest.fixture
def minute(clock: ManualClock, book: Book) -> Callable[[Heartbeats], list[float]]:
    """Lets a server live for a minute; until when, each time, its tasks may live."""

    def minute(heartbeats: Heartbeats) -> list[float]:
        leases: list[float] = []
        member = Membership(
            *(book, clock, "server", "worker"),  # type: ignore[arg-type]
            ttl=9,
            heartbeats=heartbeats,
            ha=True,
            renew=leases.append,
            given_up=lambda: None,
            look_after_own=lambda: None,
            lost=lambda lease: None,
        )
        for _ in range(61):
            member.attend()
            clock.advance(1)
        return leases

    return minute


def test_the_lease_of_tasks_lasts_for_the_time_out_that_of_the_leader_does_not(
    book: Book, minute: Callable[[Heartbeats], list[float]]
) -> None:
    leases = minute(Heartbeats(60))

    assert book.ttls == {LEADER: {9_000}, f"{WORKER}worker": {60_000}}
    assert leases[0] == 40, "tasks are ended when two thirds of it are over"


def test_it_is_renewed_at_the_interval(
    book: Book, minute: Callable[[Heartbeats], list[float]]
) -> None:
    minute(Heartbeats(60, interval=10))

    assert book.renewals == [10, 20, 30, 40, 50, 60]


def test_but_no_later_than_at_a_third_of_the_time_out(
    book: Book, minute: Callable[[Heartbeats], list[float]]
) -> None:
    minute(Heartbeats(60, interval=1000))

    assert book.renewals == [20, 40, 60]


def test_the_leader_looks_for_those_that_are_lost_at_the_check_interval(
    book: Book, minute: Callable[[Heartbeats], list[float]]
) -> None:
    minute(Heartbeats(60, check_interval=15))

    assert book.looks == [0, 15, 30, 45, 60]
