"""The disk of a notification server fails now and then; `tests.chaos.disk` does it everywhere."""

import shutil

import pytest

from .chaos.disk import EIO, ENOSPC, Fault, survey, synced_again


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (not installed)")
@pytest.mark.parametrize("fault", [ENOSPC, EIO], ids=["ENOSPC", "EIO"])
def test_a_disk_that_fails_costs_no_event_and_no_restart(fault: Fault) -> None:
    figures = survey(fault, points=8, events=100)

    assert figures.points >= 8
    assert not figures.broken, "\n".join(figures.lines())


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
