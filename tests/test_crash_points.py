"""Crash points: that they kill, and that every place that needs one has one."""

import ast
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from aiflow_core import crash

from .chaos.points import ELSEWHERE, ROOT, all_points, named, sources

PASS = """
from aiflow_core.crash import crash_point
for name in ("one", "two", "one"):
    crash_point(name)
    print(name, flush=True)
"""


def passed(where: str, note: str = "") -> tuple[list[str], int]:
    """What a process prints that is to crash there, and its return code."""
    done = subprocess.run(
        [sys.executable, "-c", PASS],
        env={crash.VARIABLE: where, crash.NOTE: note},
        capture_output=True,
        text=True,
    )
    return done.stdout.split(), done.returncode


def test_a_process_dies_at_its_crash_point_and_nowhere_else() -> None:
    assert passed("two") == (["one"], -signal.SIGKILL)
    assert passed("one:2") == (["one", "two"], -signal.SIGKILL)
    assert passed("three") == (["one", "two", "one"], 0)
    assert passed("") == (["one", "two", "one"], 0)


def test_a_simulation_is_told_of_every_crash_point_that_is_passed() -> None:
    heard: list[str] = []

    with crash.passing(heard.append):
        crash.crash_point("one")
    crash.crash_point("two")

    assert heard == ["one"]


def test_what_has_died_is_noted(tmp_path: Path) -> None:
    note = tmp_path / "note"

    passed("one", str(note))
    passed("two", str(note))
    passed("three", str(note))

    assert note.read_text().splitlines() == ["one", "two"]


# Where a commit is begun, a process started, or something published by its name.
SITES = {
    *("begin", "transaction", "fork", "posix_spawn", "Popen", "create_subprocess_exec"),
    *("os.rename", "os.replace", "subprocess.run"),
}

# Those that need no crash point of their own, by file and function.
WITHOUT = {
    ("aiflow_core/daemon.py", "start_detached"): "the command line starts a server, and tells how",
    ("aiflow_core/database.py", "migrate"): "revisions are run by hand, and again after a crash",
    ("aiflow_core/database.py", "downgrade"): "likewise",
    ("aiflow_core/programs.py", "__init__"): "around it, in `start` of the operators, see `runner`",
    ("aiflow_event_store_sql/event_store.py", "transaction"): "the writer's, see there",
    ("aiflow_event_store_sql/event_store.py", "_insert"): "the writer's, see there",
    ("aiflow_event_store_sql/writer.py", "_begin_once"): "committed in `transaction`, see there",
    ("aiflow_executor_local/run_directory.py", "lend"): "says again what the next renewal says",
    (
        "aiflow_operator_bash/operator.py",
        "start",
    ): "in the task's process, after runner.code.before",
    ("aiflow_operator_flink/controller.py", "_asked"): "around it, in `JobOperator`: job.*",
    ("aiflow_scheduler_event/claims.py", "_hand_over"): "around it, in `give_up` and `inherit`",
    ("aiflow_scheduler_event/claims.py", "_take"): "around it, in `claim` and `claim_stop`",
    ("aiflow_scheduler_event/loop.py", "_session"): "its own `begin`, which commits in the store",
    ("aiflow_scheduler_event/store.py", "_writing"): "committed in `commit`, see there",
}


def test_wherever_something_becomes_durable_or_begins_there_is_a_crash_point() -> None:
    bare = {place for place, points in sites() if not points}

    assert bare - WITHOUT.keys() == set(), "give them crash points, or say why they need none"
    assert WITHOUT.keys() - bare == set(), "these have some, or are no more"


def test_a_crash_point_is_named_once_and_before_and_after_go_together() -> None:
    counts = Counter(name for file in sources() for name in named(ast.parse(file.read_text())))
    moments = {name.rpartition(".")[2] for name in counts}
    pairs = [name.removesuffix(".before") for name in counts if name.endswith(".before")]

    assert [name for name, count in counts.items() if count > 1] == []
    assert moments <= {"before", "within", "after"}
    # The answer itself is the last that can be seen of these.
    answers = {"conditions.answer", "log.append.ack", "log.poll.answer"}
    assert {pair for pair in pairs if f"{pair}.after" not in counts} == answers
    assert len(counts) >= 40


def test_every_crash_point_that_the_load_does_not_pass_is_one() -> None:
    for prefix in ELSEWHERE:
        assert any(name.startswith(prefix) for name in all_points()), prefix


def sites() -> Iterator[tuple[tuple[str, str], list[str]]]:
    """File and function of each place that a crash may hit, with the crash points around it."""
    for file in sources():
        parts = file.relative_to(ROOT).parts
        name = "/".join(parts[2:] if parts[0] == "plugins" else parts)
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and is_site(function):
                yield (name, function.name), named(function)


def is_site(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    called = [
        ast.unparse(call.func)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    ]
    return any(name in SITES or name.rpartition(".")[2] in SITES for name in called)
