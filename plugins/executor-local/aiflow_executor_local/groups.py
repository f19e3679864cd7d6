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


def _has_living(group: int) -> bool:
    import psutil  # late: most groups are gone when their leader is, and zygotes start fast

    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return False
