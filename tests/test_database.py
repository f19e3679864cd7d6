"""Opening databases."""

import gc
from collections.abc import Iterator

import pytest
from pymysql.connections import Connection
from sqlalchemy.exc import OperationalError

from aiflow_core.database import open_engine


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
