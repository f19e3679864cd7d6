"""The quick forms of the campaigns in `tests/chaos`, each with a seed of its own every time."""

import random
from typing import Any

import pytest

from .chaos.campaign import Report
from .chaos.databases import databases
from .chaos.deployment import KINDS
from .chaos.kills import kills
from .chaos.partitions import partitions
from .chaos.pauses import pauses
from .chaos.points import points

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture
def seed() -> int:
    """The report tells it."""
    return random.randrange(2**32)


def on(kind: str) -> Any:
    """A parameter that is marked as what needs that database server."""
    return pytest.param(kind, marks=getattr(pytest.mark, kind))


@pytest.fixture(params=[on(kind) for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    """Of a database server that this machine has."""
    name: str = request.param
    if missing := KINDS[name].missing():
        pytest.skip(f"needs {name} ({missing})")
    return name


def assert_clean(report: Report) -> None:
    print(report.text())
    assert not report.violations, report.text()


def test_nothing_is_lost_or_done_twice_through_sixty_kills(seed: int) -> None:
    assert_clean(kills(60, seed))


def test_nothing_is_lost_or_done_twice_by_who_dies_at_a_crash_point(seed: int) -> None:
    assert_clean(points(seed))


def test_nothing_is_lost_or_done_twice_while_one_of_two_servers_dies(kind: str, seed: int) -> None:
    assert_clean(kills(15, seed, servers=2, kind=kind))


# One kind of database each is enough for these: what differs between them the kills have shown.
@pytest.mark.parametrize("kind", [on("postgresql")], indirect=True)
def test_nothing_is_lost_or_done_twice_by_who_has_stood_still(kind: str, seed: int) -> None:
    assert_clean(pauses(5, seed, servers=2, kind=kind))


@pytest.mark.parametrize("kind", [on("mariadb")], indirect=True)
def test_nothing_is_lost_or_done_twice_on_lines_that_fail(kind: str, seed: int) -> None:
    assert_clean(partitions(5, seed, longest=5.0, servers=2, kind=kind))


def test_nothing_is_lost_or_done_twice_while_databases_crash(kind: str, seed: int) -> None:
    assert_clean(databases(kind, 5, seed, longest=5.0))
