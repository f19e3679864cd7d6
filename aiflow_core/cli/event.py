"""The commands `aiflow event dead ...`: what became of the events that could not be taken in.

The other commands of `aiflow event` are of the notification server, which knows nothing of them.
"""

import click

from aiflow_core.cli.output import confirm, output_option, show, yes_option
from aiflow_core.errors import UsageError

COLUMNS = ("offset", "consumer", "error", "tries", "create_time")

offset_argument = click.argument("offset", type=click.IntRange(min=1))
any_offset_argument = click.argument("offset", type=click.IntRange(min=1), required=False)
all_option = click.option("--all", "every", is_flag=True, help="All dead letters.")
consumer_option = click.option(
    "--consumer", help="Only the letter of this consumer, as `show` names it."
)


@click.group()
def event() -> None:
    """Manages events."""


@event.group()
def dead() -> None:
    """Manages the events that could not be taken in.

    A letter is named by the OFFSET of its event in the log. When several could not take in one
    event, each has a letter of its own, and is told from the others by --consumer.

    \b
    Examples:
      aiflow event dead list
      aiflow event dead show 42
      aiflow event dead redrive 42
      aiflow event dead drop --all
    """


@dead.command("list")
@click.option("--limit", type=click.IntRange(min=1), help="No more than so many.")
@output_option
def list_letters(limit: int | None, output: str) -> None:
    """Lists the dead letters, in the order of the log."""
    from aiflow_core import ops

    show(ops.list_dead_letters(limit), COLUMNS, output)


@dead.command("show")
@offset_argument
@output_option
def show_letters(offset: int, output: str) -> None:
    """Shows the dead letters of one event, with the event."""
    from aiflow_core import ops

    show(ops.get_dead_letter(offset), (*COLUMNS, "event"), output)


@dead.command()
@any_offset_argument
@consumer_option
@all_option
def redrive(offset: int | None, consumer: str | None, every: bool) -> None:
    """Lets events be taken in again, now.

    A condition is asked once more about the event, with the states as they are today, while its
    execution is open. What fails again becomes a new dead letter. With --all, what cannot be
    redriven stays.

    \b
    Examples:
      aiflow event dead redrive 42
      aiflow event dead redrive 42 --consumer 'evaluation 7: task train, rule 1'
      aiflow event dead redrive --all
    """
    from aiflow_core import ops

    _check_choice(offset, consumer, every)
    if offset is None:
        click.echo(f"Dead letters redriven: {ops.redrive_dead_letters()}")
        return
    ops.redrive_dead_letter(offset, consumer)
    click.echo(f"Dead letter: {offset} redriven.")


@dead.command()
@any_offset_argument
@consumer_option
@all_option
@yes_option
def drop(offset: int | None, consumer: str | None, every: bool, yes: bool) -> None:
    """Forgets dead letters; their events stay in the log.

    \b
    Examples:
      aiflow event dead drop 42
      aiflow event dead drop --all -y
    """
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
