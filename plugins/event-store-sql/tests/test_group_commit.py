"""Several callers, one commit."""

import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiflow_core.errors import NoRoomError
from aiflow_core.model.event import Event
from aiflow_event_store_sql.group_commit import GroupCommit


class Log:
    """Remembers what was committed; holds up the first commit until it is told to go on."""

    def __init__(self) -> None:
        self.commits: list[list[str]] = []
        self.threads: list[int] = []
        self.go_on = threading.Event()
        self.begun = threading.Event()

    def commit(self, lists: Sequence[Sequence[Event]]) -> list[list[Event]]:
        self.begun.set()
        assert self.go_on.wait(20)
        keys = [event.key for events in lists for event in events]
        self.threads.append(threading.get_ident())
        self.commits.append(keys)
        if len(self.commits) == 2:
            self.at_the_second(keys)
        return [list(events) for events in lists]

    def at_the_second(self, keys: list[str]) -> None:
        """What goes wrong in the first commit that is for several."""


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(10)


def await_waiting(group: GroupCommit, count: int) -> None:
    deadline = time.monotonic() + 20
    while group.waiting != count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def append_while_the_first_is_held_up(
    group: GroupCommit, log: Log, pool: ThreadPoolExecutor, keys: str
) -> list["object"]:
    """The outcomes of the first caller and of those that came while he was committing, in order."""
    futures = [pool.submit(group.append, [Event("first")])]
    assert log.begun.wait(20)
    for count, key in enumerate(keys, 1):
        futures.append(pool.submit(group.append, [Event(key)]))
        await_waiting(group, count)
    log.go_on.set()
    return [future.exception(20) or future.result() for future in futures]


def test_a_lone_caller_commits_in_his_own_thread(log: Log) -> None:
    log.go_on.set()
    group = GroupCommit(log.commit)

    assert group.append([Event("a")]) == [Event("a")]
    assert group.append([Event("b")]) == [Event("b")]

    assert log.threads == [threading.get_ident()] * 2


def test_those_who_come_during_a_commit_go_together_in_the_next(
    log: Log, pool: ThreadPoolExecutor
) -> None:
    group = GroupCommit(log.commit)

    outcomes = append_while_the_first_is_held_up(group, log, pool, "abcde")

    assert log.commits == [["first"], [*"abcde"]]
    assert outcomes == [[Event(key)] for key in ("first", *"abcde")]


def test_no_more_wait_than_there_are_callers_however_much_they_append(
    log: Log, pool: ThreadPoolExecutor
) -> None:
    group = GroupCommit(log.commit)
    lengths: list[int] = []

    def append_many() -> None:
        for n in range(50):
            group.append([Event(str(n))])
            lengths.append(group.waiting)

    log.go_on.set()
    callers = [pool.submit(append_many) for _ in range(10)]
    for caller in callers:
        caller.result(20)

    assert max(lengths) < len(callers)
    assert sum(map(len, log.commits)) == 500


def test_a_commit_takes_no_more_than_it_may(log: Log, pool: ThreadPoolExecutor) -> None:
    group = GroupCommit(log.commit, most=2)

    append_while_the_first_is_held_up(group, log, pool, "abcde")

    assert log.commits == [["first"], ["a", "b"], ["c", "d"], ["e"]]


def test_a_list_that_is_longer_than_a_commit_may_be_goes_alone(log: Log) -> None:
    log.go_on.set()
    group = GroupCommit(log.commit, most=2)

    assert len(group.append([Event("a"), Event("b"), Event("c")])) == 3


def test_a_list_that_cannot_be_stored_does_not_spoil_the_others(pool: ThreadPoolExecutor) -> None:
    class Picky(Log):
        def commit(self, lists: Sequence[Sequence[Event]]) -> list[list[Event]]:
            result = super().commit(lists)
            if any(event.key == "b" for events in lists for event in events):
                raise ValueError("b")
            return result

    log = Picky()
    group = GroupCommit(log.commit)

    _, a, b, c = append_while_the_first_is_held_up(group, log, pool, "abc")

    assert (a, c) == ([Event("a")], [Event("c")])
    assert isinstance(b, ValueError)


def test_when_the_database_has_no_room_all_are_told_so_and_nobody_tries_alone(
    pool: ThreadPoolExecutor,
) -> None:
    class Full(Log):
        def at_the_second(self, keys: list[str]) -> None:
            raise NoRoomError("The database is full.", next_step="Wait.")

    log = Full()
    group = GroupCommit(log.commit)

    _, *errors = append_while_the_first_is_held_up(group, log, pool, "abc")

    assert log.commits == [["first"], ["a", "b", "c"]]
    assert [str(error) for error in errors] == ["The database is full. Wait."] * 3
    assert {type(error) for error in errors} == {NoRoomError}
    assert len(set(map(id, errors))) == 3
    assert group.append([Event("later")]) == [Event("later")]


def test_when_the_one_who_commits_is_interrupted_another_commits_for_the_rest(
    pool: ThreadPoolExecutor,
) -> None:
    class Interrupted(Log):
        def at_the_second(self, keys: list[str]) -> None:
            raise KeyboardInterrupt

    log = Interrupted()
    group = GroupCommit(log.commit)

    _, a, b, c = append_while_the_first_is_held_up(group, log, pool, "abc")

    assert isinstance(a, KeyboardInterrupt)
    assert (b, c) == ([Event("b")], [Event("c")])
    assert log.commits == [["first"], ["a", "b", "c"], ["b", "c"]]


def test_one_who_is_interrupted_while_he_waits_leaves_the_queue(
    log: Log, pool: ThreadPoolExecutor
) -> None:
    group = GroupCommit(log.commit)
    first = pool.submit(group.append, [Event("first")])
    assert log.begun.wait(20)
    main = threading.get_ident()

    def interrupt() -> None:
        await_waiting(group, 1)
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = pool.submit(interrupt)
    with pytest.raises(KeyboardInterrupt):
        group.append([Event("mine")])
    interrupter.result(20)
    log.go_on.set()

    assert first.result(20) == [Event("first")]
    assert group.append([Event("later")]) == [Event("later")]
    assert log.commits == [["first"], ["later"]]
