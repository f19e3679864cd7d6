"""A log over the network keeps every promise of a log."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import grpc
import pytest

from aiflow_core.clock import Clock
from aiflow_core.errors import AIFlowError, ConfigError, UnavailableError
from aiflow_core.model.event import Event, EventFilter
from aiflow_core.specs.event_store import EventStore
from aiflow_core.testing.event_store import DurableEventStoreContract, Follower, MemoryEventStore
from aiflow_notification_server.connection import Connection
from aiflow_notification_server.endpoint import NotificationEndpoint
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.protocol import notification_service_pb2 as pb


class TestRemoteEventStore(DurableEventStoreContract):
    @pytest.fixture
    def store(self, connect: Callable[[], RemoteEventStore]) -> RemoteEventStore:
        return connect()

    @pytest.fixture
    def reopen(self, connect: Callable[[], RemoteEventStore]) -> Callable[[], RemoteEventStore]:
        return connect

    @pytest.fixture
    def unreachable(self, stack: ExitStack) -> RemoteEventStore:
        store = RemoteEventStore("127.0.0.1:1", timeout=0.1)
        stack.callback(store.close)
        return store


class Server:
    """A server that can go away and come back at the same port."""

    def __init__(self, log: EventStore, stack: ExitStack) -> None:
        self._log = log
        self._stack = stack.enter_context(ExitStack())
        self.address = NotificationEndpoint(port=0).start(self._stack, log, None)

    def go(self) -> None:
        self._stack.close()

    def come_back(self) -> None:
        port = int(self.address.rpartition(":")[2])
        NotificationEndpoint(port=port).start(self._stack, self._log, None)


@pytest.fixture
def server(log: MemoryEventStore, stack: ExitStack) -> Server:
    return Server(log, stack)


@pytest.fixture
def store(server: Server, stack: ExitStack) -> RemoteEventStore:
    store = RemoteEventStore(server.address)
    stack.callback(store.close)
    return store


def test_a_subscription_survives_a_restart_of_the_server_and_misses_nothing(
    server: Server, store: RemoteEventStore, log: MemoryEventStore
) -> None:
    wanted = EventFilter(keys=("wanted",))
    with Follower(store.subscribe(0)) as everything, Follower(store.subscribe(0, wanted)) as some:
        for _ in range(3):
            log.append([Event("wanted"), Event("other")])
            assert len(everything.take(2)) == 2
            server.go()
            log.append([Event("other"), Event("wanted")])
            server.come_back()
            log.append([Event("wanted")])
            everything.take(3)

        expected = [event for event in log.read() if event.key == "wanted"]
        assert some.take(len(expected)) == expected


def test_the_subscriptions_of_a_long_log_are_cut_off_again_and_again_and_lose_nothing(
    server: Server, store: RemoteEventStore, log: MemoryEventStore
) -> None:
    log.append([Event(str(n)) for n in range(20_000)])
    with Follower(store.subscribe(0)) as follower:
        taken = follower.take(1)
        for _ in range(3):
            server.go()
            server.come_back()
        taken += follower.take(20_000 - len(taken))

    assert [event.offset for event in taken] == list(range(1, 20_001))


def test_an_append_waits_for_a_server_that_is_away(
    server: Server, store: RemoteEventStore, log: MemoryEventStore
) -> None:
    server.go()
    with ThreadPoolExecutor(1) as pool:
        appending = pool.submit(store.append, [Event("k")])
        server.come_back()

        assert appending.result() == log.read()


def test_it_says_once_that_the_server_is_away_and_once_that_it_is_back(
    server: Server, store: RemoteEventStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiflow_notification_server")
    with Follower(store.subscribe(0)) as follower, Follower(store.subscribe(0)) as another:
        store.append([Event("k")])
        follower.take(1)
        another.take(1)
        server.go()
        with ThreadPoolExecutor(1) as pool:
            appending = pool.submit(store.append, [Event("k")])
            server.come_back()
            appending.result()
        follower.take(1)
        another.take(1)

    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "again" in line]) == 1
    assert len([line for line in said if "is back" in line]) == 1


class Lost(grpc.RpcError):
    """What a call fails with whose server went away."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "it was lost"

    def trailing_metadata(self) -> None:
        return None


