"""A workflow, taken through events of the log in a rehearsal. Nothing is written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aiflow_core import ops
from aiflow_core.app import App, simulation
from aiflow_core.bundle import fetch, find_workflow, load_bundle, load_workflows
from aiflow_core.clock import to_datetime
from aiflow_core.errors import NotFoundError
from aiflow_core.model.condition import CustomCondition, task_status_key
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import WorkflowTrigger
from aiflow_core.model.serialization import encode
from aiflow_core.model.status import TASK_FINISHED, TaskStatus
from aiflow_core.model.workflow import Workflow, WorkflowDefinition
from aiflow_core.rehearsal import RUNS_ON, Rehearsal
from aiflow_core.specs.event_store import EventStore, PageSize


@dataclass(frozen=True)
class Subject:
    """What is tried out: a workflow, with the triggers that it has on the server."""

    workflow: Workflow | WorkflowDefinition
    triggers: list[WorkflowTrigger]

    @property
    def definition(self) -> WorkflowDefinition:
        found = self.workflow
        return found.definition() if isinstance(found, Workflow) else found

    @property
    def tasks(self) -> set[str]:
        return {task.name for task in self.definition.tasks}


def subject(app: App, name: str | None, file: Path | None, namespace: str) -> Subject:
    """The workflow of a file, or the newest upload of the one of that name."""
    if file is not None:
        workflows = load_workflows(file)
        return Subject(find_workflow(workflows, namespace, name or workflows[0].name), [])
    assert name is not None
    snapshot = ops.list_workflow_snapshots(name, namespace)[-1]
    triggers = ops.list_workflow_triggers(name, namespace)
    rules = [rule for task in snapshot.definition.tasks for rule in task.rules]
    if snapshot.bundle is None or not any(isinstance(r.condition, CustomCondition) for r in rules):
        return Subject(snapshot.definition, triggers)
    root = fetch(app.home, snapshot.bundle, app.blob_manager())
    found = find_workflow(load_bundle(root, snapshot.bundle.entry), namespace, name)
    return Subject(found, triggers)


def replay(
    log: EventStore,
    first: int,
    last: int,
    tried: Subject,
    *,
    execution: int | None,
    start: bool,
    plan: Callable[[Rehearsal], object],
) -> Rehearsal:
    """Take the workflow through the events `first` to `last`; `NotFoundError` when the log has
    none of them."""
    events = _read(log, first, last)
    event = next(events, None)
    if event is None:
        raise NotFoundError("event", f"{first} to {last}", next_step=f"It ends at {log.head()}.")
    rehearsal = Rehearsal(simulation(to_datetime(event.create_time)), default=RUNS_ON)
    definition = tried.definition
    rehearsal.upload(tried.workflow)
    plan(rehearsal)
    for trigger in tried.triggers:
        if not trigger.is_paused:
            where = (definition.name, definition.namespace)
            rehearsal.simulation.add_workflow_trigger(trigger.rule, *where)
    if start:
        rehearsal.start(definition.name, definition.namespace)
    while event is not None:
        rehearsal.advance_to(event.create_time)
        _take(rehearsal, definition, event, execution)
        event = next(events, None)
    return rehearsal


def _read(log: EventStore, first: int, last: int) -> Iterator[Event]:
    size, after = PageSize(), first - 1
    while after < last:
        page = log.read(after, until=last, limit=size.limit)
        if not page:
            return
        size.saw(page)
        after = page[-1].offset
        yield from page


def _take(
    rehearsal: Rehearsal, definition: WorkflowDefinition, event: Event, execution: int | None
) -> None:
    meant_for = event.workflow_execution_id
    if execution is not None and meant_for not in (None, execution):
        return
    match event.type:
        case EventType.USER:
            context = event.context
            if meant_for is not None:
                # Here it is another execution that has its part.
                newest = rehearsal.simulation.workflow_executions()[-1:]
                context = encode({"workflow_execution_id": newest[0].id if newest else 0}).decode()
            again = msgspec.structs.replace(event, id="", context=context)
            rehearsal.simulation.append(again)
            rehearsal.settle()
        case EventType.TASK_STATUS if event.value in TASK_FINISHED:
            _end(rehearsal, definition, event)
        case EventType.WORKFLOW_STATUS:
            if not event.key.endswith(f".{definition.name}"):
                rehearsal.simulation.append(msgspec.structs.replace(event, id=""))
                rehearsal.settle()


def _end(rehearsal: Rehearsal, definition: WorkflowDefinition, event: Event) -> None:
    """An attempt of a task has ended: so does that of the task here, if one runs."""
    if event.namespace != definition.namespace:
        return
    for request in rehearsal.simulation.attempts():
        if event.key == task_status_key(definition.name, request.key.task_name):
            rehearsal.end(request.key, TaskStatus(event.value or ""))
            return
