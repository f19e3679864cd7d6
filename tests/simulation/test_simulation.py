"""Quick: some hundred seeds of the simulation, and those that once failed.

`python -m tests.simulation --seeds 100000` plays as many as one likes.
"""

from collections.abc import Iterator

import pytest

from .simulate import PAUSES, Desk, desk, simulate

SEEDS = 200
AT_ONCE = 20

ONCE_FAILED = {
    133: "a server that was restarted was taken for two",
    191: "a stand-by started again, after a power failure, what the log knew to have begun",
    194: "after a power failure an attempt was resumed whose end stood in the log already",
    245: "a paused server started an attempt that another had stopped in the meantime",
    340: "a claim outlived the lease under which it was made",
}


@pytest.fixture(scope="module")
def place() -> Iterator[Desk]:
    with desk() as made:
        yield made


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_whatever_goes_wrong_nothing_is_lost_and_nothing_done_twice(
    place: Desk, first: int
) -> None:
    outcomes = [simulate(seed, place) for seed in range(first, first + AT_ONCE)]

    # Much has happened, or nothing was shown.
    assert sum(outcome.events for outcome in outcomes) > 50 * AT_ONCE
    assert sum(outcome.processes for outcome in outcomes) > 10 * AT_ONCE
    assert sum(outcome.crashes for outcome in outcomes) > 0


@pytest.mark.parametrize("seed", ONCE_FAILED)
def test_what_once_failed_does_not_fail_again(place: Desk, seed: int) -> None:
    simulate(seed, place)


@pytest.mark.parametrize("seed", [13, 117])
def test_servers_that_cannot_be_relied_upon_once_failed_at_this(place: Desk, seed: int) -> None:
    simulate(seed, place, PAUSES)


def test_a_seed_is_played_the_same_again(place: Desk) -> None:
    first = simulate(7, place)
    simulate(8, place)
    again = simulate(7, place)

    assert again.history == first.history
    assert again.fingerprint == first.fingerprint
