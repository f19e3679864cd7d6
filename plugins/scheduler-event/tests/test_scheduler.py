"""The event scheduler as a whole: its contract, and what crashes and outages leave of it."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aiflow_core.deployment import Deployment, Silence
from aiflow_core.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from aiflow_core.model.condition import CustomCondition, SingleEventCondition
from aiflow_core.model.event import EVERYTHING, Event, EventFilter, EventType
from aiflow_core.model.execution import AttemptKey, AttemptReport, AttemptRequest
from aiflow_core.model.rule import TaskAction, TaskRule
from aiflow_core.model.status import TaskStatus, WorkflowStatus
from aiflow_core.model.workflow import TaskConfig, TaskDefinition, WorkflowDefinition
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.executor import Claim, Report
from aiflow_core.specs.scheduler import request
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore, MemorySubscription
from aiflow_core.testing.executor import MemoryExecutor
from aiflow_core.testing.scheduler import SchedulerContract, await_end
from aiflow_core.testing.waiting import wait_until
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.scheduler import EventScheduler
from aiflow_scheduler_event.step import SENDER


class Site:
    """What outlives a scheduler: the database, the log, and the attempts that run."""

    def __init__(self, uri: str, home: Path) -> None:
        self.uri = uri
        self.home = home
        self.clock = ManualClock()
        self.events = WaywardEventStore(self.clock)
        self.executor = RecordingExecutor()
        self.stack = ExitStack()
        self.hooks: Any = Silence()

    def start(self, **settings: Any) -> EventScheduler:
        """Start a scheduler here."""
        scheduler = EventScheduler(self.uri, **{"command_timeout": 20.0, **settings})
        deployment = Deployment(
            home=self.home,
            log_dir=self.home / "logs",
            notification_uri="127.0.0.1:50052",
            clock=self.clock,
            hooks=self.hooks,
        )
        scheduler.start(self.stack, deployment, self.events, self.executor, MemoryBlobManager())
        return scheduler

    def leave(self) -> None:
        """End the scheduler; nothing else is told that it ends."""
        self.stack.close()

    def restart(self) -> EventScheduler:
        self.leave()
        self.executor.calls.clear()
        return self.start()

    def send(self, key: str, value: str | None = None, **more: Any) -> Event:
        (stored,) = self.events.append([Event(key, value, namespace="default", **more)])
        return stored

    def end(self, key: AttemptKey, status: TaskStatus, reason: str = "") -> None:
        """Let a running attempt end."""
        wait_until(lambda: key in self.executor.running, f"{key} runs")
        self.executor.end(key, status, reason)


class RecordingExecutor(MemoryExecutor):
    """Keeps what it was asked to do, and may keep silent about what became of it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, AttemptKey]] = []
        self.deaf_to_stop = False
        self.silent = False

    def start(
        self,
        stack: ExitStack,
        deployment: Deployment,
        blobs: BlobManager,
        report: Report,
        claim: Claim,
    ) -> None:
        def tell(said: AttemptReport) -> None:
            if not self.silent:
                report(said)

        super().start(stack, deployment, blobs, tell, claim)

    def submit(self, request: AttemptRequest) -> None:
        self.calls.append(("submit", request.key))
        super().submit(request)

    def adopt(self, request: AttemptRequest) -> None:
        if ("submit", request.key) not in self.calls:
            self.calls.append(("adopt", request.key))
        super().adopt(request)

    def stop(self, key: AttemptKey) -> None:
        self.calls.append(("stop", key))
        if not self.deaf_to_stop:
            super().stop(key)


class WaywardEventStore(MemoryEventStore):
    """A log that can be away for a while.

    Attributes:
        away: every call fails.
        refused: how many calls have failed.
        refuse_own: only what the scheduler publishes is refused.
    """

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.away = False
        self.refused = 0
        self.refuse_own = False

    def append(self, events: Sequence[Event]) -> list[Event]:
        self._check()
        if self.refuse_own and any(event.sender == SENDER for event in events):
            raise UnavailableError("The log takes nothing from the scheduler.")
        return super().append(events)

    def head(self) -> int:
        self._check()
        return super().head()

    def subscribe(self, after: int, filter: EventFilter = EVERYTHING) -> MemorySubscription:
        self._check()
        return super().subscribe(after, filter)

    def _check(self) -> None:
        if self.away:
            self.refused += 1
            raise UnavailableError("The log is away.")


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    site = Site(database_url, tmp_path)
    fresh = EventScheduler(database_url)
    fresh.initialize()
    fresh.close()
    yield site
    site.leave()


