"""Writes the pages of the reference that follow from the code: `python -m tests.reference`.

What stands above the mark in a page is written by hand; what follows is replaced.
`tests/test_docs.py` says when that was forgotten.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import aiflow_core
from aiflow_core.model.algebra import Pattern

from .commands import commands, context_of, groups

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
MARK = "<!-- What follows is written by `nox -s reference`. -->\n"
_WIDTH = 88  # characters of a line of code that the page has room for

# Module and what it is for, in the order of the page.
_CLIENTS = ("aiflow_notification_server.client", "Sending and reading events")
_OPERATORS = (
    ("aiflow_operator_bash.operator", "BashOperator"),
    ("aiflow_operator_python.operator", "PythonOperator"),
    ("aiflow_operator_flink.operator", "FlinkOperator"),
    ("aiflow_operator_spark.operator", "SparkSubmitOperator"),
    ("aiflow_operator_spark.operator", "SparkSqlOperator"),
    ("aiflow_core.specs.operator", "TaskContext"),
)


def pages() -> dict[Path, str]:
    """The pages as they should be."""
    written = {"cli.md": _commands(), "api.md": _api()}
    return {REFERENCE / name: _below_mark(REFERENCE / name, text) for name, text in written.items()}


def _below_mark(page: Path, text: Iterator[str]) -> str:
    above, mark, _ = page.read_text().partition(MARK)
    assert mark, f"{page} has no mark"
    return above + mark + "".join(f"\n{part}\n" for part in text)


# --- the command line --------------------------------------------------------------------------


def _commands() -> Iterator[str]:
    leaves = commands()
    for words, group in groups().items():
        if words == "notification event":
            continue  # the same as `aiflow event`
        inside = [w for w in leaves if w.rpartition(" ")[0] == words]
        if not inside:
            continue
        yield f"## {words}"
        yield _paragraphs(group.help or "")
        for each in inside:
            yield from _command(each, leaves[each])


def _command(words: str, command: click.Command) -> Iterator[str]:
    yield f"### {words}"
    yield _paragraphs(command.help or "")
    context = context_of(words, command)
    yield f"```\n{command.get_usage(context).removeprefix('Usage: ')}\n```"
    rows = [row for p in command.params if (row := _row(p, context))]
    if rows:
        yield "\n".join(["| | |", "|---|---|", *rows])
    examples = "\n".join(getattr(command, "examples", ()))
    yield f"```bash\n{examples}\n```"


def _row(parameter: click.Parameter, context: click.Context) -> str:
    help = _in_cell(getattr(parameter, "help", None) or "")
    if isinstance(parameter, click.Argument):
        return f"| `{parameter.make_metavar(context).replace('|', ', ')}` | {help} |"
    assert isinstance(parameter, click.Option)
    if parameter.hidden:
        return ""
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    value = "" if parameter.is_flag else f" `{parameter.make_metavar(context)}`"
    default = f" Default: `{parameter.default}`." if parameter.show_default else ""
    return f"| {names}{value.replace('|', ', ')} | {help}{default} |"


# --- the Python API ----------------------------------------------------------------------------


def _api() -> Iterator[str]:
    ops = import_module("aiflow_core.ops")
    yield "## aiflow_core.ops"
    yield _paragraphs(inspect.getdoc(ops) or "")
    for name in ops.__all__:
        yield from _function(name, getattr(ops, name))
    yield "## aiflow_core"
    yield _paragraphs(inspect.getdoc(aiflow_core) or "")
    for name in (n for n in aiflow_core.__all__ if not n.startswith("_")):
        found = getattr(aiflow_core, name)
        yield from (_class if inspect.isclass(found) else _function)(name, found)
    yield "## Operators and their context"
    for module, name in _OPERATORS:
        yield from _class(name, getattr(import_module(module), name))
    module, title = _CLIENTS
    yield f"## {title}"
    clients = import_module(module)
    yield f"These are in `{module}`."
    for name in _classes(clients):
        yield from _class(name, getattr(clients, name))


def _classes(module: ModuleType) -> list[str]:
    return [
        name
        for name, found in vars(module).items()
        if inspect.isclass(found)
        and found.__module__ == module.__name__
        and not name.startswith("_")
    ]


def _function(name: str, function: Callable[..., Any]) -> Iterator[str]:
    yield f"### {name}"
    yield f"```python\n{_in_lines(name + _signature(function))}\n```"
    yield _paragraphs(inspect.getdoc(function) or "")


def _class(name: str, found: Any) -> Iterator[str]:
    yield f"### {name}"
    yield f"`{found.__module__}.{found.__qualname__}`"
    yield _paragraphs(inspect.getdoc(found) or "")
    methods = [
        f"| `{method}{_in_cell(_signature(function, bound=True))}` | {_first_paragraph(function)} |"
        for method, function in inspect.getmembers(found, inspect.isfunction)
        if not method.startswith("_") and function.__module__.startswith("aiflow_")
    ]
    if methods:
        yield "\n".join(["| method | |", "|---|---|", *methods])


def _signature(function: Callable[..., Any], bound: bool = False) -> str:
    signature = inspect.signature(function)
    if bound and not isinstance(function, staticmethod):
        parameters = [p for n, p in signature.parameters.items() if n != "self"]
        signature = signature.replace(parameters=parameters)
    text = re.sub(r"<(\w+)\.(\w+): '\w+'>", r"\1.\2", str(signature))
    # An annotation may be a text, for a type that is imported late.
    text = re.sub(r"((?:->|:) )'([^']+)'", r"\1\2", text)
    return _without_modules(text.replace(str(Pattern), "Pattern"))


def _in_lines(signature: str) -> str:
    """One that is wider than the page has a line for each parameter."""
    if len(signature) <= _WIDTH:
        return signature
    definition = ast.parse(f"def {signature}: ...").body[0]
    assert isinstance(definition, ast.FunctionDef)
    arguments = definition.args
    first = [*arguments.posonlyargs, *arguments.args]
    bare = [None] * (len(first) - len(arguments.defaults))
    pairs = list(zip(first, [*bare, *arguments.defaults], strict=True))
    lines = [_parameter(*pair) for pair in pairs]
    if arguments.vararg:
        lines.append(f"*{ast.unparse(arguments.vararg)}")
    elif arguments.kwonlyargs:
        lines.append("*")
    lines += map(_parameter, arguments.kwonlyargs, arguments.kw_defaults)
    if arguments.kwarg:
        lines.append(f"**{ast.unparse(arguments.kwarg)}")
    inside = "".join(f"    {line},\n" for line in lines)
    returns = f" -> {ast.unparse(definition.returns)}" if definition.returns else ""
    return f"{definition.name}(\n{inside}){returns}"


def _parameter(name: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(name) + (f" = {ast.unparse(default)}" if default else "")


def _without_modules(text: str) -> str:
    return re.sub(r"\b(?:[a-z_]\w*\.)+([A-Za-z]\w*)", r"\1", text)


def _first_paragraph(function: Callable[..., Any]) -> str:
    text = (inspect.getdoc(function) or "").partition("\n\n")[0]
    return _in_cell(" ".join(text.split()))


def _in_cell(text: str) -> str:
    """The text as it stands in a cell of a table."""
    return text.replace("|", "\\|")


def _paragraphs(text: str) -> str:
    """Help and docstrings as Markdown: lists of arguments and attributes become lists."""
    lines = []
    for line in inspect.cleandoc(text.replace("\b", "")).splitlines():
        if line in ("Args:", "Attributes:", "Examples:"):
            lines += [line, ""]
        elif found := re.match(r" {4}(\w[\w, ]*): (.*)", line):
            lines.append(f"* `{found[1]}`: {found[2]}")
        else:
            lines.append(re.sub(r"^ {8}", "  ", line))
    return "\n".join(lines)


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text)
