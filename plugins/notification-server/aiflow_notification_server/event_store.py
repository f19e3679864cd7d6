"""RemoteEventStore: the log that a notification server serves."""

import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import grpc
import msgspec

from aiflow_core.clock import Clock
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import EVERYTHING, Event, EventFilter, new_event_id
from aiflow_core.specs.event_store import EventStore, Subscription, check_event
from aiflow_notification_server.connection import Backoff, Connection, Way
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.conversion import (
    event_from_proto,
    event_to_proto,
    filter_to_proto,
)

log = logging.getLogger(__name__)


class RemoteEventStore(EventStore):
    """The log of the deployment, reached over gRPC.

    Args:
        server_uri: `host:port` of the server; several, separated by commas, for fail-over.
        timeout: seconds during which a call is repeated before it is given up. Repeating is safe:
            events have their ids before they are sent for the first time.
    """

    def __init__(self, server_uri: str = "localhost:50052", timeout: float = 10.0) -> None:
        self._clock = Clock()
        self._connection = Connection(server_uri, timeout, self._clock)
        self._lock = threading.Lock()
        self._subscriptions: set[RemoteSubscription] = set()

    def append(self, events: Sequence[Event]) -> list[Event]:
        for event in events:
            check_event(event, sys.maxsize)  # how large an event may be is up to the server
        if not events:
            return []
        named = [
            event if event.id else msgspec.structs.replace(event, id=new_event_id())
            for event in events
        ]
        request = pb.AppendEventsRequest(events=map(event_to_proto, named))
        return _events([self._connection.call("appendEvents", request)])

    def read(
        self,
        after: int = 0,
        *,
        until: int | None = None,
        limit: int = 1000,
        filter: EventFilter = EVERYTHING,
    ) -> list[Event]:
        request = pb.ReadEventsRequest(
            filter=filter_to_proto(filter), after=after, until=until, limit=limit
        )
        return self._connection.call("readEvents", request, _events)

    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> Subscription:
        subscription = RemoteSubscription(self, self._connection, after, filter, self._clock)
        with self._lock:
            self._subscriptions.add(subscription)
        if self._connection.closed.is_set():
            subscription.close()
        return subscription

    def count(
        self, filter: EventFilter = EVERYTHING, *, after: int = 0, until: int | None = None
    ) -> dict[str, int]:
        request = pb.CountBySenderRequest(filter=filter_to_proto(filter), after=after, until=until)
        return dict(self._connection.call("countBySender", request).counts)

    def head(self) -> int:
        return int(self._connection.call("getHead", pb.GetHeadRequest()).offset)

    def offset_at(self, time_ms: int) -> int:
        return int(self._connection.call("offsetAt", pb.OffsetAtRequest(time=time_ms)).offset)

    def truncate(self, before: int) -> int:
        return int(self._connection.call("truncate", pb.TruncateRequest(before=before)).deleted)

    def close(self) -> None:
        self._connection.closed.set()
        with self._lock:
            subscriptions = list(self._subscriptions)
        for subscription in subscriptions:
            subscription.close()
        self._connection.close()

    def _forget(self, subscription: "RemoteSubscription") -> None:
        with self._lock:
            self._subscriptions.discard(subscription)


class RemoteSubscription(Subscription):
    """Reads a stream of the server, and opens another where one broke off."""

    def __init__(
        self,
        store: RemoteEventStore,
        connection: Connection,
        after: int,
        filter: EventFilter,
        clock: Clock,
    ) -> None:
        self._store = store
        self._connection = connection
        self._position = after
        self._filter = filter
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._stream: Any = None
        self._way = Way("", 0)  # that the stream goes
        self._is_ahead = False

    def __iter__(self) -> Iterator[list[Event]]:
        backoff = Backoff()
        while not self._has_ended():
            try:
                for batch in self._open():
                    self._connection.answered()
                    backoff = Backoff()
                    events = self._accept(batch)
                    if events:
                        yield events
            except grpc.RpcError as error:
                if self._has_ended():
                    return
                problem = self._connection.failed(error, self._way)
                if not isinstance(problem, UnavailableError):
                    raise problem from error
            finally:
                self._cancel()
            self._clock.wait(self._closed, backoff.next())

    def close(self) -> None:
        self._closed.set()
        self._cancel()
        self._store._forget(self)

    def _has_ended(self) -> bool:
        return self._closed.is_set() or self._connection.closed.is_set()

    def _open(self) -> Any:
        request = pb.SubscribeRequest(
            filter=filter_to_proto(self._filter), start_offset=self._position
        )
        with self._lock:
            if not self._has_ended():
                self._way, self._stream = self._connection.open_stream("subscribe", request)
            return self._stream or ()

    def _cancel(self) -> None:
        with self._lock:
            if self._stream is not None:
                self._stream.cancel()
                self._stream = None

    def _accept(self, batch: pb.EventBatch) -> list[Event]:
        events = [
            event_from_proto(proto) for proto in batch.events if proto.offset > self._position
        ]
        if events and self._filter == EVERYTHING:
            events = [*self._missed(events[0].offset), *events]
        self._warn_if_shorter(batch.head)
        self._position = max(self._position, batch.position)
        return events

    def _missed(self, first: int) -> list[Event]:
        """What the log holds between the last event and this one; normally there is no between."""
        missed: list[Event] = []
        while (last := missed[-1].offset if missed else self._position) + 1 < first:
            page = self._store.read(last, until=first - 1)
            if not page:  # truncated
                break
            missed += page
        return missed

    def _warn_if_shorter(self, head: int) -> None:
        if (self._position > head) != self._is_ahead:
            self._is_ahead = not self._is_ahead
            if self._is_ahead:
                log.warning(
                    "Events after offset %s are waited for, but the log ends at %s. "
                    "Was the database of the notification server replaced?",
                    self._position,
                    head,
                )


def _events(batches: Iterable[Any]) -> list[Event]:
    return [event_from_proto(proto) for batch in batches for proto in batch.events]
