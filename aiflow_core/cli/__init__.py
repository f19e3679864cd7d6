"""The `aiflow` command.

A sub-command is imported when it is used, and no earlier: `aiflow --help` knows the commands of the
core from the table below, and those of plugins from their entry points.
"""

from importlib import import_module
from typing import TYPE_CHECKING

import click

from aiflow_core.cli.command import Group, Program

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# Name -> module:command and what the help says; one without help is hidden.
_COMMANDS = {
    "completion": (
        "aiflow_core.cli.completion:completion",
        "Prints the code with which a shell completes commands.",
    ),
    "config": ("aiflow_core.cli.config:config", "Manages configuration."),
    "db": ("aiflow_core.cli.db:db", "Database operations."),
    "event": ("aiflow_core.cli.event:event", "Manages events."),
    "explain": ("aiflow_core.cli.explain:explain", "Tells why something ran, or has not."),
    "namespace": ("aiflow_core.cli.namespace:namespace", "Namespace related operations."),
    "plugin": ("aiflow_core.cli.plugin:plugin", "Helps to write a plugin."),
    "plugins": ("aiflow_core.cli.plugins:plugins", "Shows the installed plugins."),
    "project": (
        "aiflow_core.cli.project:project",
        "Manages project.yaml: which plugins a deployment uses, and how.",
    ),
    "rule": ("aiflow_core.cli.rule:rule", "Tries rules out on the events of the log."),
    "run": ("aiflow_core.cli.run:run", "Runs a workflow file here and now, without servers."),
    "task-execution": (
        "aiflow_core.cli.task_execution:task_execution",
        "Task execution related operations.",
    ),
    "version": ("aiflow_core.cli.version:version", "Shows the version."),
    "webserver": ("aiflow_core.cli.webserver:webserver", ""),
    "workflow": ("aiflow_core.cli.workflow:workflow", "Workflow related operations."),
    "workflow-execution": (
        "aiflow_core.cli.workflow_execution:workflow_execution",
        "Workflow execution related operations.",
    ),
    "workflow-schedule": (
        "aiflow_core.cli.workflow_schedule:workflow_schedule",
        "Manages the periodic schedules of the workflow.",
    ),
    "workflow-snapshot": (
        "aiflow_core.cli.workflow_snapshot:workflow_snapshot",
        "Manages the snapshots of the workflow, one for each upload.",
    ),
    "workflow-trigger": (
        "aiflow_core.cli.workflow_trigger:workflow_trigger",
        "Manages the event triggers of the workflow.",
    ),
}

# What the help says of commands that a plugin brings; without this, what the plugin is for.
_HELP = {"server": "AIFlow server operations."}


class AIFlow(Program):
    """The commands of the core and of the plugins, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*_COMMANDS, *_plugin_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        is_of_plugin = cmd_name in _plugin_commands()
        if cmd_name not in _COMMANDS:
            return _load(cmd_name) if is_of_plugin else None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return _joined(command, _load(cmd_name)) if is_of_plugin and _may_be(cmd_name) else command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            # click looks for the nearest among those that are imported, and these are none.
            known = self.list_commands(ctx)
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=known, ctx=ctx
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        entries = _plugin_commands().items()
        helps = {name: _HELP.get(name) or _summary(entry) for name, entry in entries}
        helps |= {name: text for name, (_, text) in _COMMANDS.items() if text}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(helps.items()))


def main() -> None:
    """The console script `aiflow`."""
    aiflow(prog_name="aiflow")


@click.group(cls=AIFlow, context_settings={"help_option_names": ["-h", "--help"]})
def aiflow() -> None:
    """Orchestrates workflows by events: mixed streaming and batch tasks."""


def _plugin_commands() -> dict[str, "EntryPoint"]:
    # Imported late: looking at what is installed takes as long as all the rest of `aiflow version`.
    from importlib.metadata import entry_points

    return {entry.name: entry for entry in entry_points(group="aiflow.commands")}


def _may_be(name: str) -> bool:
    """Whether the settings, and the plugin itself, let its command be used."""
    from aiflow_core.catalog import COMMANDS_GROUP, State, plugins

    kept_out = (State.DISABLED, State.MISFIT)
    return any(p.name == name and p.state not in kept_out for p in plugins(COMMANDS_GROUP))


def _load(name: str) -> click.Command:
    from aiflow_core.catalog import COMMANDS_GROUP
    from aiflow_core.plugins import chosen, load

    command: click.Command = load(chosen(COMMANDS_GROUP, name))
    return command


def _joined(ours: click.Command, theirs: click.Command) -> click.Command:
    """The core's command; of two groups one with the commands of both."""
    if not isinstance(ours, click.Group) or not isinstance(theirs, click.Group):
        return ours
    return Group(
        ours.name,
        commands={**theirs.commands, **ours.commands},
        help=ours.help,
        callback=theirs.callback,
        params=theirs.params,
    )


def _summary(entry: "EntryPoint") -> str:
    return (entry.dist.metadata["Summary"] or "") if entry.dist else ""
