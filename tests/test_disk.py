"""The disk of a notification server fails now and then; `tests.chaos.disk` does it everywhere."""

import shutil

import pytest

from .chaos.disk import EIO, ENOSPC, Fault, survey


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (not installed)")
@pytest.mark.parametrize("fault", [ENOSPC, EIO], ids=["ENOSPC", "EIO"])
def test_a_disk_that_fails_costs_no_event_and_no_restart(fault: Fault) -> None:
    figures = survey(fault, points=8, events=100)

    assert figures.points >= 8
    assert not figures.broken, "\n".join(figures.lines())
