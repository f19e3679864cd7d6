"""The statements, built once each: building costs more than running them."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    ClauseElement,
    ColumnElement,
    Delete,
    Dialect,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from aiflow_core.database import database_ms
from aiflow_core.model.event import ANY_KEY, EventFilter
from aiflow_event_store_sql.tables import EVENT_COLUMNS, event, key_crc, log_head, member

# Above every offset there will be; BIGINT in all the databases.
NO_END = 2**63 - 1

HEAD = select(log_head.c.seq)
# SQLite needs no lock on the row: the transaction has the whole database.
LOCK_HEAD = select(log_head.c.seq, log_head.c.last_ms).with_for_update()
MOVE_HEAD = update(log_head).values(seq=bindparam("seq"), last_ms=bindparam("last_ms"))

INSERT = insert(event)
# Many rows in one statement, whose text is the same for any number: a list of values per column.
INSERT_COLUMNS = insert(event).from_select(
    [column.name for column in event.c],
    select(*(func.unnest(bindparam(column.name, type_=ARRAY(column.type))) for column in event.c)),
)
BY_IDS = select(*EVENT_COLUMNS).where(event.c.event_id.in_(bindparam("ids", expanding=True)))

FIRST_SINCE: Select[Any] = (
    select(event.c.seq)
    .where(event.c.create_ms >= bindparam("time_ms"))
    .order_by(event.c.create_ms, event.c.seq)
    .limit(1)
)

FIRST: Select[Any] = select(func.min(event.c.seq))
DELETE_BEFORE: Delete = delete(event).where(event.c.seq < bindparam("before"))

FORGET_MEMBER: Delete = delete(member).where(
    or_(member.c.uri == bindparam("uri"), member.c.until_ms < database_ms())
)
ADD_MEMBER = insert(member).values(
    uri=bindparam("uri"), seen_ms=database_ms(), until_ms=database_ms() + bindparam("ttl_ms")
)
MEMBERS = (
    select(member.c.uri, member.c.seen_ms)
    .where(member.c.until_ms >= database_ms())
    .order_by(member.c.uri)
)


def driver_text(statement: ClauseElement, dialect: Dialect) -> str:
    """The statement as the driver takes it, its parameters by name, for `exec_driver_sql`.

    For an insert of a thousand rows SQLAlchemy's own handling of parameters costs half as much
    again as the database.
    """
    style = "named" if dialect.name == "sqlite" else "pyformat"
    with_names: Callable[..., Dialect] = type(dialect)
    return str(statement.compile(dialect=with_names(paramstyle=style)))


_RANGE = and_(event.c.seq > bindparam("after"), event.c.seq <= bindparam("until"))


@lru_cache(maxsize=1024)
def read(filter: EventFilter, dialect: str) -> Select[Any]:
    """The first `:limit` wanted events with `:after < offset <= :until`."""
    return (
        select(*EVENT_COLUMNS)
        .where(_RANGE, *_wanted(filter, dialect))
        .order_by(event.c.seq)
        .limit(bindparam("limit"))
    )


@lru_cache(maxsize=1024)
def count(filter: EventFilter, dialect: str) -> Select[Any]:
    """Sender and number of the wanted events with `:after < offset <= :until`."""
    return (
        select(event.c.sender, func.count())
        .where(_RANGE, *_wanted(filter, dialect))
        .group_by(event.c.sender)
    )


def _wanted(filter: EventFilter, dialect: str) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filter.namespace is not None:
        conditions.append(event.c.ns == filter.namespace)
    if filter.sender is not None:
        conditions.append(event.c.sender == filter.sender)
    if filter.types:
        conditions.append(event.c.type.in_([str(type) for type in filter.types]))
    if filter.keys:
        conditions.append(_key_fits(filter.keys, dialect))
    return conditions


def _key_fits(patterns: tuple[str, ...], dialect: str) -> ColumnElement[bool]:
    """What `aiflow_core.model.event.key_matches` says, for any of the patterns."""
    exact = [pattern for pattern in patterns if ANY_KEY not in pattern]
    choices = [_like(pattern, dialect) for pattern in patterns if ANY_KEY in pattern]
    if exact:
        crcs = [key_crc(key) for key in exact]
        choices.append(and_(event.c.key_crc.in_(crcs), event.c.key.in_(exact)))
    return or_(*choices)


def _like(pattern: str, dialect: str) -> ColumnElement[bool]:
    if dialect == "sqlite":
        # SQLite's LIKE ignores case, its GLOB does not.
        escaped = pattern.replace("[", "[[]").replace("?", "[?]")
        return event.c.key.op("GLOB", is_comparison=True, return_type=Boolean())(escaped)
    escaped = pattern.replace("/", "//").replace("%", "/%").replace("_", "/_")
    return event.c.key.like(escaped.replace(ANY_KEY, "%"), escape="/")
