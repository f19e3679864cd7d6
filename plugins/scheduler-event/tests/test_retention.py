"""What is past goes, and nothing that is still needed."""

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

from aiflow_core import crash
from aiflow_core.clock import Clock
from aiflow_core.crash import passing
from aiflow_core.model.execution import (
    AttemptKey,
    BundleRef,
    TaskExecution,
    WorkflowSnapshot,
)
from aiflow_core.model.workflow import WorkflowDefinition
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_core.testing.executor import MemoryExecutor
from aiflow_scheduler_event import retention, tables
from aiflow_scheduler_event.commands import DeleteSnapshots, EnableWorkflow, SubmitWorkflow
from aiflow_scheduler_event.history import History
from aiflow_scheduler_event.retention import Retention
from aiflow_scheduler_event.state import DeadLetter
from aiflow_scheduler_event.store import LostRaceError, Store

from .play import MONDAY, START, STOP, Play, after, custom, on, seen, task
from .test_store import replay, rows

DAY = 86_400
KEPT = 30 * DAY
FAILED_LETTER = "KeyError: 'x'"


class Deployed:
    """What a play has led to, stored, and a retention that may sweep.

    Attributes:
        play: to be played on; `store_all` brings the database up to it.
        leader: whether this server leads.
    """

    def __init__(self, url: str, root: Path, play: Play) -> None:
        self.play = play
        self.clock = ManualClock(MONDAY)
        self.log = MemoryEventStore(self.clock)
        self.store = Store(url)
        self.store.initialize()
        self.executor = MemoryExecutor()
        self.blobs = MemoryBlobManager()
        self.member = SimpleNamespace(epoch=0)
        self.logs = root / "logs"
        self.retention = Retention(
            History(self.store.engine, url),
            self.member,  # type: ignore[arg-type]
            self.log,
            self.executor,
            self.blobs,
            self.clock,
            self.logs,
            KEPT * 1000,
        )
        self.store_all()

    def store_all(self, most: int | None = None) -> None:
        """Bring log, database and clock up to the play; the database to the first `most` events."""
        for event in self.play.log[self.log.head() :]:
            self.clock.jump((event.create_time - self.clock.now_ms()) / 1000)
            self.log.append([event])
        replay(self.store, self.play.log[:most])
        self.clock.jump((self.play.now - self.clock.now_ms()) / 1000)

    def days_later(self, days: float) -> None:
        self.play.pass_time(days * DAY)
        self.store_all()

    def sweep(self) -> None:
        self.retention.sweep()

    def execution_ids(self) -> list[int]:
        with self.store.engine.connect() as connection:
            ids = select(tables.workflow_execution.c.id).order_by(tables.workflow_execution.c.id)
            return list(connection.scalars(ids))

    def first_event(self) -> int:
        (first,) = self.log.read(limit=1)
        return first.offset


@pytest.fixture
def deployed(quick_sqlite_url: str, tmp_path: Path) -> Iterator[Deployed]:
    """A workflow of a task, and after it another one that waits for `go`."""
    play = Play(task("first"), task("second", on(START, "go"), on(STOP, "enough")))
    with closing_all(Deployed(quick_sqlite_url, tmp_path, play)) as deployed:
        yield deployed


def closing_all(deployed: Deployed) -> "closing[Deployed]":
    deployed.close = deployed.store.close  # type: ignore[attr-defined]
    return closing(deployed)  # type: ignore[type-var]


def run_through(deployed: Deployed) -> int:
    """An execution from its beginning to its end; its id."""
    execution_id = deployed.play.start()
    deployed.play.succeed("first", execution_id=execution_id)
    deployed.store_all()
    return execution_id


