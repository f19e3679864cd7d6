"""Opening databases."""

import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psycopg
import pytest
from pymysql.connections import Connection
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, select, text
from sqlalchemy.exc import OperationalError

from aiflow_core import database
from aiflow_core.database import open_engine
from aiflow_core.testing.databases import on_servers


@pytest.fixture
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_a_connection_that_fails_leaves_nothing_for_the_garbage_collector(
    no_collections: None,
) -> None:
    engine = open_engine("mysql://nobody@127.0.0.1:1/nothing")

    with pytest.raises(OperationalError):
        engine.connect()

    assert not [found for found in gc.get_objects() if isinstance(found, Connection)]


@pytest.mark.parametrize(
    "database_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)
def test_a_process_can_be_stopped_before_a_message_to_postgresql_but_not_between_two_of_a_statement(
    database_url: str, tmp_path: Path
) -> None:
    engine = open_engine(database_url)
    notes = Table("note", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text))
    with engine.connect() as connection, open(tmp_path / "sent", "w") as sent:
        notes.create(connection)
        driver = cast(psycopg.Connection, connection.connection.driver_connection)
        driver.pgconn.trace(sent.fileno())
        rows = [{"id": n, "text": "it's 100 %" * 2_000} for n in range(10)]
        connection.execute(notes.insert(), rows)
        connection.execute(notes.update().where(notes.c.id == 3).values(text="changed"))
        connection.execute(notes.delete().where(notes.c.id == bindparam("n")), [{"n": 1}, {"n": 2}])
        read = connection.execute(notes.select().order_by(notes.c.id)).all()
        connection.commit()
        driver.pgconn.untrace()

    assert [(row.id, len(row.text)) for row in read] == [
        (n, 7 if n == 3 else 20_000) for n in range(10) if n not in (1, 2)
    ]
    trace = (tmp_path / "sent").read_text()
    messages = re.findall(r"^[-\d]+ [:.\d]+\tF\t\d+\t(\w+)", trace, re.MULTILINE)
    assert messages == ["Query"] * 5, "four statements and COMMIT"
    engine.dispose()


@on_servers
def test_a_process_that_stops_taking_results_keeps_its_locks_for_seconds_only(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "IDLE_SECONDS", 1)
    engine = open_engine(database_url)
    notes = Table("note", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text))
    notes.create(engine)
    with engine.begin() as connection:
        connection.execute(notes.insert(), {"id": 1, "text": "as it was"})

    with engine.connect() as stopped:
        stopped.execute(notes.update().values(text="never committed"))
        if engine.dialect.name == "postgresql":
            driver = cast(psycopg.Connection, stopped.connection.driver_connection)
            driver.pgconn.send_query(b"SELECT repeat('x', 100000000)")
        else:
            rows = text("SELECT repeat('x', 1000) FROM seq_1_to_100000")
            stopped.execution_options(stream_results=True).execute(rows)
        with engine.begin() as other:
            assert other.scalars(select(notes.c.text).with_for_update()).all() == ["as it was"]
        stopped.invalidate()
    engine.dispose()