class TestEventScheduler(SchedulerContract):
    @pytest.fixture
    def scheduler(self, site: Site) -> EventScheduler:
        return site.start()

    @pytest.fixture
    def bury(self, site: Site, scheduler: EventScheduler) -> Callable[[], int]:
        return lambda: bury_poison(site, scheduler)


GO = TaskRule(TaskAction.START, SingleEventCondition("go"))
FIRST = AttemptKey(1, "first", 1)
LATER = AttemptKey(1, "later", 1)


def upload(scheduler: EventScheduler, *tasks: TaskDefinition) -> int:
    """Upload a workflow and start an execution of it; its id. Without tasks: `first`, `later`."""
    usual = (TaskDefinition(name="first"), TaskDefinition(name="later", rules=(GO,)))
    scheduler.submit_workflow(WorkflowDefinition(name="flow", tasks=tasks or usual))
    return scheduler.start_workflow_execution("flow").id


def bury_poison(site: Site, scheduler: EventScheduler) -> int:
    """Send an event to a task whose condition fails; its offset, when it is a dead letter."""
    if not scheduler.list_workflows():
        rule = TaskRule(TaskAction.START, CustomCondition(("poison",), place="x/0"))
        upload(scheduler, TaskDefinition(name="x", rules=(rule,)))
    offset = site.send("poison").offset
    letters = scheduler.list_dead_letters
    wait_until(lambda: offset in [letter.offset for letter in letters()], "the letter is there")
    return offset


def await_status(scheduler: EventScheduler, *wanted: tuple[str, TaskStatus]) -> None:
    """Return when these are the task executions of the first execution."""

    def found() -> list[tuple[str, TaskStatus]]:
        return [(t.task_name, t.status) for t in scheduler.list_task_executions(1)]

    wait_until(lambda: found() == list(wanted), f"the tasks are {wanted}, not {found()}")