class TestExecutions:
    def test_go_with_all_that_is_theirs_when_they_ended_long_enough_ago(
        self, database_url: str, tmp_path: Path
    ) -> None:
        with closing_all(Deployed(database_url, tmp_path, Play(task("first")))) as deployed:
            old = run_through(deployed)
            deployed.days_later(20)
            young = run_through(deployed)
            deployed.days_later(15)

            deployed.sweep()

            assert old not in deployed.execution_ids()
            assert deployed.execution_ids() == [young]
            assert rows(deployed.store)["task_execution"] == 1
            assert deployed.store.decisions(old, "first") == []
            assert deployed.store.decisions(young, "first") != []

    def test_stay_while_they_run_however_old_they_are(self, deployed: Deployed) -> None:
        deployed.play.start()
        deployed.play.run("first")
        deployed.days_later(400)

        deployed.sweep()

        assert deployed.execution_ids() == [1]
        assert seen(deployed.store.load()[0]) == seen(deployed.play.state)

    def test_are_many_and_go_in_small_steps(
        self, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retention, "_EXECUTIONS_AT_ONCE", 3)
        for _ in range(10):
            run_through(deployed)
        deployed.days_later(31)
        commits: list[str] = []

        with passing(commits.append):
            deployed.sweep()

        assert deployed.execution_ids() == []
        assert commits.count("history.commit.after") >= 4

    def test_leave_to_those_that_run_the_latest_execution_of_each_task(
        self, quick_sqlite_url: str, tmp_path: Path
    ) -> None:
        play = Play(task("always"), task("again", on(START, "go")))
        with closing_all(Deployed(quick_sqlite_url, tmp_path, play)) as deployed:
            play.start()
            play.run("always")
            for _ in range(3):
                play.send("go")
                play.succeed("again")
            deployed.days_later(31)
            play.send("go")
            play.succeed("again")
            deployed.store_all()

            deployed.sweep()

            left = deployed.store.of(TaskExecution, "workflow_execution_id", 1)
            assert [(t.task_name, t.sequence_number) for t in left] == [("always", 1), ("again", 4)]
            assert seen(deployed.store.load()[0]) == seen(play.state)
            play.send("go")
            deployed.store_all()
            assert deployed.store.load()[0].runs[1].tasks["again"].sequence_number == 5


class TestTheLog:
    def test_forgets_what_is_old(self, deployed: Deployed) -> None:
        run_through(deployed)
        deployed.days_later(31)
        first_kept = deployed.play.send("something").offset
        deployed.store_all()

        deployed.sweep()

        assert deployed.first_event() == first_kept
        assert deployed.log.head() == first_kept

    def test_keeps_what_the_scheduler_has_not_taken_in(self, deployed: Deployed) -> None:
        taken_in = deployed.log.head()
        for _ in range(5):
            deployed.play.send("something")
        deployed.play.pass_time(100 * DAY)
        deployed.store_all(most=taken_in)

        deployed.sweep()

        assert deployed.first_event() == taken_in + 1
        replay(deployed.store, deployed.play.log)

    def test_keeps_the_event_of_a_condition_that_is_being_evaluated(
        self, quick_sqlite_url: str, tmp_path: Path
    ) -> None:
        play = Play(task("asks", custom(START, "question")))
        with closing_all(Deployed(quick_sqlite_url, tmp_path, play)) as deployed:
            play.start()
            question = play.send("question").offset
            deployed.days_later(60)
            play.send("something else")
            deployed.store_all()

            deployed.sweep()

            assert deployed.first_event() == question
            assert len(deployed.store.load()[0].evaluations) == 1

    def test_keeps_the_event_of_a_dead_letter_as_long_as_the_letter(
        self, quick_sqlite_url: str, tmp_path: Path
    ) -> None:
        play = Play(task("asks", custom(START, "question")))
        with closing_all(Deployed(quick_sqlite_url, tmp_path, play)) as deployed:
            play.start()
            question = play.send("question").offset
            deployed.days_later(25)
            play.answer(met=False, error=FAILED_LETTER)
            deployed.days_later(10)

            deployed.sweep()
            assert deployed.first_event() == question
            assert [letter.offset for letter in deployed.store.dead_letters()] == [question]

            deployed.days_later(25)
            deployed.sweep()
            assert deployed.store.dead_letters() == []
            assert deployed.log.read(limit=1) == [] or deployed.first_event() > question

    def test_goes_on_after_a_restart(self, deployed: Deployed) -> None:
        run_through(deployed)
        deployed.days_later(31)
        deployed.sweep()

        again = run_through(deployed)

        assert deployed.execution_ids() == [again]


def test_decisions_of_no_execution_go_with_their_events(deployed: Deployed) -> None:
    play = deployed.play
    play.add_trigger(on(START, "go").condition)
    play.do(EnableWorkflow("flow", "default", False))
    play.send("go")
    deployed.store_all()
    assert rows(deployed.store)["decision"] == 1
    deployed.days_later(31)
    play.send("something")
    deployed.store_all()

    deployed.sweep()

    assert rows(deployed.store)["decision"] == 0


