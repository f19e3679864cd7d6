"""Looks into plugins without being hurt by them: in a child process, with a time limit.

A plugin may raise when it is imported, and it may as well never return, leave by `os._exit`, or
crash the interpreter. The child imports one after the other and says of each what it found; when
it dies or is silent for too long, that is the fault of the one whose turn it was, and another child
goes on with the next.
"""

import contextlib
import inspect
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

import click
import msgspec

from aiflow_core import hookspecs
from aiflow_core.catalog import (
    COMMANDS_GROUP,
    HOOKS_GROUP,
    Plugin,
    State,
    contract_of,
    kind_of,
    plugins,
)
from aiflow_core.crash import crash_point
from aiflow_core.errors import AIFlowError, PluginError
from aiflow_core.plugin_settings import Setting, check_settings, schema_of, settings_of
from aiflow_core.plugins import driver_class, load

TIME_LIMIT = 30.0
"""Seconds that one plugin may take to be imported."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the child is to look at: a plugin by name, or a class by its dotted path.

    Attributes:
        origin: which one, where several have the name; empty: the one that would be used.
        settings: those with which it is to be made; None: they are not looked at.
    """

    group: str
    name: str
    origin: str = ""
    settings: dict[str, Any] | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about a plugin.

    Attributes:
        problem: why it cannot be used; empty when it can, and then the rest is said.
        summary: the first sentence of its docstring.
        capabilities: what it offers beside its contract; of an observer, what it listens to.
        settings: what its constructor takes.
        schema: the same as JSON Schema.
    """

    problem: str = ""
    summary: str = ""
    capabilities: list[str] = []
    settings: list[Setting] = []
    schema: dict[str, Any] = {}


def look_at(wanted: Sequence[Wanted], time_limit: float = TIME_LIMIT) -> Iterator[Finding]:
    """What is found about each, in order."""
    left = list(wanted)
    while left:
        findings = _look_in_child(left, time_limit)
        for finding in findings:
            del left[0]
            yield finding


def examined(
    found: Sequence[Plugin], time_limit: float = TIME_LIMIT
) -> list[tuple[Plugin, Finding]]:
    """The plugins, in the state that they have when they are loaded, and what is found about each.
    Those that are not to be used are not loaded."""
    usable = [plugin for plugin in found if plugin.state is State.LAZY]
    wanted = [Wanted(group=p.group, name=p.name, origin=p.origin) for p in usable]
    findings = dict(zip(map(id, usable), look_at(wanted, time_limit), strict=True))
    return [_judged(p, findings.get(id(p), Finding(problem=p.problem))) for p in found]


def _judged(plugin: Plugin, finding: Finding) -> tuple[Plugin, Finding]:
    if plugin.state is State.LAZY:
        state = State.BROKEN if finding.problem else State.LOADED
        plugin = replace(plugin, state=state, problem=finding.problem)
    return plugin, finding


def _look_in_child(wanted: Sequence[Wanted], time_limit: float) -> Iterator[Finding]:
    """Findings until the child ends; the last of them is that it did, unless it has seen all."""
    answers, theirs = os.pipe()
    with tempfile.TemporaryFile() as said, open(answers, "rb", buffering=0) as pipe:
        crash_point("inspection.spawn.before")
        # -P: the child imports what this process does, and nothing of the working directory.
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(theirs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=said,
            pass_fds=[theirs],
            start_new_session=True,
        )
        crash_point("inspection.spawn.after")
        os.close(theirs)
        try:
            assert child.stdin is not None
            with child.stdin, contextlib.suppress(BrokenPipeError):
                child.stdin.write(msgspec.json.encode(list(wanted)))
            lines = _Lines(pipe)
            for _ in wanted:
                line = lines.next(time_limit)
                if not line:
                    yield Finding(problem=_fault(child, line, time_limit, said))
                    return
                yield msgspec.json.decode(line, type=Finding)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


class _Lines:
    """Lines of a pipe, waited for no longer than is said."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._data = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(pipe, selectors.EVENT_READ)

    def next(self, seconds: float) -> bytes | None:
        """The next line; empty at the end, None when nothing comes for so long."""
        while b"\n" not in self._data:
            if not self._selector.select(seconds):
                return None
            read = self._pipe.read(65536)
            if not read:
                return b""
            self._data += read
        line, _, self._data = self._data.partition(b"\n")
        return line


