"""What the commands of schedules and of triggers have in common: both start executions."""

from collections.abc import Sequence
from typing import Any

import click

from aiflow_core.cli.output import confirm, namespace_option, output_option, show, yes_option


def starter_commands(kind: str, columns: Sequence[str]) -> click.Group:
    """The commands to look at, pause, resume and delete the `schedule`s or `trigger`s."""
    argument = click.argument("number", metavar=f"WORKFLOW_{kind.upper()}_ID", type=int)

    def call(operation: str, *args: Any) -> Any:
        from aiflow_core import ops

        return getattr(ops, operation.format(f"workflow_{kind}"))(*args)

    @click.group(f"workflow-{kind}")
    def group() -> None:
        pass

    @group.command(help=f"Deletes a {kind}.")
    @argument
    @yes_option
    def delete(number: int, yes: bool) -> None:
        confirm(f"Delete workflow {kind} {number}?", yes)
        call("delete_{}", number)
        click.echo(f"Workflow {kind}: {number} deleted.")

    @group.command("delete-all", help=f"Deletes all {kind}s of a workflow.")
    @click.argument("workflow_name")
    @namespace_option
    @yes_option
    def delete_all(workflow_name: str, namespace: str, yes: bool) -> None:
        confirm(f"Delete all {kind}s of workflow {namespace}.{workflow_name}?", yes)
        call("delete_{}s", workflow_name, namespace)
        click.echo(f"All {kind}s of workflow: {namespace}.{workflow_name} deleted.")

    @group.command(help=f"Pauses a {kind}, so that it starts no executions.")
    @argument
    def pause(number: int) -> None:
        call("pause_{}", number)
        click.echo(f"Workflow {kind}: {number} paused.")

    @group.command(help=f"Resumes a {kind} that was paused before.")
    @argument
    def resume(number: int) -> None:
        call("resume_{}", number)
        click.echo(f"Workflow {kind}: {number} resumed.")

    @group.command("list", help=f"Lists all {kind}s of a workflow.")
    @click.argument("workflow_name")
    @namespace_option
    @output_option
    def list_all(workflow_name: str, namespace: str, output: str) -> None:
        show(call("list_{}s", workflow_name, namespace), columns, output)

    @group.command("show", help=f"Shows the details of a {kind}.")
    @argument
    @output_option
    def show_one(number: int, output: str) -> None:
        show([call("get_{}", number)], columns, output)

    return group