class TestUploads:
    def bundle(self, deployed: Deployed, root: Path, content: str) -> BundleRef:
        file = root / "bundle.zip"
        file.write_text(content)
        return BundleRef(deployed.blobs.upload(file), "0" * 64, "flow.py")

    def upload(self, deployed: Deployed, bundle: BundleRef, name: str = "flow") -> None:
        definition = WorkflowDefinition(name, tasks=(task("first"),))
        deployed.play.do(SubmitWorkflow(definition, bundle))
        deployed.store_all()

    def snapshots(self, deployed: Deployed) -> list[int]:
        found = deployed.store.of(WorkflowSnapshot, "workflow_id", 1)
        return [snapshot.id for snapshot in found]

    def is_kept(self, deployed: Deployed, bundle: BundleRef) -> bool:
        return bundle.uri in {blob.uri for blob in deployed.blobs.list_blobs()}

    def test_go_with_their_code_when_others_came_in_their_place(
        self, deployed: Deployed, tmp_path: Path
    ) -> None:
        old, new = (self.bundle(deployed, tmp_path, text) for text in ("old", "new"))
        self.upload(deployed, old)
        self.upload(deployed, new)
        deployed.days_later(31)

        deployed.sweep()

        assert self.snapshots(deployed) == [3]
        assert not self.is_kept(deployed, old)
        assert self.is_kept(deployed, new)
        assert seen(deployed.store.load()[0]) == seen(deployed.play.state)

    def test_stay_when_that_was_not_long_ago(self, deployed: Deployed, tmp_path: Path) -> None:
        old, new = (self.bundle(deployed, tmp_path, text) for text in ("old", "new"))
        self.upload(deployed, old)
        deployed.days_later(31)
        self.upload(deployed, new)
        deployed.days_later(1)

        deployed.sweep()

        assert self.snapshots(deployed) == [2, 3], "only the first one went with its day"
        assert self.is_kept(deployed, old)

    def test_stay_while_an_execution_of_theirs_is_kept(
        self, deployed: Deployed, tmp_path: Path
    ) -> None:
        old, new = (self.bundle(deployed, tmp_path, text) for text in ("old", "new"))
        self.upload(deployed, old)
        deployed.play.start()
        deployed.play.run("first")
        self.upload(deployed, new)
        deployed.days_later(31)
        deployed.sweep()
        assert self.is_kept(deployed, old), "it runs"

        deployed.play.succeed("first")
        deployed.days_later(29)
        deployed.sweep()
        assert self.is_kept(deployed, old), "it is kept"

        deployed.days_later(2)
        deployed.sweep()
        assert self.snapshots(deployed) == [3]
        assert not self.is_kept(deployed, old)

    def test_share_their_code_as_long_as_one_has_it(
        self, deployed: Deployed, tmp_path: Path
    ) -> None:
        old, new = (self.bundle(deployed, tmp_path, text) for text in ("old", "new"))
        self.upload(deployed, old)
        self.upload(deployed, new)
        self.upload(deployed, old, name="other")
        deployed.days_later(31)

        deployed.sweep()

        assert self.snapshots(deployed) == [3]
        assert self.is_kept(deployed, old)

    @pytest.mark.parametrize("what", ["workflow", "snapshot"])
    def test_that_were_deleted_by_a_user_have_left_their_code_to_be_deleted(
        self, deployed: Deployed, tmp_path: Path, what: str
    ) -> None:
        old, new = (self.bundle(deployed, tmp_path, text) for text in ("old", "new"))
        self.upload(deployed, old)
        self.upload(deployed, new)
        if what == "workflow":
            deployed.play.delete()
        else:
            deployed.play.do(DeleteSnapshots((2,), strict=True))
        deployed.store_all()
        assert self.is_kept(deployed, old)

        deployed.sweep()

        assert not self.is_kept(deployed, old)
        assert self.is_kept(deployed, new) is (what == "snapshot")


class TestFiles:
    def make_log(self, deployed: Deployed, execution_id: int, days_ago: float) -> Path:
        file = deployed.logs / "flow" / str(execution_id) / "first" / "1.log"
        file.parent.mkdir(parents=True)
        file.write_text("hello")
        moment = deployed.clock.now_ms() / 1000 - days_ago * DAY
        for path in (file, *file.parents[:2]):
            os.utime(path, (moment, moment))
        return file

    def test_are_deleted_when_their_execution_is_and_they_are_old(self, deployed: Deployed) -> None:
        run_through(deployed)
        deployed.days_later(31)
        kept = run_through(deployed)
        old, young = (self.make_log(deployed, n, days) for n, days in ((1, 31), (kept, 31)))

        deployed.sweep()

        assert not old.parent.parent.exists()
        assert young.exists()

    @pytest.mark.parametrize(("execution_id", "days_ago"), [(1, 29), (77, 400)])
    def test_stay_when_they_are_young_or_nobody_knows_of_them(
        self, deployed: Deployed, execution_id: int, days_ago: float
    ) -> None:
        run_through(deployed)
        deployed.days_later(31)
        file = self.make_log(deployed, execution_id, days_ago)

        deployed.sweep()

        assert file.exists()

    def test_of_attempts_are_forgotten_by_the_executor(
        self, deployed: Deployed, tmp_path: Path
    ) -> None:
        run_through(deployed)
        kept = deployed.play.start()
        deployed.days_later(31)
        for execution_id in (1, kept):
            key = AttemptKey(execution_id, "first", 1)
            deployed.executor._ended[key] = SimpleNamespace()  # type: ignore[assignment]

        deployed.sweep()

        assert deployed.executor.executions() == {kept}