class TestAfterARestart:
    def test_an_attempt_that_was_queued_is_submitted_again(self, site: Site) -> None:
        site.executor.silent = True
        upload(site.start())
        site.executor.silent = False

        scheduler = site.restart()

        await_status(scheduler, ("first", TaskStatus.RUNNING))
        assert site.executor.calls == [("submit", FIRST)]
        assert len(site.executor.started) == 1

    def test_an_attempt_that_was_running_is_adopted(self, site: Site) -> None:
        scheduler = site.start()
        upload(scheduler)
        await_status(scheduler, ("first", TaskStatus.RUNNING))

        scheduler = site.restart()
        wait_until(lambda: bool(site.executor.calls), "the executor is asked")
        site.end(FIRST, TaskStatus.SUCCESS)

        assert await_end(scheduler, 1).status is WorkflowStatus.SUCCESS
        assert site.executor.calls == [("adopt", FIRST)]

    def test_an_attempt_that_was_being_stopped_is_stopped_again(self, site: Site) -> None:
        site.executor.deaf_to_stop = True
        scheduler = site.start()
        upload(scheduler)
        await_status(scheduler, ("first", TaskStatus.RUNNING))
        scheduler.stop_workflow_execution(1)
        site.executor.deaf_to_stop = False

        scheduler = site.restart()

        assert await_end(scheduler, 1).status is WorkflowStatus.STOPPED
        assert ("stop", FIRST) in site.executor.calls

    def test_what_ended_meanwhile_is_heard_of(self, site: Site) -> None:
        scheduler = site.start()
        upload(scheduler)
        await_status(scheduler, ("first", TaskStatus.RUNNING))
        site.executor.silent = True
        site.end(FIRST, TaskStatus.FAILED, "no such luck")
        site.executor.silent = False

        scheduler = site.restart()

        ended = await_end(scheduler, 1)
        assert (ended.status, ended.reason) == (
            WorkflowStatus.FAILED,
            "task 'first' FAILED: no such luck",
        )

    def test_events_that_came_meanwhile_are_taken_in_once(self, site: Site) -> None:
        upload(site.start())
        site.leave()
        site.send("go")
        site.send("go")

        scheduler = site.start()

        await_status(scheduler, ("first", TaskStatus.RUNNING), ("later", TaskStatus.RUNNING))
        assert [r.key for r in site.executor.started] == [FIRST, LATER]

    def test_what_was_decided_but_not_published_is_published_once(self, site: Site) -> None:
        scheduler = site.start()
        upload(scheduler)
        await_status(scheduler, ("first", TaskStatus.RUNNING))
        for _ in range(3):
            site.restart()

        told = [e.value for e in site.events.read() if e.type is EventType.WORKFLOW_STATUS]
        assert told == ["RUNNING"]

    def test_publishing_goes_on_when_the_log_was_away_at_the_end(self, site: Site) -> None:
        scheduler = site.start()
        upload(scheduler)
        await_status(scheduler, ("first", TaskStatus.RUNNING))
        site.events.refuse_own = True
        site.end(FIRST, TaskStatus.SUCCESS)
        await_end(scheduler, 1)
        site.leave()
        site.events.refuse_own = False

        site.start()

        wait_until(
            lambda: (
                [e.value for e in site.events.read(filter=OF_WORKFLOWS)] == ["RUNNING", "SUCCESS"]
            ),
            "the end of the execution is published",
        )

    def test_a_timer_that_became_due_meanwhile_fires_once(self, site: Site) -> None:
        scheduler = site.start()
        scheduler.submit_workflow(
            WorkflowDefinition(name="flow", tasks=(TaskDefinition(name="first"),))
        )
        scheduler.add_workflow_schedule("interval@0 0 10 0", "flow")
        site.leave()
        site.clock.advance(3600)

        scheduler = site.start()
        wait_until(lambda: len(scheduler.list_workflow_executions("flow")) == 1, "it fires")
        scheduler = site.restart()

        assert len(scheduler.list_workflow_executions("flow")) == 1

    def test_retries_go_on(self, site: Site) -> None:
        scheduler = site.start()
        config = TaskConfig(retries=1, retry_delay=60)
        upload(scheduler, TaskDefinition(name="first", config=config))
        site.end(FIRST, TaskStatus.FAILED)
        await_status(scheduler, ("first", TaskStatus.RETRYING))

        scheduler = site.restart()
        assert site.executor.calls == []
        site.clock.await_waiters()
        site.clock.advance(60)

        await_status(scheduler, ("first", TaskStatus.RUNNING))
        assert site.executor.calls == [("submit", AttemptKey(1, "first", 1, 2))]

    def test_ids_go_on(self, site: Site) -> None:
        upload(site.start())

        scheduler = site.restart()

        assert scheduler.start_workflow_execution("flow").id == 2

    def test_a_log_that_is_older_than_the_metadata_is_refused(self, site: Site) -> None:
        upload(site.start())
        site.leave()
        site.events = WaywardEventStore(site.clock)

        with pytest.raises(ConfigError, match="older than the metadata"):
            site.start()

    def test_a_scheduler_that_does_not_run_says_so(self, site: Site) -> None:
        scheduler = site.start()
        site.leave()

        with pytest.raises(UnavailableError):
            scheduler.start_workflow_execution("flow")


class TestOutage:
    def test_reports_wait_for_the_log_to_come_back(self, site: Site) -> None:
        scheduler = site.start()
        upload(scheduler)
        await_status(scheduler, ("first", TaskStatus.RUNNING))
        site.events.away = True
        site.end(FIRST, TaskStatus.SUCCESS)
        wait_until(lambda: site.events.refused > 0, "the log refuses the report")
        with pytest.raises(UnavailableError):
            scheduler.stop_workflow_execution(1)

        site.events.away = False
        pass_time_until(site, lambda: scheduler.get_workflow_execution(1).end_date is not None)

        assert scheduler.get_workflow_execution(1).status is WorkflowStatus.SUCCESS

    def test_a_log_that_is_away_at_the_start_is_waited_for(self, site: Site) -> None:
        upload(site.start())
        site.leave()
        site.send("go")
        site.events.away = True
        scheduler = site.start()
        pass_time_until(site, lambda: site.events.refused > 2)

        site.events.away = False
        pass_time_until(site, lambda: len(scheduler.list_task_executions(1)) == 2)

        site.send("nobody's")
        assert scheduler.start_workflow_execution("flow").id == 2


