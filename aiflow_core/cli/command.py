"""What every command of every program is made of: its help, its errors, its exit code.

The help of a command is a sentence, its arguments, its options, and examples. The examples are kept
as they are typed, so that a test can run them.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from aiflow_core.errors import AIFlowError

EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class Command(click.Command):
    """A command with examples.

    Attributes:
        examples: lines as they are typed, the name of the program included.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Group(click.Group):
    """A group whose commands are `Command`s, and whose groups are `Group`s."""

    command_class = Command


Group.group_class = Group


class Program(Group):
    """A command line whose errors are one sentence on stderr and an exit code.

    The exit code is the error's own, see `aiflow_core.errors`. `--debug` shows the traceback, too.
    Where `NO_COLOR` is set, nothing is coloured.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(["--debug"], is_flag=True, help="Show the traceback of an error.")
        )

    def invoke(self, ctx: click.Context) -> Any:
        debug = ctx.params.pop("debug")
        if os.environ.get("NO_COLOR"):
            ctx.color = False
        try:
            return super().invoke(ctx)
        except AIFlowError as error:
            _explain(f"Error: {error}", debug)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # Whoever read the output has enough. The interpreter would complain while flushing.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            hint = "" if debug else " Run it again with --debug and report what it shows."
            _explain(f"This is a bug in AIFlow: {type(error).__name__}: {error}.{hint}", debug)
            sys.exit(EXIT_BUG)


def _explain(sentence: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(sentence, err=True)
