"""The commands `aiflow explain ...`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import Id, namespace_option
from aiflow_core.cli.output import timestamp

if TYPE_CHECKING:
    from aiflow_core.model.decision import Decision
    from aiflow_core.model.event import Event
    from aiflow_core.model.explanation import Wait

FORMATS = ("text", "json", "yaml")

output_option = click.option(
    *("-o", "--output"),
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Format of the output.",
)

# Of what one event led to, so many lines of each kind are told to people; other formats have all.
_MOST_LINES = 20


@click.group(cls=Group)
def explain() -> None:
    """Tells why something ran, why not yet, and what an event led to."""


@explain.command(
    "task-execution",
    examples=["aiflow explain task-execution 1", "aiflow explain task-execution 1 -o json"],
)
@click.argument(
    "task_execution_id",
    type=Id(),
    help="The id of the task execution, as `aiflow task-execution list` shows it.",
)
@output_option
def explain_task_execution(task_execution_id: int, output: str) -> None:
    """Tells why an execution of a task was started, and what became of it."""
    from aiflow_core import ops

    _show_task(ops.explain_task_execution(task_execution_id), output)


@explain.command(
    "task",
    examples=["aiflow explain task 1 listen", "aiflow explain task 1 listen -o yaml"],
)
@click.argument("workflow_execution_id", type=Id(), help="The id of the workflow execution.")
@click.argument("task_name", help="The name of the task.")
@output_option
def explain_task(workflow_execution_id: int, task_name: str, output: str) -> None:
    """Tells why a task ran in a workflow execution, or what it still waits for."""
    from aiflow_core import ops

    _show_task(ops.explain_task(workflow_execution_id, task_name), output)


@explain.command(
    "workflow",
    examples=["aiflow explain workflow quickstart", "aiflow explain workflow inside -n lab"],
)
@click.argument("workflow_name", help="The name of the workflow.")
@namespace_option
@output_option
def explain_workflow(workflow_name: str, namespace: str, output: str) -> None:
    """Tells what would start the next execution of a workflow, and what keeps it from that."""
    from aiflow_core import ops

    found = ops.explain_workflow(workflow_name, namespace)
    if output != "text":
        _print(found, output)
        return
    _heading(found.summary)
    _section("What starts it", map(_wait, found.waits))
    _section("When it did not start", map(_decision, found.decisions))


@explain.command("event", examples=["aiflow explain event 2", "aiflow explain event 2 -o json"])
@click.argument("offset", type=Id(), help="The offset of the event in the log.")
@output_option
def explain_event(offset: int, output: str) -> None:
    """Tells what the event at an offset of the log led to, or why it led to nothing."""
    from aiflow_core import ops

    found = ops.explain_event(offset)
    if output != "text":
        _print(found, output)
        return
    _heading(found.summary)
    if found.event is not None:
        _section("The event", [_event(found.event)])
    _section("Decisions", map(_decision, found.decisions))
    _section("Executions started", (f"{e.id} {e.status}" for e in found.workflow_executions))
    _section(
        "Task executions",
        (
            f"{t.id}: task {t.task_name!r} of workflow execution {t.workflow_execution_id} "
            f"{t.status}{_because(t.reason)}   aiflow explain task-execution {t.id}"
            for t in found.task_executions
        ),
    )
    _section(
        "Events that followed",
        (f"{_event(e)}   aiflow explain event {e.offset}" for e in found.followed),
    )
    _section("Dead letters", (f"{x.consumer}: {x.error}" for x in found.dead_letters))
    _section("Who might have listened", found.hints)


def _show_task(found: Any, output: str) -> None:
    if output != "text":
        _print(found, output)
        return
    _heading(found.summary)
    _section("Decisions", map(_decision, found.decisions))
    has_ended = found.task is not None and found.task.end_date is not None
    title = "What would start it again" if has_ended else "What it waits for"
    _section(title, map(_wait, found.waits))
    waited = {
        lack.task_name: f"aiflow explain task {found.execution.id} {lack.task_name}"
        for wait in found.waits
        for lack in wait.missing
        if lack.task_name and not lack.event_keys
    }
    _section("Go on with", waited.values())


def _print(found: Any, output: str) -> None:
    from aiflow_core.cli.output import plain_data, shown_json

    if output == "json":
        click.echo(shown_json(found))
        return
    import yaml

    text = yaml.safe_dump(plain_data(found), sort_keys=False, allow_unicode=True)
    click.echo(text, nl=False)


# --- text ----------------------------------------------------------------------------------------


def _heading(text: str) -> None:
    _write(text, "bold")


def _section(title: str, lines: Iterable[str]) -> None:
    shown = list(lines)
    if not shown:
        return
    click.echo()
    _write(title, "cyan")
    for line in shown[:_MOST_LINES]:
        _write(f"  {line}")
    if len(shown) > _MOST_LINES:
        _write(f"  and {len(shown) - _MOST_LINES} more, see -o json")


def _write(text: str, style: str = "") -> None:
    """A line, in color where the terminal has any and NO_COLOR does not forbid it."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    console.print(text, style=style or None)


def _decision(decision: "Decision") -> str:
    whose = f"workflow execution {decision.workflow_execution_id}, "
    if decision.task_name:
        whose += f"task {decision.task_name!r}"
    else:
        whose = whose.removesuffix(", ")
    if not decision.workflow_execution_id:
        whose = f"workflow {decision.workflow_id}"
    line = f"event {decision.offset}  {timestamp(decision.time)}  {decision.what}  {whose}: "
    line += decision.why
    if decision.missing:
        line += f"; missing: {', '.join(lack.text for lack in decision.missing)}"
    if decision.count > 1:
        line += f" ({decision.count} times since event {decision.first_offset})"
    return line


def _wait(wait: "Wait") -> str:
    since = f", since {timestamp(wait.since)}" if wait.since else ""
    until = f", at {timestamp(wait.until)}" if wait.until else ""
    limits = [lack.before for lack in wait.missing if lack.before]
    before = f", until {timestamp(min(limits))} at the latest" if limits else ""
    return f"{wait.text}{until}{before}{since}"


def _event(event: "Event") -> str:
    value = "" if event.value is None else f" = {event.value[:80]}"
    where = f" in {event.namespace}" if event.namespace else ""
    sender = f" from {event.sender}" if event.sender else ""
    return f"event {event.offset}  {event.type} {event.key}{value}{where}{sender}"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
