"""R2: a process dies at each crash point, exactly there, under load."""

import ast
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from aiflow_core import crash

from ..servers import kill, until
from .campaign import Report, Trouble, campaign
from .deployment import ROOT

PASSED_ONCE = (
    *("runner.", "run_directory.", "zygote.detach", "lease.take", "log.join", "log.leave"),
    *("executor.spawn", "lease.release", "scheduler.lead", "claim.stop"),
)
"""Points that a process does not come by a second time, or not for long."""

PASSED_AT_THE_END = ("log.leave", "lease.release")
"""Points that a server passes when it is told to stop."""

ELSEWHERE = {
    "claim.give_up.": "with one server there is nobody to give up: see the simulation",
    "claim.inherit.": "no executor is shared here: see the simulation",
    "conditions.": "the load has no user's condition: see test_conditions.py of the scheduler",
    "executor.conclude.": "only what ends between two servers: see the executor's tests",
    "executor.settle.": "the load has no attempt that cannot be started: see the executor's tests",
    "inspection.": "no server looks into plugins: `aiflow plugins doctor` does",
    "job.": "the load has no job in another system: see the suite of job controllers",
    "history.": "nothing of the load is old: see test_retention.py of the scheduler",
    "log.poll.": "the load has no client of 0.4: see the notification server's tests",
    "log.truncate.": "the load lets the log be: see the event store's tests",
    "zygote.spawn.": "the load has no task with isolation 'fresh': see the executor's tests",
}
"""Points that the load does not pass."""

PATIENCE = 40.0


def sources() -> Iterator[Path]:
    """The Python files of the product."""
    for pattern in ("aiflow_core/**/*.py", "plugins/*/*/**/*.py"):
        for file in sorted(ROOT.glob(pattern)):
            if "tests" not in file.parts and "testing" not in file.parts:
                yield file


def named(tree: ast.AST) -> list[str]:
    """The crash points in a piece of source."""
    return [
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == crash.crash_point.__name__
        and isinstance(call.args[0], ast.Constant)
    ]


def all_points() -> list[str]:
    """Every crash point of the product."""
    return sorted({name for file in sources() for name in named(ast.parse(file.read_text()))})


def passed_under_load() -> list[str]:
    """Those that the load passes."""
    return [name for name in all_points() if not name.startswith(tuple(ELSEWHERE))]


def points(seed: int, names: Sequence[str] = (), **settings: Any) -> Report:
    """Let the process that passes there die at each of the points, one after the other; `settings`
    are those of `deployed`."""
    wanted = list(names) or passed_under_load()

    def trouble(doer: Trouble) -> dict[str, Any]:
        for name in wanted:
            _die(doer, name)
        return {"crash points": f"{len(doer.done)} of {len(wanted)}"}

    title = f"{len(wanted)} crash points, {settings.get('kind', 'sqlite')}"
    return campaign(title, seed, trouble, ha=True, **settings)


def _die(doer: Trouble, name: str) -> None:
    deployment = doer.deployment
    (server,) = deployment.of("notification" if name.startswith("log.") else "aiflow")
    number = 1 if name.startswith(PASSED_ONCE) else doer.choices.randint(1, 4)
    deaths = deployment.root / "deaths"
    environment = server.servers.environment
    before = _lines(deaths)
    server.kill()
    environment |= {crash.VARIABLE: f"{name}:{number}", crash.NOTE: str(deaths)}
    server.start()
    for variable in (crash.VARIABLE, crash.NOTE):
        del environment[variable]
    if name.startswith(PASSED_AT_THE_END):
        server.wait_until_ready()
        server.stop()
    try:
        until(lambda: len(_lines(deaths)) > len(before), PATIENCE)
    except AssertionError:
        doer.load.surprise(f"nobody passed {name} for the {number}. time in {PATIENCE} s")
    else:
        died_at = set(_lines(deaths)[len(before) :])
        if died_at != {name}:
            doer.load.surprise(f"instead of at {name}, processes died at {died_at}")
        doer.note(name, number=number)
    # Whoever would die there as well must not go on.
    server.kill()
    kill([process for process in deployment.processes() if _is_to_die(process)])
    deployment.start()


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _is_to_die(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return crash.VARIABLE in process.environ()
    return False
