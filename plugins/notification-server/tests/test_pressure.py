"""A server that cannot take what is asked of it says so, keeps its memory, and goes on later."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest

from aiflow_core.errors import NoRoomError, UsageError
from aiflow_core.model.event import Event
from aiflow_core.testing.event_store import Follower, MemoryEventStore
from aiflow_notification_server import endpoint, log_tail
from aiflow_notification_server.endpoint import NotificationEndpoint
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)

APPEND = pb.AppendEventsRequest(events=[pb.EventProto(key="k", type="USER")])


class FullLog(MemoryEventStore):
    """Has no room for so many appends."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    def append(self, events: Sequence[Event]) -> list[Event]:
        if self.refusals:
            self.refusals -= 1
            raise NoRoomError("The disk is full.", next_step="Make room.")
        return super().append(events)


class HeldLog(MemoryEventStore):
    """Holds up every append until it may go on, and counts how often it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self.reads = 0

    def append(self, events: Sequence[Event]) -> list[Event]:
        assert self.go_on.wait(20)
        return super().append(events)

    def read(self, *args: object, **kwargs: object) -> list[Event]:
        self.reads += 1
        return super().read(*args, **kwargs)  # type: ignore[arg-type]


@pytest.fixture
def held() -> Iterator[HeldLog]:
    log = HeldLog()
    yield log
    log.go_on.set()
    log.close()


@pytest.fixture
def serve(stack: ExitStack) -> Callable[[MemoryEventStore], str]:
    return lambda log: NotificationEndpoint(port=0, max_streams=10).start(stack, log)


@pytest.fixture
def connect(stack: ExitStack) -> Callable[..., RemoteEventStore]:
    def connect(address: str, timeout: float = 10.0) -> RemoteEventStore:
        store = RemoteEventStore(address, timeout)
        stack.callback(store.close)
        return store

    return connect


def test_a_log_without_room_is_that_on_the_other_side_as_well(
    serve: Callable[[MemoryEventStore], str], connect: Callable[..., RemoteEventStore]
) -> None:
    address = serve(FullLog(refusals=1_000_000))

    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as status:
        NotificationServiceStub(channel).appendEvents(APPEND)
    with pytest.raises(NoRoomError) as caught:
        connect(address, timeout=0.1).append([Event("k")])

    assert status.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (caught.value.what, caught.value.next_step) == ("The disk is full.", "Make room.")


def test_an_append_is_repeated_until_there_is_room(
    serve: Callable[[MemoryEventStore], str], connect: Callable[..., RemoteEventStore]
) -> None:
    log = FullLog(refusals=3)

    stored = connect(serve(log)).append([Event("k")])

    assert log.refusals == 0
    assert log.read() == stored


def test_a_flood_of_calls_is_bounded_and_the_rest_told_to_try_again(
    serve: Callable[[MemoryEventStore], str],
    connect: Callable[..., RemoteEventStore],
    held: HeldLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "_WAITING_CALLS", 26)
    address = serve(held)
    most = 10 + 64 + 26
    with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(1) as pool:
        stub = NotificationServiceStub(channel)
        flood = [stub.appendEvents.future(APPEND) for _ in range(most + 200)]
        refused = threading.Semaphore(0)
        for call in flood:
            call.add_done_callback(lambda _: refused.release())
        for _ in range(200):
            assert refused.acquire(timeout=20)
        patient = pool.submit(connect(address).append, [Event("patient")])

        held.go_on.set()
        (stored,) = patient.result()
        codes = Counter(call.code() for call in flood)

    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED: 200, grpc.StatusCode.OK: most}
    assert stored.key == "patient"
    assert held.head() == most + 1


def test_a_request_that_is_too_large_is_not_tried_again(
    serve: Callable[[MemoryEventStore], str], connect: Callable[..., RemoteEventStore]
) -> None:
    store = connect(serve(MemoryEventStore()))

    with pytest.raises(UsageError, match="larger than max"):
        store.append([Event("k", "v" * (65 << 20))])


def test_a_reader_that_falls_behind_is_served_from_the_log_and_misses_nothing(
    serve: Callable[[MemoryEventStore], str],
    connect: Callable[..., RemoteEventStore],
    held: HeldLog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_tail, "_RECENT_CHARACTERS", 1 << 20)
    held.go_on.set()
    address = serve(held)
    store = connect(address)
    with grpc.insecure_channel(address) as channel:
        slow = NotificationServiceStub(channel).subscribe(pb.SubscribeRequest())
        next(slow)
        with Follower(store.subscribe(0)) as quick:
            for n in range(200):
                store.append([Event(str(n), "v" * 100_000)])
            assert len(quick.take(200)) == 200
        before = held.reads

        taken: list[int] = []
        while 200 not in taken:
            taken += [event.offset for event in next(slow).events]
        slow.cancel()

    assert held.reads > before
    assert taken == list(range(1, 201))
