"""The commands `aiflow namespace ...`."""

import json
from typing import Any

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import confirm, paging_options, yes_option
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.errors import UsageError

COLUMNS = ("name", "properties")

name_argument = click.argument("namespace_name", help="The name of the namespace.")


@click.group(cls=Group)
def namespace() -> None:
    """Namespace related operations."""


@namespace.command(
    examples=[
        "aiflow namespace add lab",
        'aiflow namespace add vision --properties \'{"team": "vision"}\'',
    ]
)
@name_argument
@click.option("--properties", metavar="JSON", help="Properties of the namespace, a JSON object.")
def add(namespace_name: str, properties: str | None) -> None:
    """Creates a namespace."""
    from aiflow_core import ops

    ops.add_namespace(namespace_name, _parsed(properties))
    click.echo(f"Namespace: {namespace_name}, created.")


@namespace.command(
    examples=["aiflow namespace delete lab --yes", "aiflow namespace delete vision -y"]
)
@name_argument
@yes_option
def delete(namespace_name: str, yes: bool) -> None:
    """Deletes a namespace that has no workflows."""
    from aiflow_core import ops

    confirm(f"Delete namespace {namespace_name}?", yes)
    ops.delete_namespace(namespace_name)
    click.echo(f"Namespace: {namespace_name}, deleted.")


@namespace.command(
    "list", examples=["aiflow namespace list", "aiflow namespace list --output yaml"]
)
@paging_options
@output_option
def list_namespaces(limit: int | None, offset: int, output: Output) -> None:
    """Lists all namespaces."""
    from aiflow_core import ops

    show(ops.list_namespace(limit, offset), COLUMNS, output)


def _parsed(properties: str | None) -> dict[str, Any]:
    try:
        parsed = json.loads(properties or "{}")
    except ValueError as error:
        raise UsageError(f"The properties are not JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise UsageError('The properties are not a JSON object such as {"team": "vision"}.')
    return parsed
