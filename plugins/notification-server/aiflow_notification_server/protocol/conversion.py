"""Events and filters as the protocol spells them."""

from collections.abc import Iterable, Iterator

from aiflow_core.errors import UsageError
from aiflow_core.model.event import Event, EventFilter, EventType, derived_event_id
from aiflow_notification_server.protocol.notification_service_pb2 import (
    EventFilterProto,
    EventProto,
)

# What a client of the original protocol may see; the rest is between the parts of a deployment.
PUBLIC_TYPES = (EventType.USER, EventType.TASK_STATUS, EventType.WORKFLOW_STATUS)

# A message takes events until it is this large, so that one reply never holds a whole log.
_MESSAGE_BYTES = 1 << 20

_TYPES: dict[str, EventType] = {"": EventType.USER, **{t.value: t for t in EventType}}


def event_to_proto(event: Event) -> EventProto:
    """The event as it travels."""
    return EventProto(
        key=event.key,
        value=event.value,
        context=event.context,
        namespace=event.namespace,
        offset=event.offset,
        create_time=event.create_time,
        sender=event.sender,
        id=event.id,
        type=event.type.value,
    )


def event_from_proto(proto: EventProto) -> Event:
    """The event that travelled; `UsageError` for a type that is not known here."""
    return Event(
        key=proto.key,
        value=proto.value if proto.HasField("value") else None,
        namespace=proto.namespace,
        sender=proto.sender,
        context=proto.context,
        type=_type(proto.type),
        id=proto.id,
        offset=proto.offset,
        create_time=proto.create_time,
    )


def filter_to_proto(filter: EventFilter) -> EventFilterProto:
    """The filter as it travels."""
    return EventFilterProto(
        keys=filter.keys,
        namespace=filter.namespace,
        sender=filter.sender,
        types=[t.value for t in filter.types],
    )


def filter_from_proto(proto: EventFilterProto) -> EventFilter:
    """The filter that travelled; `UsageError` for a type that is not known here."""
    return EventFilter(
        keys=tuple(proto.keys),
        namespace=proto.namespace if proto.HasField("namespace") else None,
        sender=proto.sender if proto.HasField("sender") else None,
        types=tuple(map(_type, proto.types)),
    )


def messages(events: Iterable[Event]) -> Iterator[list[EventProto]]:
    """The events in portions of a size that a message may have; one that is larger goes alone."""
    portion: list[EventProto] = []
    size = 0
    for event in events:
        proto = event_to_proto(event)
        more = proto.ByteSize()
        if portion and size + more > _MESSAGE_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(proto)
        size += more
    if portion:
        yield portion


def client_event_id(uuid: str) -> str:
    """The id of the event that a client calls `uuid`.

    Derived, so that no client can take an id which a part of the deployment is going to use.
    """
    return derived_event_id("client", uuid)


def _type(name: str) -> EventType:
    try:
        return _TYPES[name]
    except KeyError:
        raise UsageError(f"{name!r} is not a type of events.") from None
