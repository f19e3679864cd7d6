"""The tables as queries see them (the revisions in `migrations` make them), and the rows."""

import zlib
from typing import Any

from sqlalchemy import BigInteger, String, column, table
from sqlalchemy.engine import Row

from aiflow_core.model.event import Event, EventType

# Its one row is the lock under which offsets are given.
log_head = table(
    "log_head", column("id", BigInteger), column("seq", BigInteger), column("last_ms", BigInteger)
)

event = table(
    "event",
    column("seq", BigInteger),
    column("event_id", String),
    column("type", String),
    column("ns", String),
    column("key", String),
    column("key_crc", BigInteger),
    column("value", String),
    column("context", String),
    column("sender", String),
    column("create_ms", BigInteger),
)

member = table(
    "member", column("uri", String), column("seen_ms", BigInteger), column("until_ms", BigInteger)
)

TABLES = (event.name, log_head.name, member.name)

# In the order of the fields of `Event`.
EVENT_COLUMNS = (
    event.c.key,
    event.c.value,
    event.c.ns,
    event.c.sender,
    event.c.context,
    event.c.type,
    event.c.event_id,
    event.c.seq,
    event.c.create_ms,
)

_TYPES = {str(type): type for type in EventType}


def key_crc(key: str) -> int:
    """What stands for a key in the index; different keys may share it."""
    return zlib.crc32(key.encode())


def to_row(entry: Event) -> dict[str, Any]:
    return {
        "seq": entry.offset,
        "event_id": entry.id,
        "type": str(entry.type),
        "ns": entry.namespace,
        "key": entry.key,
        "key_crc": key_crc(entry.key),
        "value": entry.value,
        "context": entry.context,
        "sender": entry.sender,
        "create_ms": entry.create_time,
    }


def from_row(row: Row[Any]) -> Event:
    """The event of a row of `EVENT_COLUMNS`."""
    key, value, namespace, sender, context, type, id, offset, create_time = row
    return Event(key, value, namespace, sender, context, _TYPES[type], id, offset, create_time)
