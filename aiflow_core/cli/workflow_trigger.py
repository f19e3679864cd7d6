"""The commands `aiflow workflow-trigger ...`."""

from typing import Any

import click

from aiflow_core.cli.options import namespace_option
from aiflow_core.cli.starters import name_argument, starter_commands
from aiflow_core.errors import UsageError

COLUMNS = ("id", "workflow_id", "rule", "create_time", "is_paused")

workflow_trigger = starter_commands("trigger", COLUMNS)
workflow_trigger.help = "Manages the event triggers of the workflow."


@workflow_trigger.command(
    examples=[
        "aiflow workflow-trigger add quickstart --event data_ready",
        "aiflow workflow-trigger add quickstart --event images --event labels --require all",
    ]
)
@name_argument
@click.option(
    "--event",
    "keys",
    multiple=True,
    metavar="KEY",
    help="Start on events with this key (* is a wildcard); may be given several times.",
)
@click.option(
    "--require",
    type=click.Choice(["any", "all"]),
    default="any",
    show_default=True,
    help="Of several keys: whether one event starts an execution, or one of each key.",
)
@click.option(
    "--rule", metavar="JSON", help="The condition as `show` prints it, instead of --event."
)
@namespace_option
def add(
    workflow_name: str, keys: tuple[str, ...], require: str, rule: str | None, namespace: str
) -> None:
    """Creates a trigger, which starts an execution when its condition on events is met.

    Conditions that are code are added from Python, with `ops.add_workflow_trigger`.
    """
    from aiflow_core import ops
    from aiflow_core.model.rule import WorkflowRule

    if bool(keys) == bool(rule):
        raise UsageError("Give the events to start on: either --event KEY, or --rule JSON.")
    condition = _of_keys(keys, require) if rule is None else _parsed(rule)
    trigger = ops.add_workflow_trigger(WorkflowRule(condition), workflow_name, namespace)
    click.echo(f"Workflow trigger: {trigger.id} created.")


def _of_keys(keys: tuple[str, ...], require: str) -> Any:
    from aiflow_core.model.condition import (
        MeetAllCondition,
        MeetAnyCondition,
        SingleEventCondition,
    )

    conditions = tuple(map(SingleEventCondition, keys))
    if len(conditions) == 1:
        return conditions[0]
    if require == "any":
        return MeetAnyCondition(conditions)
    # The state is the workflow's, and those who use one name share it.
    return MeetAllCondition(f"all of {', '.join(keys)}", conditions)


def _parsed(rule: str) -> Any:
    from aiflow_core.model.condition import AnyCondition, CustomCondition
    from aiflow_core.model.serialization import decode

    condition: Any = decode(rule, AnyCondition)  # type: ignore[arg-type]  # a union is no type
    if isinstance(condition, CustomCondition):
        raise UsageError(
            "This condition is code, and the command line takes data only.",
            next_step="Add it from Python, with `ops.add_workflow_trigger`.",
        )
    return condition
