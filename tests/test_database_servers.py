"""The database servers of the tests themselves."""

import pytest
from sqlalchemy import create_engine, text

from aiflow_core.testing.databases import DatabaseServer, MariaServer, PostgresServer


@pytest.mark.parametrize(
    "server_class",
    [
        pytest.param(PostgresServer, marks=pytest.mark.postgresql),
        pytest.param(MariaServer, marks=pytest.mark.mariadb),
    ],
)
def test_what_was_committed_survives_a_crash(server_class: type[DatabaseServer]) -> None:
    if missing := server_class.missing():
        pytest.skip(f"needs {server_class.name} ({missing})")
    with server_class(survives_crashes=True) as server:
        engine = create_engine(server.url("kept"), pool_pre_ping=True)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE kept (number INTEGER)"))
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO kept VALUES (7)"))

        server.crash()
        server.recover()

        with engine.connect() as connection:
            assert list(connection.scalars(text("SELECT number FROM kept"))) == [7]
        engine.dispose()
