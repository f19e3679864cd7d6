"""Of several servers, one runs an attempt; and what it ran is found when it is gone."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import update

from aiflow_core.errors import UnavailableError
from aiflow_core.model.execution import AttemptKey
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.status import TaskStatus
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.claims import Claimed, Claims
from aiflow_scheduler_event.leases import Lease, Leases
from aiflow_scheduler_event.store import Store

from .play import Play, task
from .test_store import replay

TTL = 600_000


class Stage:
    """A store in which a task waits, and two servers that want it.

    Attributes:
        key: the attempt.
        one, other: the leases of the servers.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.leases = Leases(store.engine, store.uri)
        self.claims = Claims(store.engine, store.uri, self.leases)
        self.one, self.other = self._lease("one"), self._lease("other")
        self.play = Play(task("a", retries=1))
        self.play.start()
        self.key = self.play.attempt("a")
        self.write()

    def _lease(self, name: str) -> Lease:
        lease = self.leases.take(f"worker/{name}", name, TTL)
        assert lease is not None
        return lease

    def write(self) -> None:
        """Bring the store to where the play is."""
        replay(self.store, self.play.log)

    def let_run_out(self, lease: Lease) -> None:
        with self.store.engine.begin() as connection:
            connection.execute(
                update(tables.lease).where(tables.lease.c.name == lease.name).values(expires=1)
            )


@pytest.fixture
def stage(database_url: str) -> Iterator[Stage]:
    with closing(Store(database_url)) as store:
        store.initialize()
        yield Stage(store)


def test_the_first_who_claims_an_attempt_has_it_however_often_he_asks(stage: Stage) -> None:
    assert stage.claims.claim(stage.key, stage.one)

    assert not stage.claims.claim(stage.key, stage.other)
    assert stage.claims.claim(stage.key, stage.one)
    assert set(stage.claims.workers().values()) == {"one"}


def test_what_does_not_wait_any_more_cannot_be_claimed(stage: Stage) -> None:
    stage.play.stop()
    stage.write()

    assert not stage.claims.claim(stage.key, stage.one)


def test_without_a_lease_nothing_is_claimed(stage: Stage) -> None:
    stage.let_run_out(stage.one)

    with pytest.raises(UnavailableError, match="lost its lease"):
        stage.claims.claim(stage.key, stage.one)

    assert stage.claims.claim(stage.key, stage.other)


def test_a_lease_of_before_is_none(stage: Stage) -> None:
    again = stage.leases.take("worker/one", "one", TTL)
    assert again is not None

    with pytest.raises(UnavailableError):
        stage.claims.claim(stage.key, stage.one)
    assert stage.claims.claim(stage.key, again)


def test_the_next_attempt_is_anybodys(stage: Stage) -> None:
    assert stage.claims.claim(stage.key, stage.one)
    stage.play.run("a")
    stage.play.fail("a")
    stage.play.pass_time(1)
    stage.write()
    second = stage.play.attempt("a")

    assert second.try_number == 2
    assert stage.claims.claim(second, stage.other)
    assert not stage.claims.claim(stage.key, stage.one), "of the first nobody asks any more"


def test_who_has_claimed_an_attempt_stops_it(stage: Stage) -> None:
    assert stage.claims.claim(stage.key, stage.one)
    stage.play.run("a")
    stage.play.act(TaskAction.STOP, "a")
    stage.write()

    assert not stage.claims.claim_stop(stage.key, stage.other)
    assert stage.claims.claim_stop(stage.key, stage.one)
    executions = [stage.key.workflow_execution_id]
    assert stage.claims.stopping("one", executions) == [stage.key]
    assert stage.claims.stopping("other", executions) == []


def test_what_nobody_has_claimed_is_stopped_by_whoever_comes_first(stage: Stage) -> None:
    stage.play.act(TaskAction.STOP, "a")
    stage.write()

    assert stage.claims.claim_stop(stage.key, stage.other)
    assert not stage.claims.claim_stop(stage.key, stage.one)


def test_without_a_lease_nothing_is_claimed_to_be_stopped(stage: Stage) -> None:
    stage.play.act(TaskAction.STOP, "a")
    stage.write()
    stage.let_run_out(stage.one)
    stage.claims.give_up(stage.one)

    with pytest.raises(UnavailableError, match="lost its lease"):
        stage.claims.claim_stop(stage.key, stage.one)

    assert stage.claims.claim_stop(stage.key, stage.other)


def test_what_a_server_ran_that_is_gone_is_given_up(stage: Stage) -> None:
    assert stage.claims.claim(stage.key, stage.one)
    stage.play.run("a")
    stage.write()
    stage.claims.give_up(stage.one)
    assert stage.claims.lost() == [], "it has been heard of"

    stage.let_run_out(stage.one)
    stage.claims.give_up(stage.one)

    assert stage.claims.lost() == [Claimed(stage.key, "default", "flow")]
    assert not stage.leases.renew(stage.one, TTL)
    stage.play.fail("a")
    stage.write()
    assert stage.claims.lost() == [], "everybody knows"


def test_what_was_given_up_its_server_does_not_get_again(stage: Stage) -> None:
    assert stage.claims.claim(stage.key, stage.one)
    stage.let_run_out(stage.one)
    stage.claims.give_up(stage.one)

    again = stage.leases.take("worker/one", "one", TTL)

    assert again is not None
    assert not stage.claims.claim(stage.key, again)
    assert stage.claims.lost() == [Claimed(stage.key, "default", "flow")]


def test_where_others_see_it_as_well_it_is_inherited(stage: Stage) -> None:
    assert stage.claims.claim(stage.key, stage.one)
    stage.claims.inherit(stage.one, "other")
    assert set(stage.claims.workers().values()) == {"one"}, "it has been heard of"
    stage.let_run_out(stage.one)

    stage.claims.inherit(stage.one, "other")

    assert set(stage.claims.workers().values()) == {"other"}
    assert stage.claims.claim(stage.key, stage.other)


def test_nothing_is_known_of_an_attempt_that_is_not_there(stage: Stage) -> None:
    nobody = AttemptKey(99, "a", 1)

    assert not stage.claims.claim(nobody, stage.one)
    assert not stage.claims.claim_stop(nobody, stage.one)
    assert TaskStatus.QUEUED in {live.status for live in stage.play.alive()}
