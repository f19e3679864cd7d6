"""The quick forms of the campaigns in `tests/chaos`, each with a seed of its own every time."""

import random

import pytest

from .chaos.campaign import Report
from .chaos.databases import KINDS, databases
from .chaos.kills import kills

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(400)]


@pytest.fixture
def seed() -> int:
    """The report tells it."""
    return random.randrange(2**32)


def assert_clean(report: Report) -> None:
    print(report.text())
    assert not report.violations, report.text()


def test_nothing_is_lost_or_done_twice_through_sixty_kills(seed: int) -> None:
    assert_clean(kills(60, seed))


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def test_nothing_is_lost_or_done_twice_while_databases_crash(kind: str, seed: int) -> None:
    if missing := KINDS[kind].missing():
        pytest.skip(f"needs {kind} ({missing})")
    assert_clean(databases(kind, 5, seed, longest=5.0))
