"""What an operator can ask of its context while it runs: states and statuses."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiflow_core import ops
from aiflow_core.remote import server
from aiflow_core.specs.scheduler import StateOperations, offers

from .served import Served, served
from .servers import PROGRAMS, until

OPERATORS = """
from ai_flow import ops
from ai_flow.model.operator import AIFlowOperator
from ai_flow.model.state import ValueStateDescriptor
from aiflow_core import current_context

COUNT = ValueStateDescriptor("count")


class Counting(AIFlowOperator):
    def start(self, context):
        state = context.get_state(COUNT)
        state.update({"seen": [self.name], "kind": Counting})
        print("state", context.get_state(COUNT).value()["seen"], state.value()["kind"].__name__)


class Looking(AIFlowOperator):
    def start(self, context):
        state = context.get_state(COUNT)
        print("found", state.value()["seen"])
        print("statuses", [context.get_task_status(n) for n in ("first", "second", "absent")])
        current = current_context()
        print("current", current.get_state(COUNT).value()["seen"], current.events == context.events)
        state.clear()
        print("cleared", state.value(), context.get_state(COUNT).value())
        tasks = ops.list_task_executions(context.key.workflow_execution_id)
        print("ops", [task.task_name for task in tasks])
        print("key", context.task_execution_key, self.get_metrics(context))
"""
TWO_TASKS = (
    OPERATORS
    + """
from ai_flow.model.workflow import Workflow

with Workflow(name="states") as workflow:
    first = Counting("first")
    second = Looking("second")
    second.start_after(first)
"""
)
SHARED = """
from aiflow_core import Condition, TaskAction, ValueStateDescriptor, Workflow
from aiflow_core.specs.operator import Operator
from aiflow_operator_bash.operator import BashOperator

COUNT = ValueStateDescriptor("count")


class Adding(Operator):
    def start(self, context):
        state = context.get_state(COUNT)
        state.update((state.value() or 0) + 20)


class IsMet(Condition):
    def is_met(self, event, context):
        state = context.get_state(COUNT)
        state.update((state.value() or 0) + 1)
        return state.value() == 22


with Workflow(name="shared") as workflow:
    adding = Adding("adding")
    adding.action_on_event_received(TaskAction.START, "add")
    done = BashOperator("done", bash_command="true")
    done.action_on_condition(TaskAction.START, IsMet(["step"]))
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


def test_an_operator_reads_and_leaves_states_and_sees_statuses(deployment: Served) -> None:
    (deployment.home / "states.py").write_text(TWO_TASKS)
    deployment("aiflow workflow upload states.py")
    deployment("aiflow workflow-execution start states --wait --timeout 60s")

    said = "".join(deployment(f"aiflow task-execution logs {i}").stdout for i in (1, 2))
    assert "state ['first'] Counting" in said
    assert "found ['first']" in said
    assert "current ['first'] True" in said
    assert "[<TaskStatus.SUCCESS: 'SUCCESS'>, <TaskStatus.RUNNING: 'RUNNING'>, None]" in said
    assert "cleared None None" in said
    assert "key 1_second_1 {}" in said


def test_the_same_without_servers(tmp_path: Path) -> None:
    (tmp_path / "states.py").write_text(TWO_TASKS)

    done = subprocess.run(
        [PROGRAMS / "aiflow", "run", "states.py"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "[second] found ['first']" in done.stdout
    assert "[second] current ['first'] True" in done.stdout
    assert "[second] cleared None None" in done.stdout
    assert "[second] ops ['first', 'second']" in done.stdout


def test_tasks_and_conditions_share_a_state(deployment: Served) -> None:
    (deployment.home / "shared.py").write_text(SHARED)
    deployment("aiflow workflow upload shared.py")
    execution = ops.start_workflow_execution("shared")

    def statuses() -> list[tuple[str, str]]:
        return [(t.task_name, t.status) for t in ops.list_task_executions(execution)]

    def count() -> str | None:
        contract = StateOperations
        with server() as scheduler:
            return offers(scheduler, contract).get_state(execution, "count")  # type: ignore[type-abstract]

    deployment("aiflow event send step 1")
    until(lambda: count() == "1")  # of two who change it at the same time the later one would win
    deployment("aiflow event send add 20")
    until(lambda: statuses() == [("adding", "SUCCESS")])
    deployment("aiflow event send step 1")
    until(lambda: ("done", "SUCCESS") in statuses())
    deployment(f"aiflow workflow-execution stop {execution} --wait", code=None)
