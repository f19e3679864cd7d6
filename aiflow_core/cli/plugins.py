"""The commands `aiflow plugins ...`."""

import sys

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.output import Output, output_option, show

COLUMNS = ("kind", "name", "version", "origin", "api", "state", "problem")
FACTS = (*COLUMNS, "target", "summary", "capabilities")
SETTINGS = ("name", "type", "is_required", "default", "description")

time_limit_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds that one plugin may take to be imported.",
)


@click.group(cls=Group)
def plugins() -> None:
    """Shows the installed plugins."""


@plugins.command(
    "list",
    examples=["aiflow plugins list", "aiflow plugins list --fields kind,name,problem -o plain"],
)
@output_option
def list_plugins(output: Output) -> None:
    """Lists all plugins; `problem` says why one is not used.

    Only those that are in use are imported, in a process of their own; the others are lazy.
    """
    from aiflow_core.app import App
    from aiflow_core.catalog import HOOKS_GROUP
    from aiflow_core.catalog import plugins as every_plugin
    from aiflow_core.inspection import examined

    app = App.configured()
    chosen = {(f"aiflow.{kind}", driver.type) for kind, driver in app.drivers().items()}
    chosen |= {(HOOKS_GROUP, name) for name in app.project.hooks}
    found = every_plugin()
    # A module listens once it is installed, a class when the settings name it.
    in_use = [
        p
        for p in found
        if (p.group, p.name) in chosen or (p.group == HOOKS_GROUP and not p.entry.attr)
    ]
    looked_at = {id(p): now for p, (now, _) in zip(in_use, examined(in_use), strict=True)}
    show([looked_at.get(id(plugin), plugin) for plugin in found], COLUMNS, output)


@plugins.command(
    "show", examples=["aiflow plugins show bash", "aiflow plugins show local --kind executor"]
)
@click.argument("name", help="The name of the plugin.")
@click.option("--kind", help="Of which kind, where several kinds have one of that name.")
@time_limit_option
@output_option
def show_plugin(name: str, kind: str | None, timeout: float, output: Output) -> None:
    """Shows a plugin: what it is, what it can, and its settings; JSON and YAML hold their JSON
    Schema as well.

    It is imported for that, in a process of its own.
    """
    from aiflow_core.catalog import plugins as every_plugin
    from aiflow_core.errors import NotFoundError, did_you_mean
    from aiflow_core.inspection import examined

    of_kind = [p for p in every_plugin() if kind in (None, p.kind)]
    found = [p for p in of_kind if p.name == name]
    if not found:
        names = sorted({p.name for p in of_kind})
        raise NotFoundError("plugin", name, next_step=did_you_mean(name, names))
    rows = [
        {
            **{column: getattr(plugin, column) for column in (*COLUMNS, "target")},
            "summary": finding.summary,
            "capabilities": finding.capabilities,
            "settings": finding.settings,
            "schema": finding.schema,
        }
        for plugin, finding in examined(found, timeout)
    ]
    if output.format in ("json", "yaml"):
        show(rows, (*FACTS, "settings", "schema"), output)
        return
    for row in rows:
        show([row], FACTS, output)
        if row["settings"]:
            show(row["settings"], SETTINGS, output)


@plugins.command(examples=["aiflow plugins doctor", "aiflow plugins doctor --timeout 60 -o json"])
@time_limit_option
@output_option
def doctor(timeout: float, output: Output) -> None:
    """Imports every plugin that may be used, in a process of its own, and says what is wrong.

    One that hangs or ends the process is found as well. The exit code is 1 when a plugin is broken
    or is for another version of AIFlow's contracts.
    """
    from aiflow_core.catalog import State
    from aiflow_core.catalog import plugins as every_plugin
    from aiflow_core.inspection import examined

    looked_at = [plugin for plugin, _ in examined(every_plugin(), timeout)]
    show(looked_at, COLUMNS, output)
    if any(plugin.state in (State.BROKEN, State.MISFIT) for plugin in looked_at):
        sys.exit(1)
