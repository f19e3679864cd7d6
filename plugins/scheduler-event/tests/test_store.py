"""What the store gives back is what the engine had in memory."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import select, text

from aiflow_core.errors import ConfigError, NotFoundError
from aiflow_core.model import algebra
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    TaskExecution,
    WorkflowExecution,
    WorkflowSchedule,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.status import TaskStatus, WorkflowStatus
from aiflow_scheduler_event import tables
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.records import folded
from aiflow_scheduler_event.state import (
    Changes,
    DeadLetter,
    OutboxEntry,
    Publish,
    Reply,
    State,
    Submit,
)
from aiflow_scheduler_event.store import LostRaceError, Store, UnstorableError, alive_tasks
from aiflow_scheduler_event.tasks import attempt_request

from .play import START, Play, met, seen, stories, task

OpenStore = Callable[[], Store]

# A commit that is on disk takes its time.
FEW = settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def open_store(database_url: str) -> Iterator[OpenStore]:
    """Opens the database, as often as one likes; its tables are there."""

    def open_one() -> Store:
        return stack.enter_context(closing(Store(database_url)))

    with ExitStack() as stack:
        open_one().initialize()
        yield open_one


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()


def replay(store: Store, log: list[Event], most: int = 1) -> tuple[Engine, list[OutboxEntry]]:
    """Let a new engine take in what the store has not seen of the log, `most` events a commit."""
    state, _ = store.load()
    engine = Engine(state)
    outbox: list[OutboxEntry] = []
    while state.offset < len(log):
        before, changes = state.offset, Changes()
        for event in log[before : before + most]:
            engine.apply(event, changes)
        store.commit(before, state, changes, [])
        outbox += changes.outbox
    return engine, outbox


def empty(store: Store) -> None:
    """Back to empty tables, which is faster than a new database."""
    with store.engine.begin() as connection:
        for table in tables.metadata.tables.values():
            if table is not tables.consumer:
                connection.execute(table.delete())
        connection.execute(tables.consumer.update().values(last_seq=0, counters={}))
        connection.execute(tables.namespace.insert(), {"name": "default", "properties": {}})


def rows(store: Store) -> dict[str, int]:
    """How many rows each table has."""
    with store.engine.connect() as connection:
        return {
            name: len(connection.execute(select(table)).all())
            for name, table in tables.metadata.tables.items()
        }


class TestRoundTrip:
    @given(play=stories())
    @FEW
    def test_what_is_loaded_equals_what_was_in_memory(self, store: Store, play: Play) -> None:
        for most in (7, 1000):
            empty(store)

            engine, outbox = replay(store, play.log, most)
            loaded, waiting = store.load()

            assert seen(loaded) == seen(engine.state) == seen(play.state)
            assert waiting == [entry for entry in outbox if entry.is_kept]

    @given(play=stories())
    @FEW
    def test_loading_anew_between_commits_changes_no_decision(
        self, store: Store, play: Play
    ) -> None:
        empty(store)

        ends = [*range(9, len(play.log), 9), len(play.log)]
        outbox = [entry for end in ends for entry in replay(store, play.log[:end], 9)[1]]

        assert seen(store.load()[0]) == seen(play.state)
        assert outbox == play.outbox

    def test_an_attempt_is_handed_over_again_with_the_events_that_started_it(
        self, store: Store
    ) -> None:
        play = Play(task("actor", met(START, algebra.count(algebra.event("a"), 2)), retries=1))
        play.start()
        play.send("a", "1")
        play.send("a", '"日本語\\u0000"')
        play.fail("actor")
        play.pass_time(1)
        _, outbox = replay(store, play.log, 1)

        ((run, live),) = alive_tasks(store.load()[0])

        request = attempt_request(run, live)
        assert [e.value for e in request.events] == ["1", '"日本語\\u0000"']
        assert Submit(request) in [entry.message for entry in outbox]

    def test_executions_and_tasks_are_read_back_as_others_see_them(self, store: Store) -> None:
        play = Play()
        play.tell_a_story()
        replay(store, play.log, 3)

        for execution in play.executions.values():
            assert store.one(WorkflowExecution, "", execution.id) == execution
            tasks = store.of(TaskExecution, "workflow_execution_id", execution.id)
            assert [(t.task_name, str(t.status)) for t in tasks] == play.tasks(execution.id)
        assert len(store.of(WorkflowSnapshot, "workflow_id", 1)) == 1
        assert store.workflow("default", "flow") == play.state.workflows[1]
        assert store.decisions(1, "b") == folded(
            d for d in play.decisions if (d.workflow_execution_id, d.task_name) == (1, "b")
        )
        assert store.of(WorkflowTrigger, "workflow_id", 1) == list(play.state.triggers.values())
        assert store.of(WorkflowSchedule, "workflow_id", 1) == list(play.state.schedules.values())


class TestOneWriter:
    def test_of_two_that_go_on_from_the_same_place_the_second_is_refused(
        self, open_store: OpenStore
    ) -> None:
        play = Play()
        play.tell_a_story()
        one, other = open_store(), open_store()
        state, _ = other.load()
        changes = Changes()
        Engine(state).apply(play.log[0], changes)
        replay(one, play.log[:1])
        before = rows(one)

        with pytest.raises(LostRaceError, match="Another server has gone on"):
            other.commit(0, state, changes, [])

        assert rows(one) == before

    def test_whoever_has_an_older_epoch_writes_no_more(self, open_store: OpenStore) -> None:
        play = Play()
        play.tell_a_story()
        old, new = open_store(), open_store()
        state, _ = old.load(epoch=3)
        changes = Changes()
        Engine(state).apply(play.log[0], changes)

        new.load(epoch=4)
        before = rows(new)

        with pytest.raises(LostRaceError):
            old.commit(0, state, changes, [], epoch=3)
        with pytest.raises(LostRaceError):
            old.load(epoch=3)
        assert rows(new) == before
        assert new.load(epoch=4)[0].offset == 0

    def test_a_dead_letter_is_refused_in_the_same_way(self, open_store: OpenStore) -> None:
        one, other = open_store(), open_store()
        play = Play()
        play.tell_a_story()
        replay(one, play.log)

        with pytest.raises(LostRaceError):
            other.commit(0, State(offset=1), Changes(dead_letters=[a_letter()]), [])

        assert one.dead_letters() == []

    @pytest.mark.parametrize("kind", ["task", "execution"])
    def test_a_final_status_never_changes(self, store: Store, kind: str) -> None:
        from aiflow_scheduler_event.step import replace

        play = Play()
        play.tell_a_story()
        replay(store, play.log)
        state, _ = store.load()
        changes = Changes()
        if kind == "task":
            live = play.task("a")
            assert live.status is TaskStatus.SUCCESS
            changes.put(replace(live, status=TaskStatus.RUNNING))
        else:
            run = next(iter(state.runs.values()))
            finished = replace(run.execution, id=1, status=WorkflowStatus.RUNNING)
            changes.put(finished)
        before = state.offset
        state.offset += 1

        with pytest.raises(LostRaceError):
            store.commit(before, state, changes, [])

        assert store.load()[0].offset == before

    def test_a_commit_is_all_or_nothing(self, store: Store) -> None:
        play = Play()
        play.tell_a_story()
        state = State()
        engine, changes = Engine(state), Changes()
        for event in play.log:
            engine.apply(event, changes)
        changes.replies.append(changes.replies[0])  # the same key again
        before = rows(store)

        with pytest.raises(UnstorableError):
            store.commit(0, state, changes, [])

        assert rows(store) == before
        assert store.load()[0].offset == 0


def a_letter() -> DeadLetter:
    return DeadLetter(1, "scheduler", "KeyError: 'x' 🧡", datetime(2024, 5, 1, 12, tzinfo=UTC))


class TestDeadLetters:
    def test_a_letter_that_another_has_redriven_is_not_redriven_again(self, store: Store) -> None:
        letter = a_letter()
        store.commit(0, State(offset=1), Changes(dead_letters=[letter]), [])
        store.commit(1, State(offset=2), Changes(redriven_letters=[letter.key]), [])

        with pytest.raises(UnstorableError, match="is there no more"):
            store.commit(2, State(offset=3), Changes(redriven_letters=[letter.key]), [])

        assert store.load()[0].offset == 2

    def test_a_letter_that_was_dropped_already_may_be_dropped_again(self, store: Store) -> None:
        letter = a_letter()
        store.commit(0, State(offset=1), Changes(dead_letters=[letter]), [])

        for offset in (1, 2):
            changes = Changes(dropped_letters=[letter.key])
            store.commit(offset, State(offset=offset + 1), changes, [])

        assert store.dead_letters() == []

    def test_an_event_that_does_harm_is_passed_over_and_kept(self, store: Store) -> None:
        store.commit(0, State(offset=1), Changes(dead_letters=[a_letter()]), [])

        assert store.load()[0].offset == 1
        assert store.dead_letters() == [a_letter()]


class TestOutbox:
    def test_what_was_delivered_is_struck_off_with_the_next_commit(self, store: Store) -> None:
        play = Play()
        play.tell_a_story()
        replay(store, play.log)
        state, waiting = store.load()
        assert waiting

        store.commit(state.offset, state, Changes(), [entry.id for entry in waiting[:2]])

        assert store.load()[1] == waiting[2:]

    def test_messages_of_one_step_keep_their_order(self, store: Store) -> None:
        changes = Changes()
        changes.outbox = [
            OutboxEntry(f"{9 - n}", 1, Publish(Event(f"key {n}", "日本語 🦊"))) for n in range(9)
        ]

        store.commit(0, State(offset=1), changes, [])

        assert store.load()[1] == changes.outbox


class TestReplies:
    def reply(self, store: Store, offset: int, *replies: Reply) -> None:
        changes = Changes()
        changes.replies += replies
        store.commit(store.load()[0].offset, State(offset=offset), changes, [])

    def test_an_answer_is_kept_as_it_was_given(self, store: Store) -> None:
        given = [
            Reply("done", 1, result={"id": 1, "deep": [None, 2.5, "🦊"]}),
            Reply("refused", 1, error={"code": "conflict", "what": "w", "next_step": ""}),
            Reply("empty", 1),
        ]
        self.reply(store, 1, *given)

        assert [store.reply(r.request_id) for r in given] == given
        assert store.reply("nobody asked") is None

    def test_an_answer_of_long_ago_is_forgotten(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("aiflow_scheduler_event.store.REPLIES_KEPT", 10)
        self.reply(store, 1, Reply("old", 1))
        self.reply(store, 11, Reply("young", 11))
        assert store.reply("old") is not None

        self.reply(store, 12, Reply("new", 12))

        assert store.reply("old") is None
        assert store.reply("young") is not None


class TestDeletion:
    @pytest.mark.parametrize("most", [1, 1000], ids=["one by one", "in one transaction"])
    def test_nothing_is_left_of_a_deleted_workflow(self, store: Store, most: int) -> None:
        play = Play()
        play.tell_a_story()
        play.end_everything()
        play.delete()

        replay(store, play.log, most)

        kept = {"namespace", "consumer", "outbox", "reply"}
        assert {name for name, count in rows(store).items() if count} <= kept
        with pytest.raises(NotFoundError):
            store.workflow("default", "flow")

    @pytest.mark.parametrize("most", [1, 1000], ids=["one by one", "in one transaction"])
    def test_nothing_is_left_of_a_deleted_execution(self, store: Store, most: int) -> None:
        play = Play()
        play.tell_a_story()
        play.end_everything()
        for execution_id in list(play.executions):
            play.delete(execution_id)

        replay(store, play.log, most)

        found = rows(store)
        assert found["workflow_execution"] == found["task_execution"] == 0
        assert store.decisions(1, "b") == []
        assert found["workflow"] == 1

    def test_a_workflow_may_be_deleted_and_uploaded_again_in_one_transaction(
        self, store: Store
    ) -> None:
        play = Play()
        play.tell_a_story()
        play.end_everything()
        replay(store, play.log)
        play.delete()
        play.tell_a_story()

        engine, _ = replay(store, play.log, 1000)

        assert seen(store.load()[0]) == seen(engine.state)
        assert store.workflow("default", "flow").id == 2
        assert rows(store)["workflow_snapshot"] == 1


class TestTables:
    def test_a_database_without_tables_is_refused_with_the_command_that_makes_them(
        self, database_url: str
    ) -> None:
        with closing(Store(database_url)) as store:
            with pytest.raises(ConfigError, match=r"has no tables yet.*`aiflow db init`"):
                store.check("aiflow db init")

            store.initialize()

            store.check("aiflow db init")
            assert [n.name for n in store.namespaces(None, 0)] == ["default"]

    def test_a_database_with_tables_of_another_program_is_refused_and_left_as_it_is(
        self, database_url: str
    ) -> None:
        with closing(Store(database_url)) as store:
            with store.engine.begin() as connection:
                connection.execute(text("CREATE TABLE namespace (name VARCHAR(256))"))
                connection.execute(text("INSERT INTO namespace VALUES ('of 0.4')"))

            with pytest.raises(ConfigError, match=r"AIFlow 0.4 makes them: .*namespace.*Name ano"):
                store.initialize()

            with store.engine.connect() as connection:
                assert connection.scalar(text("SELECT name FROM namespace")) == "of 0.4"

    def test_making_the_tables_again_keeps_what_is_in_them(self, store: Store) -> None:
        play = Play()
        play.tell_a_story()
        replay(store, play.log)
        before = rows(store)

        store.initialize()

        assert rows(store) == before

    def test_tables_are_removed_and_made_anew(self, store: Store) -> None:
        play = Play()
        replay(store, play.log)

        store.downgrade("base")

        with pytest.raises(ConfigError):
            store.check("aiflow db init")
        store.initialize()
        assert store.load()[0].offset == 0


def test_what_the_database_can_never_keep_is_told_apart(store: Store) -> None:
    changes: Any = Changes()
    changes.replies = [Reply("same", 1), Reply("same", 1)]

    with pytest.raises(UnstorableError):
        store.commit(0, State(offset=1), changes, [])