def test_a_call_from_before_a_return_that_fails_after_it_says_nothing_of_the_server(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "aiflow_notification_server")
    with closing(Connection(f"{server.address},127.0.0.1:1", 10.0, Clock())) as connection:
        way, _ = connection.open_stream("subscribe", pb.SubscribeRequest())
        connection.failed(Lost(), way)
        connection.call("getHead", pb.GetHeadRequest())

        connection.failed(Lost(), way)

        assert connection.open_stream("subscribe", pb.SubscribeRequest())[0].uri == server.address
    assert [record.getMessage() for record in caplog.records] == [
        f"Trying the notification server at {server.address} again: it was lost",
        f"The notification server at {server.address} is back",
    ]


def test_a_server_that_stays_away_is_reported_with_what_to_do(server: Server) -> None:
    server.go()
    store = RemoteEventStore(server.address, timeout=0.1)

    with pytest.raises(UnavailableError, match=f"at {server.address} does not answer") as caught:
        store.append([Event("k")])

    assert caught.value.next_step == "Start it with `notification server start -d`."
    store.close()


def test_a_batch_whose_answer_was_lost_is_not_appended_twice(
    server: Server, stack: ExitStack, log: MemoryEventStore
) -> None:
    class Forgetful(MemoryEventStore):
        """Loses the answer to every first append, as a connection that breaks does."""

        def append(self, events: Sequence[Event]) -> list[Event]:
            before = log.head()
            stored = log.append(events)
            if log.head() > before:
                raise UnavailableError("The answer was lost.")
            return stored

    address = NotificationEndpoint(port=0).start(stack, Forgetful(), None)
    store = RemoteEventStore(address)
    stack.callback(store.close)

    stored = store.append([Event("a"), Event("b")])

    assert [event.key for event in log.read()] == ["a", "b"]
    assert stored == log.read()


def test_of_several_servers_the_one_that_answers_is_used(
    server: Server, stack: ExitStack, log: MemoryEventStore
) -> None:
    other = Server(log, stack)
    store = RemoteEventStore(f"{server.address}, {other.address}")
    stack.callback(store.close)
    with Follower(store.subscribe(0)) as follower:
        store.append([Event("through the first")])
        follower.take(1)
        server.go()

        store.append([Event("through the second")])

        assert [event.key for event in follower.take(1)] == ["through the second"]


def test_a_closed_store_says_so(store: RemoteEventStore) -> None:
    store.close()

    with pytest.raises(UnavailableError, match="is closed"):
        store.head()
    assert list(store.subscribe(0)) == []


def test_closing_ends_a_call_that_waits_for_the_server(
    server: Server, store: RemoteEventStore
) -> None:
    server.go()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.head)
        store.close()

        with pytest.raises(UnavailableError):
            waiting.result()


def test_a_log_that_became_shorter_is_noticed(
    server: Server, store: RemoteEventStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.append([Event("k")])
    noticed = threading.Event()

    def notice(record: logging.LogRecord) -> bool:
        if "Was the database of the notification server replaced?" in record.getMessage():
            noticed.set()
        return True

    caplog.handler.addFilter(notice)
    with Follower(store.subscribe(7)) as follower:
        assert noticed.wait(20)
        store.append([Event("k") for _ in range(7)])
        follower.take(1)
    caplog.handler.removeFilter(notice)


def test_an_empty_address_is_an_error_of_the_settings() -> None:
    with pytest.raises(ConfigError, match="is empty"):
        RemoteEventStore(" , ")


def test_a_server_that_is_something_else_is_told_apart(stack: ExitStack) -> None:
    with ThreadPoolExecutor(1) as threads:
        other = grpc.server(threads)
        port = other.add_insecure_port("127.0.0.1:0")
        other.start()
        store = RemoteEventStore(f"127.0.0.1:{port}")

        with pytest.raises(AIFlowError, match="is no notification server"):
            store.head()
        with pytest.raises(AIFlowError, match="is no notification server"):
            next(iter(store.subscribe(0)))

        store.close()
        other.stop(None).wait()