class TestHarm:
    def test_an_event_that_cannot_be_taken_in_goes_to_the_dead_letters(self, site: Site) -> None:
        scheduler = site.start()
        upload(scheduler)
        poison = site.send("x", "NO SUCH STATUS", type=EventType.TASK_STATUS, context="no report")

        site.send("go")
        pass_time_until(site, lambda: bool(scheduler._store.dead_letters()))

        await_status(scheduler, ("first", TaskStatus.RUNNING), ("later", TaskStatus.RUNNING))
        (letter,) = scheduler._store.dead_letters()
        assert letter.offset == poison.offset
        assert "UsageError" in letter.error

    def test_so_does_one_in_the_midst_of_a_batch(self, site: Site) -> None:
        upload(site.start())
        site.leave()
        sent = [
            Event("x", "?", type=EventType.TASK_STATUS, context="?")
            if number % 3 == 0
            else Event("go", namespace="default")
            for number in range(10)
        ]
        stored = site.events.append(sent)

        scheduler = site.start()
        pass_time_until(site, lambda: len(scheduler._store.dead_letters()) == 4)

        bad = [e.offset for e in stored if e.key == "x"]
        assert [letter.offset for letter in scheduler._store.dead_letters()] == bad
        await_status(scheduler, ("first", TaskStatus.RUNNING), ("later", TaskStatus.RUNNING))

    def test_a_command_that_does_harm_is_answered(self, site: Site) -> None:
        scheduler = site.start()
        poison = Event("command", "{}", type=EventType.COMMAND, id="poison")

        site.events.append([poison])
        pass_time_until(site, lambda: scheduler._store.reply("poison") is not None)

        reply = scheduler._store.reply("poison")
        assert reply is not None
        assert reply.error is not None

    @pytest.mark.parametrize("reason", ["a\0b", "half \ud83e", "x" * 3_000_000], ids=ascii)
    def test_whatever_reason_an_executor_gives_is_kept(self, site: Site, reason: str) -> None:
        scheduler = site.start()
        upload(scheduler)

        site.end(FIRST, TaskStatus.FAILED, reason)

        assert reason[0] in await_end(scheduler, 1).reason

    def test_a_condition_without_code_counts_as_not_met(self, site: Site) -> None:
        scheduler = site.start()
        rule = TaskRule(TaskAction.STOP, CustomCondition(expect_event_keys=("go",), place="x/0"))
        upload(scheduler, TaskDefinition(name="first"), TaskDefinition(name="x", rules=(rule, GO)))

        site.send("go")

        await_status(scheduler, ("first", TaskStatus.RUNNING), ("x", TaskStatus.RUNNING))


