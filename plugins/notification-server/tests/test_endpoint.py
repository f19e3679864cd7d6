"""Serving a log."""

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import grpc
import pytest

from aiflow_core.errors import AIFlowError, ConfigError, ConflictError, UnavailableError
from aiflow_core.model.event import Event
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import Follower, MemoryEventStore
from aiflow_notification_server.endpoint import NotificationEndpoint
from aiflow_notification_server.errors import TooManyStreamsError
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)


def test_a_port_that_is_in_use_is_named(stack: ExitStack, log: MemoryEventStore) -> None:
    address = NotificationEndpoint(port=0).start(stack, log, None)
    port = address.rpartition(":")[2]

    with pytest.raises(ConflictError, match=f"Port {port} of 127.0.0.1 is in use") as caught:
        NotificationEndpoint(port=int(port)).start(stack, log, None)

    assert "server_port" in caught.value.next_step


def test_a_port_that_another_program_uses_is_named(stack: ExitStack, log: MemoryEventStore) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        with pytest.raises(ConflictError):
            NotificationEndpoint(port=other.getsockname()[1]).start(stack, log, None)


def test_an_address_that_is_not_of_this_machine_is_an_error_of_the_settings(
    stack: ExitStack, log: MemoryEventStore
) -> None:
    with pytest.raises(ConfigError, match=r"not possible to listen at 192\.0\.2\.1"):
        NotificationEndpoint(host="192.0.2.1", port=0).start(stack, log, None)


def test_the_port_is_free_again_when_the_server_has_stopped(log: MemoryEventStore) -> None:
    with ExitStack() as stack:
        port = int(NotificationEndpoint(port=0).start(stack, log, None).rpartition(":")[2])

    with ExitStack() as stack:
        address = NotificationEndpoint(port=port).start(stack, log, None)

    assert address == f"127.0.0.1:{port}"


def test_it_says_the_address_that_is_advertised(stack: ExitStack, log: MemoryEventStore) -> None:
    endpoint = NotificationEndpoint(port=0, advertised_uri="events.example:50052")

    assert endpoint.start(stack, log, None) == "events.example:50052"


def test_stopping_leaves_no_thread_behind(log: MemoryEventStore) -> None:
    before = set(threading.enumerate())
    with ExitStack() as stack:
        address = NotificationEndpoint(port=0).start(stack, log, None)
        store = RemoteEventStore(address)
        with Follower(store.subscribe(0)) as follower:
            store.append([Event("k")])
            follower.take(1)
        store.close()

    assert set(threading.enumerate()) <= before


def test_stopping_ends_streams_that_wait(log: MemoryEventStore) -> None:
    with ExitStack() as stack:
        address = NotificationEndpoint(port=0, heartbeat=60).start(stack, log, None)
        channel = grpc.insecure_channel(address)
        stream = NotificationServiceStub(channel).subscribe(pb.SubscribeRequest())
        next(stream)

    with pytest.raises(grpc.RpcError):
        next(stream)
    channel.close()


def test_a_subscription_of_which_the_client_has_gone_makes_room(
    stack: ExitStack, log: MemoryEventStore
) -> None:
    address = NotificationEndpoint(port=0, max_streams=1, heartbeat=60).start(stack, log, None)
    for _ in range(20):
        store = RemoteEventStore(address)
        with Follower(store.subscribe(log.head())) as follower:
            stored = log.append([Event("k")])
            assert follower.take(1) == stored
        store.close()


def test_more_streams_than_allowed_are_refused_in_clear_words(
    stack: ExitStack, log: MemoryEventStore
) -> None:
    address = NotificationEndpoint(port=0, max_streams=1).start(stack, log, None)
    with grpc.insecure_channel(address) as channel:
        stub = NotificationServiceStub(channel)
        first = stub.subscribe(pb.SubscribeRequest())
        next(first)

        with pytest.raises(grpc.RpcError) as caught:
            next(stub.subscribe(pb.SubscribeRequest()))
        with pytest.raises(grpc.RpcError) as of_a_poll:
            stub.listAllEvents(pb.ListAllEventsRequest(timeout_seconds=10))

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == str(TooManyStreamsError(1))
        assert of_a_poll.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()


def test_a_server_with_all_its_streams_in_use_answers_other_calls(
    stack: ExitStack, log: MemoryEventStore
) -> None:
    address = NotificationEndpoint(port=0, max_streams=100).start(stack, log, None)
    store = RemoteEventStore(address)
    stack.callback(store.close)
    followers = [stack.enter_context(Follower(store.subscribe(0))) for _ in range(100)]

    stored = store.append([Event("k")])

    for follower in followers:
        assert follower.take(1) == stored


def test_a_subscription_may_begin_at_a_time(
    address: str, log: MemoryEventStore, clock: ManualClock
) -> None:
    log.append([Event("before")])
    clock.advance(1)
    log.append([Event("at")])
    with grpc.insecure_channel(address) as channel:
        stream = NotificationServiceStub(channel).subscribe(
            pb.SubscribeRequest(start_time=clock.now_ms())
        )
        keys = [
            event.key for _, batch in zip(range(2), stream, strict=False) for event in batch.events
        ]
        stream.cancel()

    assert keys == ["at"]


def test_a_silent_stream_tells_how_far_the_log_has_been_read(
    address: str, log: MemoryEventStore
) -> None:
    with grpc.insecure_channel(address) as channel:
        stream = NotificationServiceStub(channel).subscribe(
            pb.SubscribeRequest(filter=pb.EventFilterProto(keys=["wanted"]))
        )
        assert next(stream).position == 0
        log.append([Event("other"), Event("other")])

        batch = next(b for b in stream if b.head == 2)
        assert list(batch.events) == []
        assert next(b for b in stream if b.position).position == 2
        stream.cancel()


def test_an_error_of_the_log_arrives_as_it_was_raised(
    connect: Callable[[], RemoteEventStore], log: MemoryEventStore
) -> None:
    with pytest.raises(AIFlowError) as here:
        log.append([Event("a\0b")])
    with pytest.raises(AIFlowError) as there:
        connect().append([Event("a\0b")])

    assert type(there.value) is type(here.value)
    assert str(there.value) == str(here.value)


def test_a_log_that_cannot_be_reached_is_unavailable_through_the_server(
    stack: ExitStack, log: MemoryEventStore
) -> None:
    class Away(MemoryEventStore):
        def offset_at(self, time_ms: int) -> int:
            raise UnavailableError("The database is away.")

    address = NotificationEndpoint(port=0).start(stack, Away(), None)
    store = RemoteEventStore(address, timeout=0.1)
    stack.callback(store.close)

    with pytest.raises(UnavailableError, match="The database is away"):
        store.offset_at(0)


def test_an_unknown_type_is_refused(address: str) -> None:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        NotificationServiceStub(channel).appendEvents(
            pb.AppendEventsRequest(events=[pb.EventProto(key="k", type="RUMOUR")])
        )

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "RUMOUR" in caught.value.details()
