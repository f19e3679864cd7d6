"""Takes in the events of the log, as the leader of one epoch: a transaction per batch.

No thread and no waiting: `loop` calls it as fast as events come, simulations one step at a time.
"""

import logging
from collections.abc import Iterator
from typing import NamedTuple

from aiflow_core.clock import to_datetime
from aiflow_core.errors import ConfigError, UnavailableError, UsageError
from aiflow_core.model.event import Event, EventType
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import Changes, DeadLetter, OutboxEntry, Reply, State
from aiflow_scheduler_event.store import CONSUMER, LostRaceError, Store, storable

log = logging.getLogger(__name__)

TRIES = 3
"""So often an event is tried before it goes to the dead letters."""


class Step(NamedTuple):
    """What one transaction has made durable.

    Attributes:
        due: the messages that are to be delivered now.
        events: those that were taken in.
    """

    changes: Changes
    due: list[OutboxEntry]
    events: list[Event]


class Decider:
    """The engine on top of its store.

    Attributes:
        unsent: the messages that the last leader may not have delivered.

    Any error but a dead letter's means that what is in memory is not to be used any more.
    """

    def __init__(self, store: Store, epoch: int) -> None:
        """`LostRaceError` when somebody else leads, in a later epoch."""
        self._store = store
        self.epoch = epoch
        self.unsent: list[OutboxEntry] = []
        self._load()

    @property
    def state(self) -> State:
        return self._engine.state

    def take_in(self, batch: list[Event], arrived: list[str]) -> Iterator[Step]:
        """Decide on the next events of the log, all in one transaction. `arrived` are ids of
        messages that have been delivered and can be forgotten.

        An event that cannot be taken in, however often it is tried, goes to the dead letters; the
        others are then done one by one. `ConfigError` when they do not follow on what was taken in
        before: the log has been cut.
        """
        if batch and batch[0].offset != self.state.offset + 1:
            raise missing(self.state.offset)
        try:
            yield self._commit(batch, arrived)
            return
        except (LostRaceError, UnavailableError):
            raise
        except Exception as error:
            if not batch:
                raise
            log.warning("%d event(s) are tried again one by one: %s", len(batch), error)
            tries = 1 if len(batch) == 1 else 0
        self._load()  # what is in memory is half changed
        for event in batch:
            yield self._take_in_one(event, tries)

    def _take_in_one(self, event: Event, tries: int) -> Step:
        while True:
            try:
                return self._commit([event], [])
            except (LostRaceError, UnavailableError):
                raise
            except Exception as error:
                tries += 1
                self._load()
                if tries >= TRIES:
                    return self._bury(event, error, tries)

    def _commit(self, batch: list[Event], arrived: list[str]) -> Step:
        before, changes = self.state.offset, Changes()
        for event in batch:
            self._engine.apply(event, changes)
        due = self._store.commit(before, self.state, changes, arrived, self.epoch)
        return Step(changes, due, batch)

    def _bury(self, event: Event, error: Exception, tries: int) -> Step:
        log.error("Event %d goes to the dead letters: %s", event.offset, error, exc_info=error)
        why = storable(f"{type(error).__name__}: {error}")
        changes = Changes()
        changes.dead_letters.append(
            DeadLetter(event.offset, CONSUMER, why, to_datetime(event.create_time), tries)
        )
        if event.type is EventType.COMMAND:
            refusal = UsageError(f"The scheduler cannot do this: {why}.")
            changes.replies.append(Reply(event.id, event.offset, error=refusal.to_wire()))
        before, self.state.offset = self.state.offset, event.offset
        due = self._store.commit(before, self.state, changes, [], self.epoch)
        return Step(changes, due, [event])

    def _load(self) -> None:
        state, self.unsent = self._store.load(self.epoch)
        self._engine = Engine(state)


def missing(offset: int) -> ConfigError:
    """The error that says that the log does not go on behind `offset`, although it is longer."""
    return ConfigError(
        f"The log was cut too early: event {offset + 1} is gone, and was not yet taken in.",
        next_step="Restore the log, or start with empty metadata (`aiflow db reset`).",
    )
