"""A reader asks for as many events as make a page, without knowing how large they are."""

from aiflow_core.model.event import Event
from aiflow_core.specs.event_store import PAGE_CHARACTERS, PageSize, characters

SMALL = Event("k", "v" * 100)
LARGE = Event("k", "v" * 1_000_000)


def read(page: PageSize, event: Event) -> int:
    """How many the next page takes, all of which are like the event."""
    limit = page.limit
    page.saw([event] * limit)
    return limit


def test_pages_of_small_events_grow_to_a_limit() -> None:
    page = PageSize()

    assert [read(page, SMALL) for _ in range(6)] == [16, 32, 64, 128, 256, 256]


def test_after_one_page_of_large_events_a_page_is_small() -> None:
    page = PageSize()
    for _ in range(10):
        read(page, SMALL)

    read(page, LARGE)

    assert read(page, LARGE) * characters(LARGE) <= PAGE_CHARACTERS


def test_there_is_always_one_and_it_finds_back_to_many() -> None:
    page = PageSize()
    read(page, Event("k", "v" * 2 * PAGE_CHARACTERS))
    assert page.limit == 1

    assert [read(page, SMALL) for _ in range(9)][-1] == 256


def test_a_page_that_held_nothing_says_nothing() -> None:
    page = PageSize()

    page.saw([])

    assert page.limit > 1
