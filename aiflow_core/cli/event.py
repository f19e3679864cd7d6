"""The commands `aiflow event dead ...`: what became of the events that could not be taken in.

The other commands of `aiflow event` are of the notification server, which knows nothing of them.
"""

import click

from aiflow_core.cli.command import Group
from aiflow_core.cli.options import Id, confirm, paging_options, yes_option
from aiflow_core.cli.output import Output, output_option, show
from aiflow_core.errors import UsageError

COLUMNS = ("offset", "consumer", "error", "tries", "create_time")

offset_argument = click.argument("offset", help="The offset of the event in the log.", type=Id())
any_offset_argument = click.argument(
    "offset", help="The offset of the event in the log.", type=Id(), required=False
)
all_option = click.option("--all", "every", is_flag=True, help="All dead letters.")
consumer_option = click.option(
    "--consumer", help="Only the letter of this consumer, as `show` names it."
)


@click.group(cls=Group)
def event() -> None:
    """Manages events."""


@event.group()
def dead() -> None:
    """Manages the events that could not be taken in.

    A letter is named by the OFFSET of its event in the log. When several could not take in one
    event, each has a letter of its own, and is told from the others by --consumer.
    """


@dead.command(
    "list",
    examples=["aiflow event dead list", "aiflow event dead list --limit 10 --fields offset,error"],
)
@paging_options
@output_option
def list_letters(limit: int | None, offset: int, output: Output) -> None:
    """Lists the dead letters, in the order of the log."""
    from aiflow_core import ops

    show(ops.list_dead_letters(limit, offset), COLUMNS, output)


@dead.command(
    "show", examples=["aiflow event dead show 4", "aiflow event dead show 4 --output json"]
)
@offset_argument
@output_option
def show_letters(offset: int, output: Output) -> None:
    """Shows the dead letters of one event, with the event."""
    from aiflow_core import ops

    show(ops.get_dead_letter(offset), (*COLUMNS, "event"), output)


@dead.command(
    examples=[
        "aiflow event dead redrive 4 --consumer 'evaluation 1: task train, rule 1'",
        "aiflow event dead redrive --all",
    ]
)
@any_offset_argument
@consumer_option
@all_option
def redrive(offset: int | None, consumer: str | None, every: bool) -> None:
    """Lets events be taken in again, now.

    A condition is asked once more about the event, with the states as they are today, while its
    execution is open. What fails again becomes a new dead letter. With --all, what cannot be
    redriven stays.
    """
    from aiflow_core import ops

    _check_choice(offset, consumer, every)
    if offset is None:
        click.echo(f"Dead letters redriven: {ops.redrive_dead_letters()}")
        return
    ops.redrive_dead_letter(offset, consumer)
    click.echo(f"Dead letter: {offset} redriven.")


@dead.command(examples=["aiflow event dead drop 4 --yes", "aiflow event dead drop --all -y"])
@any_offset_argument
@consumer_option
@all_option
@yes_option
def drop(offset: int | None, consumer: str | None, every: bool, yes: bool) -> None:
    """Forgets dead letters; their events stay in the log."""
    from aiflow_core import ops

    _check_choice(offset, consumer, every)
    if offset is None:
        confirm("Drop all dead letters?", yes)
        click.echo(f"Dead letters dropped: {ops.drop_dead_letters()}")
        return
    confirm(f"Drop dead letter {offset}?", yes)
    ops.drop_dead_letter(offset, consumer)
    click.echo(f"Dead letter: {offset} dropped.")


def _check_choice(offset: int | None, consumer: str | None, every: bool) -> None:
    if (offset is None) != every or (every and consumer is not None):
        raise UsageError("Give either the OFFSET of an event, or --all.")
