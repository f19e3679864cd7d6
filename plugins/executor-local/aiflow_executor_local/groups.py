"""Process groups: signalled, and verified gone."""

import ctypes
import os
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36


def inherit_orphans() -> None:
    """Let this process be the parent of whatever its descendants leave behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def is_childless() -> bool:
    """Whether no child process is left; those that are dead are waited for. With
    `inherit_orphans` that holds for all descendants."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return True
    return False


def send(group: int, number: int) -> bool:
    """Signal every process of the group; False when there is none."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def kill(group: int) -> bool:
    """Kill what is left of the group; False when nothing is.

    What is dead but not yet waited for counts as nothing: it may stay so for ever, where the first
    process of a container does not wait for strangers.
    """
    return send(group, signal.SIGKILL) and _has_living(group)


def kill_orphans(group: int) -> bool:
    """Kill what is left of a group whose leader is dead; False when nothing is.

    While such a group has members its number is not given away. So a leader that lives is another
    process, to which the number was given later.
    """
    return send(group, 0) and not _lives(group) and kill(group)


def _has_living(group: int) -> bool:
    import psutil  # late: most groups are gone when their leader is, and zygotes start fast

    return any(_group_of(pid) == group and _lives(pid) for pid in psutil.pids())


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _lives(pid: int) -> bool:
    import psutil

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
