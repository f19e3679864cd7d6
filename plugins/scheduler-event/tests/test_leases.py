"""Leases: one holder at a time, and an epoch that only grows."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import update

from aiflow_scheduler_event import tables
from aiflow_scheduler_event.leases import Lease, Leases
from aiflow_scheduler_event.store import Store

TTL = 600_000
PAST = 1


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with closing(Store(database_url)) as store:
        store.initialize()
        yield store


@pytest.fixture
def leases(store: Store) -> Leases:
    return Leases(store.engine, store.uri)


def taken(leases: Leases, holder: str) -> Lease:
    lease = leases.take("scheduler", holder, TTL)
    assert lease is not None
    return lease


def let_it_run_out(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(update(tables.lease).values(expires=PAST))


def test_one_has_it_and_others_wait(leases: Leases) -> None:
    assert taken(leases, "a") == Lease("scheduler", "a", 1)

    assert leases.take("scheduler", "b", TTL) is None
    holder, left = leases.holder("scheduler") or ("", 0)
    assert holder == "a"
    assert 0 < left <= TTL
    assert leases.take("other", "b", TTL) == Lease("other", "b", 1)


def test_a_lease_that_has_run_out_goes_to_the_next_under_a_new_epoch(
    leases: Leases, store: Store
) -> None:
    first = taken(leases, "a")
    let_it_run_out(store)

    second = taken(leases, "b")

    assert second.epoch > first.epoch
    assert not leases.renew(first, TTL), "it is not his any more"
    assert leases.renew(second, TTL)
    assert leases.take("scheduler", "a", TTL) is None


def test_a_holder_who_was_started_anew_need_not_wait_for_himself(leases: Leases) -> None:
    before = taken(leases, "a")

    after = taken(leases, "a")

    assert after.epoch > before.epoch
    assert not leases.renew(before, TTL)
    assert leases.renew(after, TTL)


def test_one_that_has_run_out_is_renewed_when_nobody_took_it(leases: Leases, store: Store) -> None:
    lease = taken(leases, "a")
    let_it_run_out(store)

    assert leases.renew(lease, TTL)
    assert leases.take("scheduler", "b", TTL) is None


def test_what_is_released_can_be_taken_at_once(leases: Leases) -> None:
    first = taken(leases, "a")

    leases.release(first)
    second = taken(leases, "b")

    leases.release(first)
    assert leases.renew(second, TTL), "a release of long ago changes nothing"


def test_only_what_has_run_out_is_found_and_fenced(leases: Leases, store: Store) -> None:
    old = leases.take("worker/a", "a", TTL)
    assert old is not None
    taken(leases, "a")
    assert leases.expired("worker/") == []
    with store.engine.begin() as connection:
        assert not leases.fence(connection, old)

    let_it_run_out(store)
    fresh = leases.take("worker/b", "b", TTL)

    assert fresh is not None
    assert leases.expired("worker/") == [old]
    with store.engine.begin() as connection:
        assert leases.fence(connection, old)
    assert not leases.renew(old, TTL)
    assert leases.expired("worker/") == [Lease("worker/a", "a", old.epoch + 1)]
