"""The protocol on one side, an event store on the other: translates and decides nothing."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import grpc

from aiflow_core.clock import Clock
from aiflow_core.crash import crash_point
from aiflow_core.errors import AIFlowError, UsageError
from aiflow_core.model.event import Event, EventFilter, EventType, new_event_id
from aiflow_core.specs.event_store import EventStore, Member, PageSize, characters
from aiflow_notification_server.client_ids import ClientIds
from aiflow_notification_server.errors import TooManyStreamsError, as_status
from aiflow_notification_server.log_tail import LogTail
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.conversion import (
    PUBLIC_TYPES,
    client_event_id,
    event_from_proto,
    event_to_proto,
    filter_from_proto,
    messages,
)
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceServicer,
)

_PUBLIC = EventFilter(types=PUBLIC_TYPES)

MOST_ANSWERED = 64 * 1024 * 1024
"""Characters of events in one answer of the original protocol."""

# What an event takes beside its key, value and context; about.
_EVENT_OVERHEAD = 200


class Waiting:
    """Those who wait for events: each holds a thread of the server, so there is a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places = threading.BoundedSemaphore(limit)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place; `TooManyStreamsError` when there is none."""
        if not self._places.acquire(blocking=False):
            raise TooManyStreamsError(self._limit)
        try:
            yield
        finally:
            self._places.release()


def answered(reply: type[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For the original protocol: an error is an answer too."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def handle(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
            try:
                return method(self, request, context)
            except TooManyStreamsError:
                with as_status(context):
                    raise
            except AIFlowError as error:
                facts = {"return_code": pb.ERROR, "return_msg": str(error)}
                return reply(**{k: facts[k] for k in facts if k in reply.DESCRIPTOR.fields_by_name})

        return handle

    return decorate


def with_status(method: Callable[..., Any]) -> Callable[..., Any]:
    """For the extension: an error is a gRPC status."""

    @wraps(method)
    def handle(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        with as_status(context):
            return method(self, request, context)

    return handle


class NotificationServicer(NotificationServiceServicer):
    """Serves `store`, of which `tail` is the end.

    `members` tells the servers that clients may go to, `max_streams` is how many clients may wait
    for events at one time, and `heartbeat` the seconds after which a silent stream says that it is
    alive.
    """

    def __init__(
        self,
        store: EventStore,
        tail: LogTail,
        *,
        members: Callable[[], Sequence[Member]],
        max_streams: int,
        heartbeat: float,
        clock: Clock,
    ) -> None:
        self._store = store
        self._tail = tail
        self._members = members
        self._waiting = Waiting(max_streams)
        self._heartbeat = heartbeat
        self._clients = ClientIds(clock)

    # --- the original protocol ---

    @answered(pb.SendEventsResponse)
    def sendEvent(
        self, request: pb.SendEventRequest, context: grpc.ServicerContext
    ) -> pb.SendEventsResponse:
        sent = event_from_proto(request.event)
        repeatable = request.enable_idempotence and request.uuid
        event = Event(
            key=sent.key,
            value=sent.value,
            namespace=sent.namespace,
            sender=sent.sender,
            context=sent.context,
            type=EventType.USER,
            id=client_event_id(request.uuid) if repeatable else new_event_id(),
        )
        return pb.SendEventsResponse(event=event_to_proto(self._append([event], context)[0]))

    @answered(pb.ListEventsResponse)
    def listEvents(
        self, request: pb.ListEventsRequest, context: grpc.ServicerContext
    ) -> pb.ListEventsResponse:
        return self._list(
            _asked(request),
            request.start_offset,
            request.end_offset,
            request.timeout_seconds,
            context,
        )

    @answered(pb.ListEventsResponse)
    def listAllEvents(
        self, request: pb.ListAllEventsRequest, context: grpc.ServicerContext
    ) -> pb.ListEventsResponse:
        after = self._after(request)
        return self._list(_PUBLIC, after, request.end_offset, request.timeout_seconds, context)

    @answered(pb.CountEventsResponse)
    def countEvents(
        self, request: pb.CountEventsRequest, context: grpc.ServicerContext
    ) -> pb.CountEventsResponse:
        counts = self._store.count(
            _asked(request), after=request.start_offset, until=request.end_offset or None
        )
        return pb.CountEventsResponse(
            event_count=sum(counts.values()),
            sender_event_counts=[
                pb.SenderEventCountProto(sender=sender, event_count=count)
                for sender, count in sorted(counts.items())
            ],
        )

    @answered(pb.TimeToOffsetResponse)
    def timestampToEventOffset(
        self, request: pb.TimeToOffsetRequest, context: grpc.ServicerContext
    ) -> pb.TimeToOffsetResponse:
        return pb.TimeToOffsetResponse(offset=self._store.offset_at(request.timestamp))

    def registerClient(
        self, request: pb.RegisterClientRequest, context: grpc.ServicerContext
    ) -> pb.RegisterClientResponse:
        return pb.RegisterClientResponse(client_id=self._clients.new())

    def deleteClient(
        self, request: pb.ClientIdRequest, context: grpc.ServicerContext
    ) -> pb.CommonResponse:
        self._clients.delete(request.client_id)
        return pb.CommonResponse()

    def isClientExists(
        self, request: pb.ClientIdRequest, context: grpc.ServicerContext
    ) -> pb.isClientExistsResponse:
        return pb.isClientExistsResponse(is_exists=self._clients.exists(request.client_id))

    @answered(pb.ListMembersResponse)
    def listMembers(
        self, request: pb.ListMembersRequest, context: grpc.ServicerContext
    ) -> pb.ListMembersResponse:
        return pb.ListMembersResponse(
            members=[
                pb.MemberProto(version=1, server_uri=member.uri, update_time=member.seen_ms)
                for member in self._members()
            ]
        )

    def notify(self, request: pb.NotifyRequest, context: grpc.ServicerContext) -> pb.CommonResponse:
        # Servers of 0.4 tell each other of new events; this one sees them in the log.
        return pb.CommonResponse()

    def notifyNewMember(
        self, request: pb.NotifyNewMemberRequest, context: grpc.ServicerContext
    ) -> pb.CommonResponse:
        return pb.CommonResponse()

    # --- the extension ---

    @with_status
    def appendEvents(
        self, request: pb.AppendEventsRequest, context: grpc.ServicerContext
    ) -> pb.EventList:
        stored = self._append([event_from_proto(proto) for proto in request.events], context)
        return pb.EventList(events=map(event_to_proto, stored))

    def subscribe(
        self, request: pb.SubscribeRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EventBatch]:
        with as_status(context), self._waiting.place():
            wanted = filter_from_proto(request.filter)
            position = self._after(request)
            context.add_callback(self._tail.wake)
            # At once: the client then knows that it is served, and from where.
            yield pb.EventBatch(position=position, head=self._tail.head)
            page = PageSize()
            while context.is_active() and not self._tail.closed:
                events, position = self._tail.next(
                    position, wanted, self._heartbeat, context.is_active, page
                )
                sent = 0
                for protos in messages(events):
                    crash_point("log.push.before")
                    sent = protos[-1].offset
                    yield pb.EventBatch(events=protos, position=sent, head=self._tail.head)
                    crash_point("log.push.after")
                if sent < position or not events:
                    yield pb.EventBatch(position=position, head=self._tail.head)

    def readEvents(
        self, request: pb.ReadEventsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.EventBatch]:
        with as_status(context):
            pages = self._pages(
                filter_from_proto(request.filter),
                request.after,
                request.until if request.HasField("until") else None,
                request.limit,
            )
            for events in pages:
                for protos in messages(events):
                    yield pb.EventBatch(events=protos)

    @with_status
    def countBySender(
        self, request: pb.CountBySenderRequest, context: grpc.ServicerContext
    ) -> pb.CountBySenderResponse:
        counts = self._store.count(
            filter_from_proto(request.filter),
            after=request.after,
            until=request.until if request.HasField("until") else None,
        )
        return pb.CountBySenderResponse(counts=counts)

    @with_status
    def getHead(
        self, request: pb.GetHeadRequest, context: grpc.ServicerContext
    ) -> pb.OffsetResponse:
        return pb.OffsetResponse(offset=self._store.head())

    @with_status
    def offsetAt(
        self, request: pb.OffsetAtRequest, context: grpc.ServicerContext
    ) -> pb.OffsetResponse:
        return pb.OffsetResponse(offset=self._store.offset_at(request.time))

    @with_status
    def truncate(
        self, request: pb.TruncateRequest, context: grpc.ServicerContext
    ) -> pb.TruncateResponse:
        deleted = self._store.truncate(request.before)
        self._tail.truncated(request.before)
        return pb.TruncateResponse(deleted=deleted)

    # --- shared ---

    def _append(self, events: list[Event], context: grpc.ServicerContext) -> list[Event]:
        stored = self._store.append(events)
        self._tail.appended(stored)
        crash_point("log.append.ack.before")
        context.add_callback(partial(crash_point, "log.append.ack.after"))
        return stored

    def _after(self, request: pb.SubscribeRequest | pb.ListAllEventsRequest) -> int:
        since = self._store.offset_at(request.start_time) if request.start_time else 0
        return max(request.start_offset, since)

    def _list(
        self,
        wanted: EventFilter,
        after: int,
        end: int,
        timeout: float,
        context: grpc.ServicerContext,
    ) -> pb.ListEventsResponse:
        if timeout > 0:
            return self._poll(wanted, after, end, timeout, context)
        return pb.ListEventsResponse(events=map(event_to_proto, self._all(wanted, after, end)))

    def _all(self, wanted: EventFilter, after: int, end: int) -> list[Event]:
        """The events of one answer, in memory. `UsageError` when they are too many for that: the
        original protocol knows no pages, and half an answer would look like a whole one."""
        found: list[Event] = []
        size = 0
        for events in self._pages(wanted, after, end or None, limit=sys.maxsize):
            found += events
            size += sum(map(characters, events)) + len(events) * _EVENT_OVERHEAD
            if size > MOST_ANSWERED:
                raise UsageError(
                    f"These are too many events for one answer: up to offset {found[-1].offset} "
                    f"they take {size} characters, at most {MOST_ANSWERED} are allowed.",
                    next_step="Ask for them in parts, with begin_offset and end_offset.",
                )
        return found

    def _pages(
        self, wanted: EventFilter, after: int, until: int | None, limit: int
    ) -> Iterator[list[Event]]:
        """What `EventStore.read` returns, without holding all of it at once."""
        page = PageSize()
        while limit > 0:
            asked = min(limit, page.limit)
            events = self._store.read(after, until=until, limit=asked, filter=wanted)
            yield events
            if len(events) < asked:
                return
            limit -= asked
            after = events[-1].offset
            page.saw(events)

    def _poll(
        self,
        wanted: EventFilter,
        after: int,
        end: int,
        timeout: float,
        context: grpc.ServicerContext,
    ) -> pb.ListEventsResponse:
        # One page is enough: a client that polls comes again.
        with self._waiting.place():
            context.add_callback(self._tail.wake)
            events, _ = self._tail.next(after, wanted, timeout, context.is_active)
        crash_point("log.poll.answer.before")
        return pb.ListEventsResponse(
            events=[event_to_proto(event) for event in events if not end or event.offset <= end]
        )


def _asked(request: pb.ListEventsRequest | pb.CountEventsRequest) -> EventFilter:
    """What the original protocol asks for; an empty field means any."""
    if request.start_offset < 0 or request.end_offset < 0:
        raise UsageError("Offsets of events are not negative.")
    return EventFilter(
        keys=(request.key,) if request.key else (),
        namespace=request.namespace or None,
        sender=request.sender or None,
        types=PUBLIC_TYPES,
    )
