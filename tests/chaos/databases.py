"""R4: the database server crashes under load, stays away for a while, and comes back."""

import time
from typing import Any

import psutil

from ..servers import until
from .campaign import Report, Trouble, campaign
from .figures import spread
from .history import rows

# What a server may grow by in an outage: each of its threads takes some memory of its own when it
# fails for the first time. What waits for the database is to wait outside.
MOST_GROWTH = 64 * 2**20


def databases(kind: str, count: int, seed: int, longest: float = 30.0, servers: int = 1) -> Report:
    """Crash the server of both databases `count` times, each time for up to `longest` seconds."""

    def trouble(doer: Trouble) -> dict[str, Any]:
        outages = [_outage(doer, longest) for _ in range(count)]
        growths = [growth / 2**20 for _, growth in outages]
        return {
            "seconds from the return until all is caught up": spread([s for s, _ in outages]),
            "MiB that a server grew by in an outage": spread(growths),
        }

    return campaign(f"{count} crashes of {kind}", seed, trouble, kind=kind, servers=servers)


def _outage(doer: Trouble, longest: float) -> tuple[float, int]:
    """One of them: how many seconds after it the scheduler had caught up with the log, and by how
    many bytes a server grew in it at most."""
    deployment, server = doer.deployment, doer.deployment.database
    assert server is not None
    time.sleep(doer.choices.uniform(0, 2))
    away = doer.choices.uniform(0, longest)
    before = _memory(doer)
    server.crash()
    doer.note("crash", away=round(away, 3))
    time.sleep(away)
    doer.expect_servers()
    after = _memory(doer)
    growth = max(after[name] - before[name] for name in before)
    if growth > MOST_GROWTH:
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


def _memory(doer: Trouble) -> dict[str, int]:
    return {
        name: psutil.Process(server.pid).memory_info().rss
        for name, server in doer.deployment.servers.items()
    }
