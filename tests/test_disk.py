"""The disk of a notification server fails now and then; `tests.chaos.disk` does it everywhere."""

import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from aiflow_core.errors import NoRoomError
from aiflow_core.model.event import Event
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_notification_server.event_store import RemoteEventStore

from .chaos.disk import EIO, ENOSPC, Fault, survey, synced_again
from .notification import log_server


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (not installed)")
@pytest.mark.parametrize("fault", [ENOSPC, EIO], ids=["ENOSPC", "EIO"])
def test_a_disk_that_fails_costs_no_event_and_no_restart(fault: Fault) -> None:
    figures = survey(fault, points=8, events=100)

    assert figures.points >= 8
    assert not figures.broken, "\n".join(figures.lines())


# Has a small disk of its own, and needs no rights for it.
SMALL_DISK = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")


def test_a_server_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=8m aiflow {disk} && cp "$0" {disk}/ns.db && exec "$@"'
    empty, database = tmp_path / "empty.db", f"sqlite:///{disk}/ns.db"
    if subprocess.run(
        [*SMALL_DISK, f"mount -t tmpfs aiflow {disk}"], capture_output=True
    ).returncode:
        pytest.skip("needs unshare (with a user namespace that may mount)")
    with closing(SqlEventStore(f"sqlite:///{empty}")) as log:
        log.initialize()

    with (
        log_server(tmp_path, database, under=(*SMALL_DISK, mount, str(empty))) as server,
        closing(RemoteEventStore(server.address, timeout=1)) as store,
    ):
        reserve = Path(f"/proc/{server.process.pid}/root{disk}/reserve")
        reserve.write_bytes(bytes(4 << 20))
        stored: list[Event] = []

        def fill() -> None:
            while len(stored) < 1000:
                stored.extend(store.append([Event("k", "v" * 50_000)]))

        with pytest.raises(NoRoomError, match="disk is full"):
            fill()
        assert store.read() == stored
        reserve.unlink()
        stored += store.append([Event("k", "v" * 50_000)])

        assert [event.offset for event in stored] == list(range(1, len(stored) + 1))
        assert store.read() == stored


def test_a_second_sync_of_a_handle_that_failed_is_noticed() -> None:
    written = '1  pwrite64(4</home/ns.db-wal>, "x", 24, 0) = 24'
    failed = "1  fdatasync(4</home/ns.db-wal>) = -1 EIO (Input/output error) (INJECTED)"
    begun = "1  fdatasync(4</home/ns.db-wal> <unfinished ...>"
    resumed = "1  <... fdatasync resumed>) = -1 EIO (Input/output error) (INJECTED)"
    good = "1  fdatasync(4</home/ns.db-wal>) = 0"
    of_another = "2  fdatasync(3</home/ns.db>) = 0"
    closed = "1  close(4</home/ns.db-wal>) = 0"

    assert synced_again("\n".join([written, failed, closed, written, good, of_another])) == 0
    assert synced_again("\n".join([written, failed, of_another, written, good, closed])) == 1
    assert synced_again("\n".join([written, begun, of_another, resumed, good])) == 1
    assert synced_again("\n".join([written, good, failed, written, good])) == 0
