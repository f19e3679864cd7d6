"""The commands `aiflow namespace ...`."""

import json
from typing import Any

import click

from aiflow_core.cli.output import confirm, output_option, show, yes_option
from aiflow_core.errors import UsageError

COLUMNS = ("name", "properties")


@click.group()
def namespace() -> None:
    """Namespace related operations."""


@namespace.command()
@click.argument("namespace_name")
@click.option("--properties", help="Properties of the namespace, a JSON object.")
def add(namespace_name: str, properties: str | None) -> None:
    """Creates a namespace with a specific name."""
    from aiflow_core import ops

    ops.add_namespace(namespace_name, _parsed(properties))
    click.echo(f"Namespace: {namespace_name}, created.")


@namespace.command()
@click.argument("namespace_name")
@yes_option
def delete(namespace_name: str, yes: bool) -> None:
    """Deletes a namespace that has no workflows."""
    from aiflow_core import ops

    confirm(f"Delete namespace {namespace_name}?", yes)
    ops.delete_namespace(namespace_name)
    click.echo(f"Namespace: {namespace_name}, deleted.")


@namespace.command("list")
@output_option
def list_namespaces(output: str) -> None:
    """Lists all the namespaces."""
    from aiflow_core import ops

    show(ops.list_namespace(), COLUMNS, output)


def _parsed(properties: str | None) -> dict[str, Any]:
    try:
        parsed = json.loads(properties or "{}")
    except ValueError as error:
        raise UsageError(f"The properties are not JSON: {error}.") from error
    if not isinstance(parsed, dict):
        raise UsageError('The properties are not a JSON object such as {"team": "vision"}.')
    return parsed
