"""Put on `PYTHONPATH`, this is imported by every Python process as it starts.

In a server it watches for what a server never does: unpickling, executing code that was not
installed, starting programs other than its own helpers. Each occurrence becomes a line of the file
that `AIFLOW_AUDIT_LOG` names. `aiflow_core.testing.audit` reads it when the tests are over.
"""

import itertools
import os
import sys


def is_server(argv: list[str]) -> bool:
    """Whether this command line runs a server: `... server start ...`."""
    return ("server", "start") in itertools.pairwise(argv)


def watch(log: str) -> None:
    """Write every violation from now on to the file `log`."""
    # What is importable when the server starts is installed; all else is somebody's file.
    installed = tuple({os.path.realpath(p) + os.sep for p in (*sys.path, sys.prefix) if p})

    def violation(event: str, arguments: tuple[object, ...]) -> str:
        match event, arguments:
            case ("pickle.find_class", (module, name)):
                return f"unpickles {module}.{name}"
            case ("exec", (code,)):
                file = getattr(code, "co_filename", "")
                if os.path.isabs(file) and not os.path.realpath(file).startswith(installed):
                    return f"executes {file}"
            case ("subprocess.Popen", (_, argv, *_)) if not _is_helper(argv):
                return f"starts {argv}"
            case ("os.system" | "os.exec" | "os.posix_spawn" | "os.spawn", _):
                return f"{event} {arguments}"
        return ""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in _WATCHED and (what := violation(event, arguments)):
            line = f"{' '.join(sys.orig_argv)}: {what}\n"
            descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(descriptor, line.encode())
            os.close(descriptor)

    sys.addaudithook(hook)


_WATCHED = frozenset(
    {
        "pickle.find_class",
        "exec",
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
    }
)


def _is_helper(argv: object) -> bool:
    """`python ... -m aiflow_...`: a zygote or a condition host."""
    words = [str(word) for word in argv] if isinstance(argv, list | tuple) else []
    # croniter asks the standard library for the word size, and that asks file(1) about Python.
    if words == ["file", "-b", os.path.realpath(sys.executable)]:
        return True
    return "-m" in words and words[words.index("-m") + 1].startswith("aiflow_")


if "AIFLOW_AUDIT_LOG" in os.environ and is_server(sys.orig_argv):
    watch(os.environ["AIFLOW_AUDIT_LOG"])
