"""How long it takes to start a task because of an event, beside rules that it does not concern:
`python bench/rules.py`.

The other rules, on patterns of the event algebra that are half met, wait for events of other keys.
The scheduler's engine alone, without a database and without a log; the lines should differ little,
however many rules there are.
"""

import argparse
import statistics
import time
from datetime import UTC, datetime, timedelta

from aiflow_core import TaskAction, Workflow
from aiflow_core.app import simulation
from aiflow_core.model.algebra import all_of, event
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptReport
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import DEFAULT_NAMESPACE
from aiflow_core.specs.operator import Operator, TaskContext

RULES_OF_A_WORKFLOW = 1000


class Nothing(Operator):
    """A task that is only waited for."""

    def start(self, context: TaskContext) -> None:
        raise AssertionError("no task of the bench runs")


def idle_workflow(name: str, rules: int) -> Workflow:
    """Each of the rules waits for a second event for days."""
    with Workflow(name) as workflow:
        for number in range(rules):
            task = Nothing(f"t{number}")
            halves = (event(f"{name}.{number}.{half}") for half in ("first", "second"))
            task.action_on_condition(TaskAction.START, all_of(*halves, within=timedelta(days=30)))
    return workflow


def microseconds(rules: int, events: int) -> list[float]:
    """From an event to the order to run a task, so many times, beside so many idle rules."""
    engine = simulation(datetime(2026, 1, 1, tzinfo=UTC))
    for number in range(-(-rules // RULES_OF_A_WORKFLOW)):
        name = f"idle{number}"
        size = min(RULES_OF_A_WORKFLOW, rules - number * RULES_OF_A_WORKFLOW)
        engine.submit_workflow(idle_workflow(name, size))
        engine.start_workflow_execution(name)
        engine.advance_to(engine.now_ms + 1)
        for task in range(size):
            engine.append(Event(f"{name}.{task}.first", namespace=DEFAULT_NAMESPACE))
    with Workflow("busy") as busy:
        Nothing("runs_on")
        Nothing("waits").action_on_event_received(TaskAction.START, "go")
    engine.submit_workflow(busy)
    engine.start_workflow_execution("busy")
    taken = []
    for _ in range(events):
        began = time.perf_counter()
        engine.append(Event("go", namespace=DEFAULT_NAMESPACE))
        taken.append((time.perf_counter() - began) * 1e6)
        (attempt,) = (each for each in engine.attempts() if each.key.task_name == "waits")
        engine.report(AttemptReport(key=attempt.key, status=TaskStatus.SUCCESS))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--rules", type=int, nargs="+", default=[0, 1_000, 10_000, 100_000])
    asked = parser.parse_args()
    for rules in asked.rules:
        taken = microseconds(rules, asked.events)
        p50, p99 = statistics.median(taken), sorted(taken)[int(len(taken) * 0.99) - 1]
        print(f"{rules:7} idle rules: p50 {p50:.0f}, p99 {p99:.0f} microseconds", flush=True)


if __name__ == "__main__":
    main()
