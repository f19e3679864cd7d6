"""The quick version of `python -m tests.chaos.poison`."""

from pathlib import Path

from .chaos import poison


def test_the_kinds_are_a_thousand_and_each_has_its_name() -> None:
    kinds = poison.all_kinds()

    assert len(kinds) >= 1000
    assert len({kind.name for kind in kinds}) == len(kinds)


def test_poison_of_a_hundred_kinds_harms_nobody_else(tmp_path: Path) -> None:
    outcome = poison.run(tmp_path, 100, rate=20)

    print(outcome.report())
    assert outcome.broken() == []
    assert set(outcome.became.values()) == {poison.REFUSED, poison.LETTER, poison.TAKEN}
