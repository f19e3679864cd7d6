"""R9: a process stands still for twice the lease, and then goes on as if nothing had happened."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import psutil

from ..servers import processes_of
from .campaign import Report, Trouble, campaign
from .history import Pause

TARGETS = {"leader": 4, "standby": 1, "machine": 3, "notification": 2}

# What a server says when something that it still wanted to write was refused.
REFUSALS = ("A write of epoch", "This server was given up for lost")

LEASE = 2.0


def pauses(count: int, seed: int, **settings: Any) -> Report:
    """Stop something `count` times; `settings` are those of `deployed`."""

    def trouble(doer: Trouble) -> dict[str, Any]:
        for _ in range(count):
            time.sleep(doer.choices.uniform(0, LEASE))
            _pause(doer)
        refused = doer.deployment.said(*REFUSALS)
        if len(doer.deployment.members) > 1 and doer.done["leader"] and not refused:
            doer.load.surprise("no stale write was ever refused, so nothing was shown")
        return {"stale writes that were refused": refused}

    return campaign(f"{count} pauses", seed, trouble, lease=LEASE, **settings)


def _pause(doer: Trouble) -> None:
    (target,) = doer.choices.choices(list(TARGETS), list(TARGETS.values()))
    stopped = _processes(doer, target)
    seconds = 2 * LEASE + doer.choices.uniform(0, 1)
    began = time.monotonic_ns()
    try:
        for process in stopped:
            _if_there(process.suspend)
        time.sleep(seconds)
    finally:
        for process in stopped:
            _if_there(process.resume)
    pause = Pause([process.pid for process in stopped], began, time.monotonic_ns())
    doer.note(target, seconds=round(seconds, 3), pause=asdict(pause))
    doer.expect_servers()


def _processes(doer: Trouble, target: str) -> list[psutil.Process]:
    """A server with what belongs to it, or all of one machine: servers, zygotes and tasks."""
    deployment = doer.deployment
    if target == "machine":
        return processes_of(doer.choices.choice(deployment.members).home)
    if target == "notification":
        return doer.choices.choice(deployment.of("notification")).tree()
    leader = deployment.leader()
    servers = [s for s in deployment.of("aiflow") if (s.name == leader) == (target == "leader")]
    return doer.choices.choice(servers).tree() if servers else []


def _if_there(send: Callable[[], None]) -> None:
    with suppress(psutil.NoSuchProcess):  # a task that has ended meanwhile
        send()
