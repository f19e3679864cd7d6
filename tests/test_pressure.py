"""A real notification server keeps its memory while listeners do not listen."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

import grpc
import psutil

from aiflow_core.model.event import Event
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)

from .notification import log_server

EVENTS = 200
LARGE = "v" * (1 << 19)
SLOW = 10
MOST = 100 << 20


def test_listeners_that_fall_behind_cost_no_memory_and_miss_nothing(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/events.db"
    with closing(SqlEventStore(uri)) as log:
        log.initialize()
    with ExitStack() as stack:
        server = stack.enter_context(log_server(tmp_path, uri))
        store = stack.enter_context(closing(RemoteEventStore(server.address)))
        channel = stack.enter_context(grpc.insecure_channel(server.address))
        stub = NotificationServiceStub(channel)
        streams = [stub.subscribe(pb.SubscribeRequest()) for _ in range(SLOW)]
        for stream in streams:
            stack.callback(stream.cancel)
            next(stream)
        process = psutil.Process(server.process.pid)

        store.append([Event("0", LARGE)])
        before = process.memory_info().rss

        for n in range(1, EVENTS):
            store.append([Event(str(n), LARGE)])
        # If they were kept for each of the listeners, that would be a thousand megabytes.
        assert process.memory_info().rss - before < MOST

        heard = [list(islice(offsets(stream), EVENTS)) for stream in streams]
        assert process.memory_info().rss - before < MOST

    assert heard == [list(range(1, EVENTS + 1))] * SLOW


def offsets(stream: Iterable[pb.EventBatch]) -> Iterator[int]:
    for batch in stream:
        yield from (event.offset for event in batch.events)
