"""For users: send events and listen to them."""

import logging
import os
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Self

import msgspec

from aiflow_core.clock import Clock, to_ms
from aiflow_core.errors import AIFlowError
from aiflow_core.model.event import Event, EventFilter, EventType
from aiflow_core.model.execution import RunningTask
from aiflow_core.model.serialization import encode
from aiflow_core.specs.event_store import Subscription
from aiflow_notification_server.client_ids import ClientIds
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.protocol.conversion import PUBLIC_TYPES, client_event_id

log = logging.getLogger(__name__)

_PAGE = 1000


class ListenerProcessor:
    """What a listener does with events."""

    def process(self, events: list[Event]) -> None:
        """Take the next events, at least one, in offset order.

        Called in the listener's own thread, never twice at a time. What it raises is logged, and
        the listener goes on with the events after these.
        """


class ListenerRegistrationId(msgspec.Struct, frozen=True):
    """Names a listener, to unregister it."""

    id: str


class SenderEventCount(msgspec.Struct, frozen=True):
    """How many events a sender has sent."""

    sender: str
    event_count: int


class NotificationClient(ABC):
    """Sends and reads the events of a notification service.

    Attributes:
        namespace: given to the events that are sent, and the only one that is listened to; None:
            the events' own, and any.
        sender: given to the events that are sent; None: the events' own.
    """

    def __init__(self, namespace: str | None = None, sender: str | None = None) -> None:
        self.namespace = namespace
        self.sender = sender

    @abstractmethod
    def send_event(self, event: Event) -> Event:
        """Append an event, and return it with its offset and time. It is durable by then."""

    @abstractmethod
    def register_listener(
        self,
        listener_processor: ListenerProcessor,
        event_keys: Sequence[str] | None = None,
        offset: int | None = None,
    ) -> ListenerRegistrationId:
        """Hand the events behind `offset` (default: all) to a processor, those that are there and
        then those that come, each once.

        `event_keys` may hold `*` as a wildcard; None means every key. The listener has a thread of
        its own until it is unregistered; it outlasts restarts of the server and misses nothing.
        """

    @abstractmethod
    def unregister_listener(self, registration_id: ListenerRegistrationId) -> None:
        """End a listener. Returns when its processor is not called any more. An id that is not
        registered (any more) means nothing to do."""

    @abstractmethod
    def list_events(
        self,
        key: str | None = None,
        namespace: str | None = None,
        sender: str | None = None,
        begin_offset: int | None = None,
        end_offset: int | None = None,
    ) -> list[Event]:
        """The events with `begin_offset < offset <= end_offset`; what is None restricts nothing."""

    @abstractmethod
    def time_to_offset(self, time: datetime) -> int:
        """Offset of the last event created before `time` (a naive one is local time): a listener
        from that offset gets what was created at `time` or later."""

    @abstractmethod
    def close(self) -> None:
        """End the listeners and the connection. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class EmbeddedNotificationClient(NotificationClient):
    """A client of AIFlow's own notification server.

    Args:
        server_uri: `host:port`; several, separated by commas, for fail-over.
        client_id: the id of an earlier client that this one continues.
        initial_seq_num: number of this client's first event. Who repeats a send with the
            `client_id` and number it had gets the stored event back and appends nothing.
        timeout: seconds during which a server that does not answer is tried again.
    """

    def __init__(
        self,
        server_uri: str,
        namespace: str | None = None,
        sender: str | None = None,
        client_id: int | None = None,
        initial_seq_num: int | None = None,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(namespace, sender)
        self.server_uri = server_uri
        self._store = RemoteEventStore(server_uri, timeout)
        self._client_id = ClientIds(Clock()).new() if client_id is None else client_id
        self._sequence_number = initial_seq_num or 0
        self._lock = threading.Lock()
        self._listeners: dict[ListenerRegistrationId, _Listener] = {}

    @property
    def client_id(self) -> int:
        """Unique among all clients, unless it was given."""
        return self._client_id

    @property
    def sequence_number(self) -> int:
        """Number of the next event that is sent."""
        return self._sequence_number

    def send_event(self, event: Event) -> Event:
        # The number is used up also when sending fails: the event may have been stored.
        with self._lock:
            number = self._sequence_number
            self._sequence_number += 1
        named = msgspec.structs.replace(
            event,
            namespace=event.namespace if self.namespace is None else self.namespace,
            sender=event.sender if self.sender is None else self.sender,
            type=EventType.USER,
            id=client_event_id(f"client_{self._client_id}_{number}"),
        )
        return self._store.append([named])[0]

    def register_listener(
        self,
        listener_processor: ListenerProcessor,
        event_keys: Sequence[str] | None = None,
        offset: int | None = None,
    ) -> ListenerRegistrationId:
        wanted = EventFilter(
            keys=tuple(event_keys or ()), namespace=self.namespace, types=PUBLIC_TYPES
        )
        registration = ListenerRegistrationId(uuid.uuid4().hex)
        listener = _Listener(self._store.subscribe(offset or 0, wanted), listener_processor)
        with self._lock:
            self._listeners[registration] = listener
        return registration

    def unregister_listener(self, registration_id: ListenerRegistrationId) -> None:
        with self._lock:
            listener = self._listeners.pop(registration_id, None)
        if listener is not None:
            listener.end()

    def list_events(
        self,
        key: str | None = None,
        namespace: str | None = None,
        sender: str | None = None,
        begin_offset: int | None = None,
        end_offset: int | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """As the contract says; no more than the first `limit`."""
        found = self._read(_wanted(key, namespace, sender), begin_offset, end_offset)
        return list(islice(found, limit))

    def list_all_events(
        self,
        start_time: int | None = None,
        start_offset: int | None = None,
        end_offset: int | None = None,
    ) -> list[Event]:
        """The events of all keys and namespaces with `start_offset < offset <= end_offset` that
        were created at `start_time` (milliseconds since the epoch) or later."""
        since = 0 if start_time is None else self._store.offset_at(start_time)
        return list(self._read(_wanted(), max(start_offset or 0, since), end_offset))

    def count_events(
        self,
        key: str | None = None,
        namespace: str | None = None,
        sender: str | None = None,
        begin_offset: int | None = None,
        end_offset: int | None = None,
    ) -> tuple[int, list[SenderEventCount]]:
        """How many events `list_events` would return: in all, and by sender."""
        counts = self._store.count(
            _wanted(key, namespace, sender), after=begin_offset or 0, until=end_offset
        )
        by_sender = [SenderEventCount(sender, count) for sender, count in sorted(counts.items())]
        return sum(counts.values()), by_sender

    def follow(
        self, key: str, namespace: str | None, sender: str | None, begin_offset: int
    ) -> Iterator[Event]:
        """The events behind an offset, those that are there and then those that come, for as long
        as one iterates. What is None restricts nothing."""
        with self._store.subscribe(begin_offset, _wanted(key, namespace, sender)) as batches:
            for events in batches:
                yield from events

    def time_to_offset(self, time: datetime) -> int:
        return self._store.offset_at(to_ms(time))

    def newest_offset(self) -> int:
        """Offset of the newest event, 0 when there is none: where a listener begins that wants
        only what comes from now on."""
        return self._store.head()

    def close(self) -> None:
        with self._lock:
            registrations = list(self._listeners)
        for registration in registrations:
            self.unregister_listener(registration)
        self._store.close()

    def _read(
        self, wanted: EventFilter, begin_offset: int | None, end_offset: int | None
    ) -> Iterator[Event]:
        after = begin_offset or 0
        while page := self._store.read(after, until=end_offset, limit=_PAGE, filter=wanted):
            yield from page
            after = page[-1].offset


class AIFlowNotificationClient:
    """The events of the workflow execution to which the running task belongs.

    Only for the process of a task. `server_uri` is accepted and not used: the task knows from its
    executor where its notification server is, and workflow files say `localhost:50052` also when
    they run elsewhere. As a context manager it closes itself.
    """

    def __init__(self, server_uri: str = "") -> None:
        task = RunningTask.from_environment()
        if task is None:
            raise AIFlowError("AIFlowNotificationClient can only be used in AIFlow operators.")
        key = task.key
        context: dict[str, Any] = {"workflow_execution_id": key.workflow_execution_id}
        if traceparent := os.environ.get("TRACEPARENT"):
            context["traceparent"] = traceparent  # what the event leads to belongs to the trace
        self._context = encode(context).decode()
        self._client = EmbeddedNotificationClient(
            task.notification_uri,
            namespace=task.namespace,
            sender=f"{key.workflow_execution_id}_{key.task_name}_{key.sequence_number}",
        )

    def send_event(self, key: str, value: str | None = None) -> Event:
        """Send an event to this workflow execution: its task rules may react to it, and triggers of
        the namespace. It is durable when this returns."""
        return self._client.send_event(Event(key, value, context=self._context))

    def register_listener(
        self,
        listener_processor: ListenerProcessor,
        event_keys: Sequence[str] | None = None,
        begin_time: datetime | None = None,
    ) -> ListenerRegistrationId:
        """Hand the events of the namespace that are created at `begin_time` (default: from now on)
        or later to a processor, in a thread of the listener's own."""
        if begin_time is None:
            offset = self._client.newest_offset()
        else:
            offset = self._client.time_to_offset(begin_time)
        return self._client.register_listener(listener_processor, event_keys, offset)

    def unregister_listener(self, registration_id: ListenerRegistrationId) -> None:
        """End a listener. Returns when its processor is not called any more."""
        self._client.unregister_listener(registration_id)

    def close(self) -> None:
        """End the listeners and the connection. Idempotent."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


class _Listener:
    """Takes events off a subscription in a thread of its own."""

    def __init__(self, subscription: Subscription, processor: ListenerProcessor) -> None:
        self._subscription = subscription
        self._processor = processor
        # A daemon: a listener that nobody unregistered must not keep a finished task alive.
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._subscription.close()
        if threading.current_thread() is not self._thread:  # a processor may end its own listener
            self._thread.join()

    def _listen(self) -> None:
        for events in self._subscription:
            try:
                self._processor.process(events)
            except Exception:
                log.exception(
                    "A listener failed at the events %s to %s and goes on",
                    events[0].offset,
                    events[-1].offset,
                )


def _wanted(
    key: str | None = None, namespace: str | None = None, sender: str | None = None
) -> EventFilter:
    return EventFilter(
        keys=() if key is None else (key,), namespace=namespace, sender=sender, types=PUBLIC_TYPES
    )