class TestRedriving:
    def test_what_failed_when_it_came_is_taken_in_later(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scheduler = site.start()
        upload(scheduler)
        hear = Engine._hear

        def stumble(engine: Engine, event: Event) -> None:
            hear(engine, event) if event.key != "go" else 1 / 0

        with monkeypatch.context() as patch:
            patch.setattr(Engine, "_hear", stumble)
            poison = site.send("go")
            pass_time_until(site, lambda: bool(scheduler.list_dead_letters()))
        (letter,) = scheduler.get_dead_letter(poison.offset)
        assert letter.consumer == "scheduler"
        assert letter.event == poison

        scheduler.redrive_dead_letter(poison.offset)

        await_status(scheduler, ("first", TaskStatus.RUNNING), ("later", TaskStatus.RUNNING))
        assert scheduler.list_dead_letters() == []

    def test_what_fails_again_stays_with_the_new_reason_beside_it(self, site: Site) -> None:
        scheduler = site.start()
        poison = site.send("x", "?", type=EventType.TASK_STATUS, context="no report")
        pass_time_until(site, lambda: bool(scheduler.list_dead_letters()))

        with pytest.raises(UsageError, match=f"event {poison.offset} again"):
            scheduler.redrive_dead_letter(poison.offset)

        first, second = scheduler.list_dead_letters()
        assert first.offset == poison.offset
        assert "again" in second.error
        with pytest.raises(ConflictError, match="it is a request"):
            scheduler.redrive_dead_letter(second.offset)
        assert scheduler.redrive_dead_letters() == 0

    def test_a_condition_that_failed_is_asked_once_more_by_each_redrive(self, site: Site) -> None:
        scheduler = site.start()
        offset = bury_poison(site, scheduler)
        (before,) = scheduler.get_dead_letter(offset)
        with request("once"):
            scheduler.redrive_dead_letter(offset)
        with request("once"):
            scheduler.redrive_dead_letter(offset)

        wait_until(lambda: bool(scheduler.list_dead_letters()), "it has failed again")
        (after,) = scheduler.get_dead_letter(offset)

        assert (before.consumer, after.consumer) == (
            "evaluation 1: task x, rule 1",
            "evaluation 2: task x, rule 1",
        )
        assert after.event == before.event

    def test_of_many_that_redrive_one_letter_one_does(self, site: Site) -> None:
        scheduler = site.start()
        (letter,) = scheduler.get_dead_letter(bury_poison(site, scheduler))

        def redrive(_: int) -> bool:
            try:
                scheduler.redrive_dead_letter(letter.offset, letter.consumer)
            except NotFoundError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(redrive, range(8))) == 1

        asked = [d for d in scheduler._store.decisions(1, "x") if d.what == "ASK AGAIN"]
        assert len(asked) == 1

    def test_of_an_execution_that_has_ended_nothing_is_redriven(self, site: Site) -> None:
        scheduler = site.start()
        offset = bury_poison(site, scheduler)
        scheduler.stop_workflow_execution(1)

        with pytest.raises(ConflictError, match="execution 1 is not running any more"):
            scheduler.redrive_dead_letter(offset)

        assert scheduler.redrive_dead_letters() == 0
        assert scheduler.drop_dead_letters() == 1

    def test_letters_are_there_after_a_restart(self, site: Site) -> None:
        offset = bury_poison(site, site.start())

        scheduler = site.restart()

        assert scheduler.get_dead_letter(offset)[0].tries == 3

    def test_what_has_been_forgotten_cannot_be_redriven(self, site: Site) -> None:
        scheduler = site.start()
        poison = site.send("x", "?", type=EventType.TASK_STATUS, context="no report")
        pass_time_until(site, lambda: bool(scheduler.list_dead_letters()))
        site.events.truncate(poison.offset + 1)

        assert scheduler.get_dead_letter(poison.offset)[0].event is None
        with pytest.raises(ConflictError, match="nothing to be taken up again"):
            scheduler.redrive_dead_letter(poison.offset)

    def test_an_event_that_no_request_can_carry_is_not_redriven(self, site: Site) -> None:
        scheduler = site.start()
        bury_poison(site, scheduler)
        offset = site.send("poison", '"' * 600_000).offset
        wait_until(lambda: len(scheduler.list_dead_letters()) == 2, "the letter is there")

        with pytest.raises(UsageError, match=r"takes a request of \d+ bytes.*send it again"):
            scheduler.redrive_dead_letter(offset)

        assert scheduler.redrive_dead_letters() == 1

    def test_many_letters_are_dropped_at_once(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("aiflow_scheduler_event.scheduler._DROPPED_AT_ONCE", 2)
        scheduler = site.start()
        for _ in range(5):
            bury_poison(site, scheduler)

        assert scheduler.drop_dead_letters() == 5

        assert scheduler.list_dead_letters() == []


OF_WORKFLOWS = EventFilter(types=(EventType.WORKFLOW_STATUS,))


def pass_time_until(site: Site, condition: Callable[[], bool]) -> None:
    """Let time pass for those who pause before they try again."""

    def look() -> bool:
        site.clock.advance(1)
        return condition()

    wait_until(look, "what was waited for")
