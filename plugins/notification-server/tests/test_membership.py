"""Servers of one log tell clients of each other."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from queue import Queue

import grpc
import pytest

from aiflow_core.errors import ConfigError, UnavailableError
from aiflow_core.model.event import Event
from aiflow_core.specs.event_store import KeepsMembers, Member
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import Follower, MemoryEventStore
from aiflow_notification_server.endpoint import NotificationEndpoint
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.membership import Membership
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)


class SharedLog(MemoryEventStore, KeepsMembers):
    """Knows its servers, unless it is away."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.clock = clock
        self.away = False
        self.known: dict[str, tuple[int, int]] = {}
        self.joins: Queue[str] = Queue()

    def join(self, uri: str, ttl_ms: int) -> None:
        try:
            self._answer()
            self.known[uri] = (self.clock.now_ms(), self.clock.now_ms() + ttl_ms)
        finally:
            self.joins.put(uri)

    def leave(self, uri: str) -> None:
        self._answer()
        del self.known[uri]

    def members(self) -> list[Member]:
        self._answer()
        now = self.clock.now_ms()
        return [Member(uri, seen) for uri, (seen, end) in sorted(self.known.items()) if end >= now]

    def _answer(self) -> None:
        if self.away:
            raise UnavailableError("The database is away.")


@pytest.fixture
def log(clock: ManualClock) -> SharedLog:
    return SharedLog(clock)


def members(address: str) -> tuple[int, Sequence[str]]:
    """Return code, and what the server at the address says."""
    with grpc.insecure_channel(address) as channel:
        answer = NotificationServiceStub(channel).listMembers(pb.ListMembersRequest())
    return answer.return_code, [member.server_uri for member in answer.members]


def start(log: SharedLog, stack: ExitStack) -> None:
    """Be known for nine seconds at a time."""
    Membership(log, "a:1", 9_000, log.clock).start(stack)
    log.joins.get(timeout=20)


def beat(log: SharedLog, times: int) -> None:
    """Let three seconds pass, so often, in each of which the server tries to say that it lives."""
    for _ in range(times):
        log.clock.await_waiters()
        log.clock.advance(3)
        log.joins.get(timeout=20)


def test_a_server_is_known_as_long_as_it_runs(log: SharedLog, clock: ManualClock) -> None:
    with ExitStack() as stack:
        start(log, stack)
        beat(log, times=10)

        assert log.members() == [Member("a:1", clock.now_ms())]

    assert log.known == {}


def test_a_log_that_is_away_for_a_while_is_told_again(
    log: SharedLog, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        start(log, stack)
        log.away = True
        beat(log, times=4)
        log.away = False
        assert log.members() == []

        beat(log, times=1)

        assert [member.uri for member in log.members()] == ["a:1"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_log_that_is_away_at_the_end_is_no_reason_not_to_end(
    log: SharedLog, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        start(log, stack)
        log.away = True

    assert "for 9000 ms more" in caplog.text


def test_each_server_tells_of_all_of_them_until_they_stop(log: SharedLog, stack: ExitStack) -> None:
    one = NotificationEndpoint(port=0, enable_ha=True).start(stack, log)
    with ExitStack() as its_own:
        other = NotificationEndpoint(port=0, enable_ha=True).start(its_own, log)
        assert members(one) == members(other) == (pb.SUCCESS, sorted([one, other]))

    assert members(one) == (pb.SUCCESS, [one])


def test_a_client_that_was_told_one_address_goes_on_at_the_other(
    log: SharedLog, stack: ExitStack
) -> None:
    with ExitStack() as its_own:
        one = NotificationEndpoint(port=0, enable_ha=True).start(its_own, log)
        NotificationEndpoint(port=0, enable_ha=True).start(stack, log)
        store = RemoteEventStore(one)
        stack.callback(store.close)
        follower = stack.enter_context(Follower(store.subscribe(0)))
        stored = store.append([Event("a")])
        heard = follower.take(1)

    stored += store.append([Event("b")])

    assert heard + follower.take(1) == stored == log.read()


def test_a_client_does_not_go_to_an_address_at_which_a_lone_server_may_be_for_others(
    log: SharedLog, stack: ExitStack
) -> None:
    with ExitStack() as its_own:
        address = NotificationEndpoint(port=0).start(its_own, log)
    with ExitStack() as its_own:
        port = int(address.rpartition(":")[2])
        NotificationEndpoint(port=port, advertised_uri="x.example:1").start(its_own, log)
        store = RemoteEventStore(address, timeout=0.2)
        stack.callback(store.close)
        store.append([Event("a")])

    with pytest.raises(UnavailableError) as caught:
        store.append([Event("b")])

    assert "x.example" not in str(caught.value)


def test_a_server_without_ha_is_not_known_and_knows_itself_only(
    log: SharedLog, stack: ExitStack
) -> None:
    known = NotificationEndpoint(port=0, enable_ha=True).start(stack, log)
    alone = NotificationEndpoint(port=0, advertised_uri="x.example:1")
    with ExitStack() as its_own:
        assert alone.start(its_own, log) == "x.example:1"
        assert members(known) == (pb.SUCCESS, [known])


def test_a_log_that_cannot_be_asked_for_its_servers_is_an_error_in_the_answer(
    log: SharedLog, stack: ExitStack
) -> None:
    address = NotificationEndpoint(port=0, enable_ha=True).start(stack, log)
    log.away = True

    assert members(address) == (pb.ERROR, [])
    log.away = False


def test_a_log_that_keeps_no_servers_is_refused(stack: ExitStack) -> None:
    endpoint = NotificationEndpoint(port=0, enable_ha=True)

    with pytest.raises(ConfigError, match="MemoryEventStore does not tell servers of each other"):
        endpoint.start(stack, MemoryEventStore())


def test_an_address_that_means_something_else_on_each_machine_is_refused(
    log: SharedLog, stack: ExitStack
) -> None:
    endpoint = NotificationEndpoint(host="0.0.0.0", port=0, enable_ha=True)

    with pytest.raises(ConfigError, match="means each of them itself") as caught:
        endpoint.start(stack, log)

    assert "`advertised_uri`" in caught.value.next_step
