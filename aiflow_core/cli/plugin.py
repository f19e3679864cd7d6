"""The commands `aiflow plugin ...`: for those who write one."""

import click

from aiflow_core.cli.command import Group


@click.group(cls=Group)
def plugin() -> None:
    """Helps to write a plugin."""


@plugin.command(
    examples=[
        "aiflow plugin new operator http-call",
        "aiflow plugin new hooks chat --directory ~/chat",
    ]
)
@click.argument("kind", help="operator, executor, blob-manager, event-store, scheduler or hooks.")
@click.argument("name", help="What users of the plugin write.")
@click.option(
    "--directory",
    type=click.Path(),
    help="Where it is written; a new directory with the name of the distribution if left out.",
)
def new(kind: str, name: str, directory: str | None) -> None:
    """Writes a new distribution with one plugin, in which what is to be written is marked."""
    from aiflow_core.scaffold import MARK, new_plugin

    made = new_plugin(kind, name, directory)
    click.echo(f"{made.distribution} is in {made.directory}. Fill in what is marked {MARK!r}:")
    for path in made.to_fill_in:
        click.echo(f"  {made.directory / path}")
    click.echo(f'Then: cd {made.directory} && pip install -e ".[test]" && pytest')
