"""Process groups: signalled, and verified gone."""

import os
import signal


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
