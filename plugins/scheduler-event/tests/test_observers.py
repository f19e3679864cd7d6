"""What observers are told: all of it, in order, once, and when it is durable."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiflow_core.clock import to_datetime
from aiflow_core.config import ObserverSettings
from aiflow_core.model.decision import Cause, Decision, Outcome
from aiflow_core.model.event import Event
from aiflow_core.model.execution import TaskExecution, WorkflowExecution
from aiflow_core.model.figures import SchedulerFigures
from aiflow_core.model.status import TaskStatus, WorkflowStatus
from aiflow_core.testing.waiting import wait_until
from aiflow_scheduler_event.decider import Step
from aiflow_scheduler_event.scheduler import EventScheduler
from aiflow_scheduler_event.state import Changes
from aiflow_scheduler_event.telling import tell

from .test_scheduler import FIRST, LATER, Site, bury_poison, upload

# Where it does not depend on the database.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

Told = list[tuple[str, dict[str, Any]]]


class Notes:
    """Hooks that note down who would be told of what, in the thread that tells."""

    def __init__(self, *heard: str) -> None:
        self.heard = frozenset(heard)
        self.settings = ObserverSettings()
        self.told: Told = []

    def __getattr__(self, moment: str) -> Any:
        def note(**facts: Any) -> dict[str, str]:
            self.told.append((moment, facts))
            return {}

        return note

    def figures(self) -> dict[str, Any]:
        return {"me": "well"}

    def of(self, moment: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.told if name == moment]

    @property
    def latest(self) -> SchedulerFigures | None:
        told = self.of("figures_taken")
        return told[-1]["figures"] if told else None


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    site = Site(database_url, tmp_path)
    fresh = EventScheduler(database_url)
    fresh.initialize()
    fresh.close()
    yield site
    site.leave()


def test_a_batch_is_told_event_by_event() -> None:
    notes = Notes("event_appended")
    task = TaskExecution(1, 1, "t", 1)
    decisions = [
        Decision(offset, 1, "t", what, "rule 1", Cause.RULE, number=1, time=to_datetime(offset))
        for offset, what in ((7, Outcome.START), (9, Outcome.STOP))
    ]
    changes = Changes(told=[(7, decisions[0]), (7, task), (9, decisions[1]), (9, task)])

    events = [Event("a", offset=7), Event("b", offset=8), Event("c", offset=9)]
    tell(notes, Step(changes, [], events), begun_ms=1, decided_ms=2)

    assert [name for name, _ in notes.told] == [
        *("event_appended", "decision_made", "task_execution_changed"),
        "event_appended",
        *("event_appended", "decision_made", "task_execution_changed"),
    ]
    assert [facts["event"].key for facts in notes.of("event_appended")] == ["a", "b", "c"]
    assert [facts["decision"] for facts in notes.of("decision_made")] == decisions
    assert [facts["offset"] for facts in notes.of("decision_made")] == [7, 9]


@on_sqlite
def test_everything_is_told_once_across_restarts(site: Site) -> None:
    site.hooks = Notes("event_appended")
    upload(site.start())
    site.leave()
    site.send("go")  # while no scheduler is there
    scheduler = site.restart()
    site.end(LATER, TaskStatus.FAILED, "broken")
    site.end(FIRST, TaskStatus.SUCCESS)
    wait_until(
        lambda: scheduler.get_workflow_execution(1).status is WorkflowStatus.FAILED, "the end"
    )
    site.leave()

    told = site.hooks
    offsets = [facts["event"].offset for facts in told.of("event_appended")]
    assert offsets == list(range(1, len(offsets) + 1))
    tasks = [facts["task_execution"] for facts in told.of("task_execution_changed")]
    assert [(t.task_name, t.status) for t in tasks if t.status is not TaskStatus.RUNNING] == [
        ("first", TaskStatus.QUEUED),
        ("later", TaskStatus.QUEUED),
        ("later", TaskStatus.FAILED),
        ("first", TaskStatus.SUCCESS),
    ]
    executions: list[WorkflowExecution] = [
        facts["execution"] for facts in told.of("workflow_execution_changed")
    ]
    assert [e.status for e in executions] == [WorkflowStatus.RUNNING, WorkflowStatus.FAILED]
    decided = [facts["decision"] for facts in told.of("decision_made")]
    assert [(d.task_name, str(d.what)) for d in decided if d.task_name] == [
        ("first", "START"),
        ("later", "START"),
    ]


@on_sqlite
def test_what_is_told_is_durable(site: Site) -> None:
    statuses: list[tuple[TaskStatus, TaskStatus]] = []

    class Looks(Notes):
        def task_execution_changed(self, task_execution: TaskExecution, offset: int) -> None:
            stored = scheduler.get_task_execution(task_execution.id)
            statuses.append((task_execution.status, stored.status))

    site.hooks = Looks("task_execution_changed")
    scheduler = site.start()
    upload(scheduler)
    site.end(FIRST, TaskStatus.SUCCESS)
    wait_until(lambda: statuses and statuses[-1][0] is TaskStatus.SUCCESS, "it is told")

    # A batch may have gone on since; never is anything told that is not yet there.
    order = [TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.SUCCESS]
    assert all(order.index(stored) >= order.index(told) for told, stored in statuses)


@on_sqlite
def test_nothing_is_told_where_nobody_listens(site: Site) -> None:
    site.hooks = Notes()
    scheduler = site.start()
    upload(scheduler)
    site.end(FIRST, TaskStatus.SUCCESS)
    site.clock.advance(60)
    wait_until(
        lambda: scheduler.list_task_executions(1)[0].status is TaskStatus.SUCCESS, "it has ended"
    )

    # The executor asks by itself; a real one would look first whether there is somebody.
    assert {name for name, _ in site.hooks.told} <= {"before_task_start"}
    assert "scheduler-figures" not in {thread.name for thread in threading.enumerate()}


def await_figures(site: Site, what: str, **wanted: Any) -> None:
    """Return when the figures that were told last are these."""

    def told() -> bool:
        site.clock.advance(site.hooks.settings.figures_interval)
        latest = site.hooks.latest
        return latest is not None and all(
            getattr(latest, name) == value for name, value in wanted.items()
        )

    wait_until(told, what)


def test_figures_are_what_there_is(site: Site) -> None:
    site.hooks = Notes("figures_taken")
    scheduler = site.start(condition_tries=1)
    await_figures(site, "nothing", leads=True, head=0, taken_in=0, tasks={}, executions={})
    upload(scheduler)
    site.send("go")
    wait_until(lambda: LATER in site.executor.running, "the other runs")
    site.end(FIRST, TaskStatus.SUCCESS)
    one = {TaskStatus.RUNNING: 1}
    await_figures(site, "one task", tasks=one, executions={WorkflowStatus.RUNNING: 1})
    site.executor.deaf_to_stop = True
    scheduler.stop_workflow_execution(1)
    await_figures(site, "one that stops", tasks={TaskStatus.STOPPING: 1})
    head = site.events.head()
    await_figures(
        *(site, "it is all decided on"),
        head=head,
        taken_in=head,
        inbox=0,
        outbox=0,
        reports=0,
        dead_letters=0,
    )
    site.executor.deaf_to_stop = False
    site.end(LATER, TaskStatus.STOPPED)
    await_figures(site, "the end", tasks={}, executions={})
    assert site.hooks.of("figures_taken")[-1]["observers"] == {"me": "well"}


@on_sqlite
def test_dead_letters_are_counted(site: Site) -> None:
    site.hooks = Notes("figures_taken")
    scheduler = site.start(condition_tries=1)
    bury_poison(site, scheduler)

    await_figures(site, "one letter", dead_letters=1)


@on_sqlite
def test_no_figures_are_told_while_the_log_is_away(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.hooks = Notes("figures_taken")
    site.start()
    await_figures(site, "nothing", head=0)
    site.events.away = True
    wait_until(lambda: "There are no figures for a while" in passed(site, caplog), "it is said")
    count = len(site.hooks.of("figures_taken"))
    for _ in range(5):
        site.clock.await_waiters()
        passed(site, caplog)
    assert len(site.hooks.of("figures_taken")) == count
    assert caplog.text.count("There are no figures for a while") == 1

    site.events.away = False
    site.send("go")

    await_figures(site, "one event", head=1)


def passed(site: Site, caplog: pytest.LogCaptureFixture) -> str:
    """What the log says after some time."""
    site.clock.advance(site.hooks.settings.figures_interval)
    return caplog.text


@on_sqlite
def test_a_server_that_stands_by_tells_that_it_does(site: Site, tmp_path: Path) -> None:
    site.start(ha=True)
    other = Site(site.uri, tmp_path / "other")
    other.hooks = Notes("figures_taken", "event_appended")
    other.start(ha=True)

    await_figures(other, "it stands by", leads=False, head=0)

    assert other.hooks.of("event_appended") == []
    other.leave()
