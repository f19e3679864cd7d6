"""R4: the database server crashes under load, stays away for a while, and comes back."""

import time
from dataclasses import dataclass
from typing import Any

import psutil

from ..servers import until
from .campaign import Report, Trouble, campaign
from .figures import spread
from .history import rows

# What a server may grow by in an outage: each of its threads takes some memory of its own when it
# fails for the first time. What waits for the database is to wait outside.
MOST_GROWTH = 64 * 2**20

WINDOW = 2.0
"""Seconds over which it is looked how fast events are decided on, before and after an outage."""


@dataclass(frozen=True)
class Outage:
    """One of them.

    Attributes:
        caught_up: seconds from the return until the scheduler had caught up with the log.
        growth: bytes that a server grew by in it at most.
        before: events decided on in the seconds before it.
        after: likewise, in as many seconds after the scheduler had gone on.
    """

    caught_up: float
    growth: int
    before: int
    after: int


def databases(kind: str, count: int, seed: int, longest: float = 30.0, servers: int = 1) -> Report:
    """Crash the server of both databases `count` times, each time for up to `longest` seconds."""

    def trouble(doer: Trouble) -> dict[str, Any]:
        outages = [_outage(doer, longest) for _ in range(count)]
        pace = sum(each.after for each in outages) / sum(each.before for each in outages)
        return {
            "seconds from the return until all is caught up": spread(
                [each.caught_up for each in outages]
            ),
            "MiB that a server grew by in an outage": spread(
                [each.growth / 2**20 for each in outages]
            ),
            "events decided on after an outage, of as many before": f"{100 * pace:.0f} %",
        }

    return campaign(f"{count} crashes of {kind}", seed, trouble, kind=kind, servers=servers)


def _outage(doer: Trouble, longest: float) -> Outage:
    deployment, server = doer.deployment, doer.deployment.database
    assert server is not None
    time.sleep(doer.choices.uniform(0, 2))
    away = doer.choices.uniform(0, longest)
    normally = _decided_in_a_window(doer)
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
        lambda: _decided(doer) > head,
        seconds=60,
        facts=lambda: f"the log was at {head}",
    )
    caught_up = time.monotonic() - returned
    return Outage(caught_up, growth, normally, _decided_in_a_window(doer))


def _decided_in_a_window(doer: Trouble) -> int:
    first = _decided(doer)
    time.sleep(WINDOW)
    return _decided(doer) - first


def _decided(doer: Trouble) -> int:
    """The offset up to which events were decided on."""
    (consumer,) = rows(doer.deployment.addresses.metadata_database, "consumer")
    last: int = consumer["last_seq"]
    return last


def _memory(doer: Trouble) -> dict[str, int]:
    return {
        name: psutil.Process(server.pid).memory_info().rss
        for name, server in doer.deployment.servers.items()
    }
