"""What the commands of schedules and of triggers have in common: both start executions."""

from collections.abc import Sequence
from typing import Any

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import Id, confirm, namespace_option, paging_options, yes_option
from aiflow_core.cli.output import Output, output_option, show

name_argument = click.argument("workflow_name", help="The name of the workflow.")


def starter_commands(kind: str, columns: Sequence[str]) -> click.Group:
    """The commands to look at, pause, resume and delete the `schedule`s or `trigger`s."""
    id_argument = click.argument(f"workflow_{kind}_id", help=f"The id of the {kind}.", type=Id())

    def call(operation: str, *args: Any) -> Any:
        from aiflow_core import ops

        return getattr(ops, operation.format(f"workflow_{kind}"))(*args)

    def examples(*ends: str) -> list[str]:
        return [f"aiflow workflow-{kind} {end}" for end in ends]

    @click.group(f"workflow-{kind}", cls=Group)
    def group() -> None:
        pass

    @group.command(help=f"Deletes a {kind}.", examples=examples("delete 1 --yes", "delete 2 -y"))
    @id_argument
    @yes_option
    def delete(yes: bool, **ids: int) -> None:
        (number,) = ids.values()
        confirm(f"Delete workflow {kind} {number}?", yes)
        call("delete_{}", number)
        click.echo(f"Workflow {kind}: {number} deleted.")

    @group.command(
        "delete-all",
        help=f"Deletes all {kind}s of a workflow.",
        examples=examples("delete-all quickstart --yes", "delete-all inside --namespace lab -y"),
    )
    @name_argument
    @namespace_option
    @yes_option
    def delete_all(workflow_name: str, namespace: str, yes: bool) -> None:
        confirm(f"Delete all {kind}s of workflow {namespace}.{workflow_name}?", yes)
        call("delete_{}s", workflow_name, namespace)
        click.echo(f"All {kind}s of workflow: {namespace}.{workflow_name} deleted.")

    @group.command(
        help=f"Pauses a {kind}, so that it starts no executions.",
        examples=examples("pause 1", "pause 2"),
    )
    @id_argument
    def pause(**ids: int) -> None:
        (number,) = ids.values()
        call("pause_{}", number)
        click.echo(f"Workflow {kind}: {number} paused.")

    @group.command(
        help=f"Resumes a {kind} that was paused before.", examples=examples("resume 1", "resume 2")
    )
    @id_argument
    def resume(**ids: int) -> None:
        (number,) = ids.values()
        call("resume_{}", number)
        click.echo(f"Workflow {kind}: {number} resumed.")

    @group.command(
        "list",
        help=f"Lists all {kind}s of a workflow.",
        examples=examples("list quickstart", "list quickstart --output json"),
    )
    @name_argument
    @namespace_option
    @paging_options
    @output_option
    def list_all(
        workflow_name: str, namespace: str, limit: int | None, offset: int, output: Output
    ) -> None:
        show(call("list_{}s", workflow_name, namespace, limit, offset), columns, output)

    @group.command(
        "show",
        help=f"Shows the details of a {kind}.",
        examples=examples("show 1", "show 1 --output yaml"),
    )
    @id_argument
    @output_option
    def show_one(output: Output, **ids: int) -> None:
        (number,) = ids.values()
        show([call("get_{}", number)], columns, output)

    return group
