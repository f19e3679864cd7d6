"""The simulation decides as the engine does, and says what it cannot do."""

import pytest

from aiflow_core.app import simulation
from aiflow_core.clock import to_datetime
from aiflow_core.errors import ConflictError, NotFoundError, UsageError
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, AttemptReport, Namespace
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import WorkflowDefinition
from aiflow_core.rehearsal import Rehearsal
from aiflow_core.specs.simulation import Simulation
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import Changes, State

from .play import CAST, MONDAY, START, custom, on, task


@pytest.fixture
def simulated() -> Simulation:
    return simulation(to_datetime(MONDAY))


def test_a_plain_engine_makes_the_same_decisions_from_its_log(simulated: Simulation) -> None:
    rehearsal = Rehearsal(simulated)
    rehearsal.upload(WorkflowDefinition("flow", tasks=CAST))
    simulated.add_workflow_schedule("interval@0 1 0 0", "flow")
    rehearsal.start("flow")
    for key in ("x", "number", "y", "once.again", "enough"):
        rehearsal.send(key)
    rehearsal.advance_to(MONDAY + 4 * 3600 * 1000)

    engine, decisions = Engine(State(namespaces={"default": Namespace("default")})), []
    for event in simulated.log():
        changes = Changes()
        engine.apply(event, changes)
        decisions += changes.decisions
    assert decisions == list(simulated.decisions())
    assert len(simulated.workflow_executions()) == 5
    assert {d.what for d in decisions} >= {"START", "RESTART", "STOP ignored", "NOT MET"}


def test_each_event_is_told_with_what_came_of_it(simulated: Simulation) -> None:
    told: list[tuple[str, list[str], list[str]]] = []
    simulated.observe(
        lambda event, decisions, changes: told.append(
            (event.key, [str(d.what) for d in decisions], [str(c.status) for c in changes])
        )
    )
    simulated.submit_workflow(WorkflowDefinition("flow", tasks=(task("a", on(START, "go")),)))
    simulated.start_workflow_execution("flow")
    simulated.append(Event("go", namespace="default"))

    assert told == [
        ("command", [], []),
        ("command", ["START"], ["RUNNING"]),
        ("workflow_status.flow", [], []),
        ("go", ["START"], ["QUEUED"]),
    ]


def test_what_a_request_is_refused_with_is_raised(simulated: Simulation) -> None:
    simulated.submit_workflow(WorkflowDefinition("flow", "mine", tasks=(task("a"),)))
    started = simulated.start_workflow_execution("flow", "mine")

    with pytest.raises(NotFoundError):
        simulated.start_workflow_execution("flow")
    with pytest.raises(NotFoundError):
        simulated.act_on_task(started.id, "b", TaskAction.START)
    simulated.enable_workflow("flow", "mine", enabled=False)
    with pytest.raises(ConflictError):
        simulated.start_workflow_execution("flow", "mine")
    key = AttemptKey(started.id, "a", 9)
    with pytest.raises(UsageError, match="no attempt"):
        simulated.report(AttemptReport(key=key, status=TaskStatus.SUCCESS))


def test_of_a_definition_alone_the_authors_conditions_are_not_there(simulated: Simulation) -> None:
    definition = WorkflowDefinition("flow", tasks=(task("a"), task("b", custom(START, "go"))))
    simulated.submit_workflow(definition)
    simulated.start_workflow_execution("flow")

    simulated.append(Event("go", namespace="default"))

    (letter,) = simulated.dead_letters()
    assert "Only the definition of the workflow is here" in letter.error
    decision: Decision = simulated.decisions()[-1]
    assert (decision.what, decision.task_name) == ("NOT MET", "b")


def test_timers_fire_at_their_moments_and_others_do_not(simulated: Simulation) -> None:
    tasks = (task("p", periodic_expression="interval@0 0 10 0"),)
    simulated.submit_workflow(WorkflowDefinition("flow", tasks=tasks))
    assert simulated.next_timer_ms() is None
    started = simulated.start_workflow_execution("flow")
    assert simulated.next_timer_ms() == MONDAY + 600_000

    simulated.advance_to(MONDAY + 1_500_000)

    assert simulated.now_ms == MONDAY + 1_500_000
    assert [e.create_time - MONDAY for e in simulated.log() if e.type == "TIMER"] == [
        600_000,
        1_200_000,
    ]
    simulated.stop_workflow_execution(started.id)
    assert simulated.next_timer_ms() is None