def _fault(
    child: "subprocess.Popen[bytes]", line: bytes | None, time_limit: float, said: IO[bytes]
) -> str:
    """Why no finding came: the child is silent, or has closed its end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        # Who closed the pipe and goes on all the same is as good as one who is silent.
        code = child.wait(0 if line is None else time_limit)
        return _last_words(code, said)
    return f"it does not come back from its import in {time_limit:g} s"


def _last_words(code: int, said: IO[bytes]) -> str:
    how = f"is killed by {signal.Signals(-code).name}" if code < 0 else f"exits with {code}"
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    last = f", after saying: {lines[-1][:200]}" if lines else ""
    return f"the process that imports it {how}{last}"


# --- in the child ------------------------------------------------------------------------------


def look(wanted: Wanted) -> Finding:
    """Import the plugin here and say what there is to say."""
    try:
        found = _found(wanted)
        if wanted.settings and not isinstance(found, type):
            raise PluginError(f"The {kind_of(wanted.group)} {wanted.name!r} has no settings.")
        if wanted.settings is not None and isinstance(found, type):
            check_settings(f"{kind_of(wanted.group)} {wanted.name!r}", found, wanted.settings)
        return _described(wanted.group, found)
    except AIFlowError as error:
        return Finding(problem=error.what.removesuffix("."))
    except Exception as error:  # whatever a stranger's class does while it is looked at
        return Finding(problem=f"{type(error).__name__}: {error}")


def _found(wanted: Wanted) -> Any:
    if not wanted.origin:
        return driver_class(wanted.group, wanted.name)
    (plugin,) = (
        plugin
        for plugin in plugins(wanted.group)
        if (plugin.name, plugin.origin) == (wanted.name, wanted.origin)
    )
    return load(plugin)


def _described(group: str, found: Any) -> Finding:
    summary = (inspect.getdoc(found) or "").partition("\n")[0]
    if group == COMMANDS_GROUP:
        if not isinstance(found, click.Command):
            raise PluginError(f"It is no command but {type(found).__name__}.")
        names = sorted(found.commands) if isinstance(found, click.Group) else []
        return Finding(summary=found.get_short_help_str(), capabilities=names)
    is_class = isinstance(found, type)
    return Finding(
        summary=summary,
        capabilities=_moments(found) if group == HOOKS_GROUP else _capabilities(group, found),
        settings=settings_of(found) if is_class else [],
        schema=schema_of(found) if is_class else {},
    )


def _moments(observer: Any) -> list[str]:
    import pluggy

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    heard = [
        name
        for name, _ in inspect.getmembers(observer, callable)
        if manager.parse_hookimpl_opts(observer, name) is not None
    ]
    for name in heard:
        if not hasattr(hookspecs, name):
            raise PluginError(f"It listens to {name!r}, which is never told.")
    return heard


def _capabilities(group: str, cls: type) -> list[str]:
    """The further contracts of `specs` that the class fulfils, and the flags of its own contract
    that it sets."""
    contract = contract_of(group)
    further = [
        base.__name__
        for base in cls.__mro__
        if base.__module__.startswith("aiflow_core.specs.") and not issubclass(contract, base)
    ]
    flags = [
        name
        for name, value in inspect.getmembers(cls)
        if value is True and not name.startswith("_") and hasattr(contract, name)
    ]
    return [*further, *flags]


def main() -> None:
    """The child: what is wanted comes on stdin, the findings go to the descriptor."""
    answers = int(sys.argv[1])
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=list[Wanted])
    for one in wanted:
        os.write(answers, msgspec.json.encode(look(one)) + b"\n")
    # Threads and exit functions of strangers need not end.
    os._exit(0)


if __name__ == "__main__":
    main()
