"""The tables of each revision, with rows in them, on the way to the newest one and back."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from aiflow_core.database import _alembic, version_table
from aiflow_core.errors import ConfigError
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.state import DeadLetter
from aiflow_scheduler_event.store import PACKAGE, Store

OLD_LETTER = {
    "consumer": "scheduler",
    "error": "KeyError: 'x' 🧡",
    "create_time": 1_714_564_800_000,
}


@pytest.fixture
def old(database_url: str) -> Iterator[Store]:
    """A database of revision 0001 with a dead letter and a namespace in it."""
    with closing(Store(database_url)) as store:
        with store.engine.begin() as connection:
            command.upgrade(_alembic(PACKAGE, connection), "0001")
        quoted = store.engine.dialect.identifier_preparer.quote("offset")
        with store.engine.begin() as connection:
            connection.execute(
                text(
                    f"INSERT INTO dead_letter ({quoted}, consumer, error, create_time) "
                    "VALUES (7, :consumer, :error, :create_time)"
                ),
                OLD_LETTER,
            )
        yield store


def columns(store: Store, table: str) -> list[str]:
    return [column["name"] for column in inspect(store.engine).get_columns(table)]


def test_an_old_database_is_refused_until_it_is_upgraded(old: Store) -> None:
    with pytest.raises(ConfigError, match="is at revision 0001"):
        old.check("aiflow db upgrade")

    old.initialize()

    old.check("aiflow db upgrade")


def test_what_was_in_the_tables_is_there_after_the_upgrade(old: Store) -> None:
    old.initialize()

    (letter,) = old.dead_letters_of(7)
    assert (letter.offset, letter.consumer, letter.error) == (7, "scheduler", "KeyError: 'x' 🧡")
    assert (letter.tries, letter.evaluation) == (1, None)
    assert old.load()[0].offset == 0
    assert [n.name for n in old.namespaces(None, 0)] == ["default"]


def test_what_was_in_the_tables_is_there_after_the_way_back(old: Store) -> None:
    before = {table: columns(old, table) for table in inspect(old.engine).get_table_names()}
    old.initialize()

    old.downgrade("0001")

    assert {table: columns(old, table) for table in before} == before
    with old.engine.begin() as connection:
        error: Any = connection.scalar(text("SELECT error FROM dead_letter"))
    assert error == OLD_LETTER["error"]
    old.initialize()
    assert [type(letter) for letter in old.dead_letters()] == [DeadLetter]


def test_the_revisions_lead_to_the_tables_that_the_code_knows(old: Store) -> None:
    old.initialize()

    with old.engine.begin() as connection:
        # Not the types: those of the code have their own idea of how they are kept.
        options = {"version_table": version_table(PACKAGE), "compare_type": False}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []


def test_nothing_is_left_at_the_base(old: Store) -> None:
    old.initialize()

    old.downgrade("base")

    assert inspect(old.engine).get_table_names() == [version_table(PACKAGE)]
