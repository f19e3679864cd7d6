"""R4: the database server crashes under load, stays away for a while, and comes back."""

import time
from typing import Any

import psutil

from ..servers import until
from .campaign import Report, Trouble, campaign
from .figures import spread
from .history import rows

# What the memory of a server may grow by in an outage, once it has got used to it: what waits for
# the database is to wait outside.
MOST_GROWTH = 8 * 1024 * 1024
GETTING_USED = 2.0


def databases(kind: str, count: int, seed: int, longest: float = 30.0) -> Report:
    """Crash the server of both databases `count` times, each time for up to `longest` seconds."""

    def trouble(doer: Trouble) -> dict[str, Any]:
        outages = [_outage(doer, longest) for _ in range(count)]
        growths = [growth / 2**20 for _, growth in outages if growth is not None]
        return {
            "seconds from the return until all is caught up": spread([s for s, _ in outages]),
            "MiB that a server grew by in an outage": spread(growths),
        }

    return campaign(f"{count} crashes of {kind}", seed, trouble, kind=kind)


def _outage(doer: Trouble, longest: float) -> tuple[float, int | None]:
    """One of them: how many seconds after it the scheduler had caught up with the log, and by how
    many bytes a server grew in it, when it was long enough to tell."""
    deployment, server = doer.deployment, doer.deployment.database
    assert server is not None
    time.sleep(doer.choices.uniform(0, 2))
    away = doer.choices.uniform(0, longest)
    server.crash()
    doer.note("crash", away=round(away, 3))
    growth = _sleep_and_measure(doer, away)
    doer.expect_servers()
    if growth is not None and growth > MOST_GROWTH:
        doer.load.surprise(f"a server grew by {growth} bytes in an outage of {away:.1f} s")
    server.recover()
    returned = time.monotonic()
    head = max(row["seq"] for row in rows(deployment.addresses.log_database, "log_head"))
    until(
        # Beyond it: what was decided before the crash does not count.
        lambda: rows(deployment.addresses.metadata_database, "consumer")[0]["last_seq"] > head,
        seconds=60,
        facts=lambda: f"the log was at {head}",
    )
    return time.monotonic() - returned, growth


def _sleep_and_measure(doer: Trouble, seconds: float) -> int | None:
    if seconds < 2 * GETTING_USED:
        time.sleep(seconds)
        return None
    time.sleep(GETTING_USED)
    before = _memory(doer)
    time.sleep(seconds - GETTING_USED)
    after = _memory(doer)
    return max(after[name] - before[name] for name in before)


def _memory(doer: Trouble) -> dict[str, int]:
    return {
        name: psutil.Process(server.pid).memory_info().rss
        for name, server in doer.deployment.servers.items()
    }