class TestAServer:
    def test_whose_clock_is_ahead_of_that_of_the_database_takes_nothing_for_old(
        self, deployed: Deployed
    ) -> None:
        deployed.play.now = Clock().now_ms()
        run_through(deployed)
        deployed.days_later(31)

        deployed.sweep()

        assert deployed.execution_ids() == [1]

    def test_that_stands_by_tidies_up_its_own_machine_only(self, deployed: Deployed) -> None:
        run_through(deployed)
        deployed.days_later(31)
        before, head = rows(deployed.store), deployed.first_event()
        deployed.member.epoch = None

        deployed.sweep()

        assert rows(deployed.store) == before
        assert deployed.first_event() == head

    def test_that_does_not_lead_any_more_is_refused(self, deployed: Deployed) -> None:
        run_through(deployed)
        deployed.days_later(31)
        deployed.store.load(epoch=7)

        with pytest.raises(LostRaceError):
            deployed.sweep()

        assert deployed.execution_ids() == [1]

    def test_that_dies_at_any_commit_has_lost_nothing_and_the_next_one_goes_on(
        self, quick_sqlite_url: str, tmp_path: Path
    ) -> None:
        """At each crash point in turn, until none is left to be hit."""

        class Death(Exception):
            pass

        passed: list[str] = []
        number = 0
        while True:
            root = tmp_path / str(number)
            root.mkdir()
            play = Play(task("first"))
            url = f"sqlite:///{root}/db"
            with closing_all(Deployed(url, root, play)) as deployed:
                fill(deployed, root)
                passed.clear()

                def die(name: str, at: int = number) -> None:
                    passed.append(name)
                    if len(passed) == at + 1:
                        raise Death

                try:
                    with crash.passing(die):
                        deployed.sweep()
                except Death:
                    assert seen(deployed.store.load()[0]) == seen(play.state)
                    deployed.sweep()
                assert_swept(deployed)
                if len(passed) <= number:
                    break
            number += 1
        assert number == 8, "executions, letters, uploads and their code, before and after"


def fill(deployed: Deployed, root: Path) -> None:
    """Something of each kind that is to go."""
    for content in ("old", "new"):
        file = root / "bundle.zip"
        file.write_text(content)
        bundle = BundleRef(deployed.blobs.upload(file), "0" * 64, "flow.py")
        definition = WorkflowDefinition(
            "flow", tasks=(task("first"), task("second", after("first")))
        )
        deployed.play.do(SubmitWorkflow(definition, bundle))
    execution_id = deployed.play.start()
    deployed.play.succeed("first", execution_id=execution_id)
    deployed.play.succeed("second", execution_id=execution_id)
    deployed.store_all()
    with deployed.store.engine.begin() as connection:
        letter = DeadLetter(2, "scheduler", FAILED_LETTER, deployed.play.executions[1].begin_date)
        connection.execute(
            tables.dead_letter.insert(),
            {
                "offset": letter.offset,
                "consumer": letter.consumer,
                "error": letter.error,
                "create_time": letter.create_time,
                "tries": 1,
            },
        )
    deployed.days_later(31)
    deployed.play.send("something")
    deployed.store_all()


def assert_swept(deployed: Deployed) -> None:
    left = rows(deployed.store)
    assert {name: left[name] for name in ("workflow_execution", "task_execution", "decision")} == {
        "workflow_execution": 0,
        "task_execution": 0,
        "decision": 0,
    }
    assert left["dead_letter"] == 0
    assert left["workflow_snapshot"] == 1
    assert len(list(deployed.blobs.list_blobs())) == 1
    assert deployed.first_event() == deployed.log.head()
    assert seen(deployed.store.load()[0]) == seen(deployed.play.state)


def test_the_tables_say_how_much_they_take(database_url: str, tmp_path: Path) -> None:
    with closing_all(Deployed(database_url, tmp_path, Play(task("first")))) as deployed:
        run_through(deployed)

        usage = {table.table: table for table in deployed.store.usage()}

        with deployed.store.engine.connect() as connection:
            count = connection.scalar(select(func.count()).select_from(tables.decision))
        assert usage["workflow_execution"].rows == 1
        assert usage["decision"].rows == count
        assert all(table.bytes > 0 for table in usage.values() if table.rows)
