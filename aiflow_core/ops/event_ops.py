"""Operations on the events that could not be taken in."""

from aiflow_core.model.execution import DeadLetter
from aiflow_core.ops.client import server


def list_dead_letters(limit: int | None = None, offset: int | None = None) -> list[DeadLetter]:
    """All dead letters without their events, or `limit` of them after the first `offset`."""
    with server() as client:
        return client.list_dead_letters(limit, offset or 0)


def get_dead_letter(event_offset: int) -> list[DeadLetter]:
    """The dead letters of the event at this offset, with the event; one for each consumer."""
    with server() as client:
        return client.get_dead_letter(event_offset)


def redrive_dead_letter(event_offset: int, consumer: str | None = None) -> None:
    """Let the event be taken in again, by all who could not or by one of them."""
    with server() as client:
        client.redrive_dead_letter(event_offset, consumer)


def redrive_dead_letters() -> int:
    """Redrive each dead letter for which that is possible; how many these were."""
    with server() as client:
        return client.redrive_dead_letters()


def drop_dead_letter(event_offset: int, consumer: str | None = None) -> None:
    """Forget the dead letters of the event, or that of one consumer."""
    with server() as client:
        client.drop_dead_letter(event_offset, consumer)


def drop_dead_letters() -> int:
    """Forget all dead letters; how many these were."""
    with server() as client:
        return client.drop_dead_letters()
