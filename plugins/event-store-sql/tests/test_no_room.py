"""No room on a disk: nothing acknowledged is lost, and it goes on by itself when there is some."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from aiflow_core.database import open_engine
from aiflow_core.errors import NoRoomError
from aiflow_core.model.event import Event
from aiflow_event_store_sql.event_store import SqlEventStore

# Users of the distributions' servers, which must be able to write on the disk.
OWNERS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 16 megabytes, of which the file `reserve` takes half."""
    # Not in the directory of the test, which the servers' users may not enter.
    disk = Path(tempfile.mkdtemp(prefix="aiflow-small-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "aiflow", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        disk.rmdir()
        pytest.skip("needs mount (which only root may use)")
    try:
        (disk / "reserve").write_bytes(bytes(8 << 20))
        (disk / "data").mkdir()
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
        disk.rmdir()


@pytest.fixture
def store(database_url: str, disk: Path) -> Iterator[SqlEventStore]:
    """A log whose events are on the disk."""
    data = disk / "data"
    if database_url.startswith("sqlite"):
        database_url = f"sqlite:///{data}/events.db"
    with closing(SqlEventStore(database_url)) as store:
        store.initialize()
        engine = open_engine(database_url).execution_options(isolation_level="AUTOCOMMIT")
        if owner := OWNERS.get(engine.dialect.name):
            shutil.chown(data, owner)
            move_events(engine, data)
        yield store
    if engine.dialect.name == "postgresql":
        execute(engine, "DROP TABLE event", "DROP TABLESPACE small_disk")
    engine.dispose()


def move_events(engine: Engine, directory: Path) -> None:
    if engine.dialect.name == "postgresql":
        execute(
            engine,
            f"CREATE TABLESPACE small_disk LOCATION '{directory}'",
            "ALTER TABLE event SET TABLESPACE small_disk",
        )
        return
    with engine.connect() as connection:
        _, definition = connection.execute(text("SHOW CREATE TABLE event")).one()
    execute(engine, "DROP TABLE event", f"{definition} DATA DIRECTORY='{directory}'")


def execute(engine: Engine, *statements: str) -> None:
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))


def some() -> list[Event]:
    """New events that cannot be compressed and need no pages of their own, because MariaDB 10.11
    ends itself when there is no room for these."""
    return [Event("k", os.urandom(1500).hex()) for _ in range(8)]


def fill(store: SqlEventStore, stored: list[Event]) -> None:
    while len(stored) < 10_000:
        stored += store.append(some())


def test_a_full_disk_refuses_events_until_there_is_room(store: SqlEventStore, disk: Path) -> None:
    stored: list[Event] = []
    with pytest.raises(NoRoomError, match="has no room left") as refused:
        fill(store, stored)
    with pytest.raises(NoRoomError), store.transaction() as transaction:
        transaction.append(some() * 50)
    assert "Make room" in refused.value.next_step
    assert store.read(limit=10_000) == stored
    assert stored

    (disk / "reserve").unlink()

    stored += store.append(some())
    with store.transaction() as transaction:
        stored += transaction.append(some())
    assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
    assert store.read(limit=10_000) == stored


# Has its files limited in the middle of its work, until it is told that they may grow again.
LIMITED = """
import resource, sys
from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event
from aiflow_event_store_sql.event_store import SqlEventStore

store = SqlEventStore(sys.argv[1])
store.initialize()
stored = store.append([Event("k", "v" * 10_000)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
refused = 0
while refused < 3:
    try:
        stored += store.append([Event("k", "v" * 10_000, id=str(len(stored)))])
    except UnavailableError as error:
        refused += 1
        said = str(error)
assert "disk I/O error" in said, said
assert store.read() == stored
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
stored += store.append([Event("k", "v" * 10_000, id=str(len(stored)))])
assert store.read() == stored
assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
print(len(stored))
"""


def test_a_file_of_sqlite_that_may_not_grow_is_an_error_until_it_may(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, f"sqlite:///{tmp_path}/events.db"],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 5
