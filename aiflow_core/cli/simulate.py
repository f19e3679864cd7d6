"""`aiflow workflow simulate`: what a workflow file would do, when and why, without any server."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aiflow_core.cli.command import Command
from aiflow_core.cli.options import Duration, TaskAndStatus
from aiflow_core.cli.output import Output, output_option, show

if TYPE_CHECKING:
    from aiflow_core.rehearsal import Rehearsal

COLUMNS = ("time", "offset", "key", "workflow_execution_id", "task_name", "what", "why")

# Beyond the last event, what comes of it is followed for so many seconds, unless --until is given.
_FURTHER = 24 * 3600

tasks_option = click.option(
    *("-t", "--task", "tasks"),
    type=TaskAndStatus(),
    multiple=True,
    help="How the attempts of a task end, say train=FAILED; RUNNING: not by themselves. "
    "[default: SUCCESS]",
)
duration_option = click.option(
    "--task-time",
    type=Duration(),
    default="0s",
    show_default=True,
    help="How long each attempt takes.",
)


class Moment(click.ParamType[datetime]):
    """A moment: 2024-05-01T12:00:00Z; without a zone it is UTC."""

    name = "moment"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        from datetime import UTC

        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no moment; write for example 2024-05-01T12:00:00Z.")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.command(
    cls=Command,
    examples=[
        "aiflow workflow simulate quickstart.py",
        "aiflow workflow simulate quickstart.py --events events.jsonl --task greet=FAILED -o plain",
        "aiflow workflow simulate quickstart.py --schedule 'cron@0 * * * *' --until 7d -o json",
    ],
)
@click.argument("file", help="The path of the workflow file.", type=click.Path(path_type=Path))
@click.option("--events", type=click.Path(path_type=Path), help="JSON Lines: what happens when.")
@click.option("--begin", type=Moment(), help="When it begins. [default: 2024-01-01T00:00:00Z]")
@click.option("--until", type=Duration(), help="How much time passes, say 7d.")
@click.option("-w", "--workflow", "only", help="Only the workflow of this name.")
@click.option(
    "--schedule", "schedules", multiple=True, help="A schedule of the workflow, as cron@0 4 * * *."
)
@click.option(
    "--start/--no-start",
    default=None,
    help="Start an execution at the beginning. [default: where there is no schedule]",
)
@tasks_option
@duration_option
@output_option
def simulate(
    file: Path,
    events: Path | None,
    begin: datetime | None,
    until: float | None,
    only: str | None,
    schedules: tuple[str, ...],
    start: bool | None,
    tasks: tuple[tuple[str, str], ...],
    task_time: float,
    output: Output,
) -> None:
    """Shows what a workflow would do, when and why.

    Nothing runs, and no server is needed. Tasks are not executed: they take the time and end as
    the options say. Conditions of your own are evaluated here.

    Each line of the events file has `at` (seconds from the beginning, 90s, 2h or a moment), and
    `key` with `value`, `namespace` and `workflow_execution_id` as an event has them; or `task` with
    `status` and `reason`, which ends the attempt of a task that runs.
    """
    from aiflow_core.app import simulation
    from aiflow_core.cli.script import read_script
    from aiflow_core.errors import UsageError
    from aiflow_core.rehearsal import START, Rehearsal

    rehearsal = Rehearsal(simulation(begin or START))
    begin_ms = rehearsal.simulation.now_ms
    script = read_script(events, begin_ms) if events else []
    workflows = [w for w in rehearsal.load(file) if only in (None, w.name)]
    if not workflows:
        raise UsageError(f"{file.name} has no workflow {only!r}.")
    plan_tasks(rehearsal, tasks, task_time, {name for w in workflows for name in w.tasks})
    for workflow in workflows:
        for expression in schedules:
            where = (workflow.name, workflow.namespace)
            rehearsal.simulation.add_workflow_schedule(expression, *where)
        if start or (start is None and not schedules):
            rehearsal.start(workflow.name, workflow.namespace)
    default_namespace = workflows[0].namespace
    for step in script:
        rehearsal.advance_to(step.at_ms)
        step.carry_out(rehearsal, default_namespace)
    last = script[-1].at_ms if script else begin_ms
    if until is not None:
        rehearsal.advance_to(max(last, begin_ms + round(until * 1000)))
    else:
        rehearsal.run_out(last + _FURTHER * 1000)
    show(rehearsal.happenings, COLUMNS, output)


def plan_tasks(
    rehearsal: "Rehearsal", tasks: tuple[tuple[str, str], ...], task_time: float, known: set[str]
) -> None:
    """Let the attempts of the tasks go as the options say."""
    from aiflow_core.errors import UsageError, did_you_mean
    from aiflow_core.model.status import TaskStatus
    from aiflow_core.rehearsal import Attempt

    planned = dict(tasks)
    for name in planned:
        if name not in known:
            raise UsageError(f"There is no task {name!r}.", next_step=did_you_mean(name, [*known]))
    for name in known:
        ends = TaskStatus(planned.get(name, TaskStatus.SUCCESS))
        reason = "as planned" if ends is TaskStatus.FAILED else ""
        rehearsal.plan(name, Attempt(ends=ends, after=task_time, reason=reason))
