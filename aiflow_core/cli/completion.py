"""`aiflow completion`: lets a shell complete the words of a command."""

import click

from aiflow_core.cli.command import Command

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    examples=["aiflow completion bash", "aiflow completion zsh --program notification"],
)
@click.argument("shell", help="The shell.", type=click.Choice(SHELLS))
@click.option(
    "--program",
    type=click.Choice(["aiflow", "notification"]),
    default="aiflow",
    show_default=True,
    help="The program whose commands are completed.",
)
def completion(shell: str, program: str) -> None:
    """Prints the code with which a shell completes commands.

    For bash put `eval "$(aiflow completion bash)"` into ~/.bashrc, the same with zsh into ~/.zshrc;
    for fish run `aiflow completion fish > ~/.config/fish/completions/aiflow.fish`.
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None, shell
    # What the code calls is the program itself, so only its name matters here.
    code = complete(click.Group(program), {}, program, f"_{program.upper()}_COMPLETE")
    click.echo(code.source())
