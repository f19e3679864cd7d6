"""The command line: `python -m tests.chaos WHAT [options]`."""

import argparse
import logging
import random
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

from .campaign import Report
from .databases import databases
from .deployment import KINDS
from .kills import kills
from .partitions import partitions
from .pauses import pauses
from .points import points
from .recovery import fail_over, recovery
from .soak import soak


def main() -> None:
    signal.signal(signal.SIGTERM, _end)
    # What clients say of servers that are away is what was to be expected.
    logging.disable(logging.WARNING)
    chosen = _arguments()
    print(f"seed {chosen.seed}", flush=True)
    found = False
    for report in _reports(chosen):
        print(report.text(), flush=True)
        found = found or bool(report.violations)
    sys.exit(found)


def _reports(chosen: argparse.Namespace) -> Iterator[Report]:
    seed = chosen.seed
    match chosen.what:
        case "all":
            yield kills(60, seed)
            for kind in ("sqlite", *KINDS):
                yield points(seed, kind=kind)
            for kind in KINDS:
                yield kills(60, seed, servers=2, kind=kind)
                yield databases(kind, 5, seed, longest=10.0)
                yield pauses(10, seed, servers=2, kind=kind)
                yield partitions(5, seed, longest=10.0, servers=2, kind=kind)
            yield recovery(20, 100_000)
            yield fail_over(20, "postgresql")
            yield soak(100_000, 1000.0, 100)
        case "kills":
            yield kills(chosen.count, seed, servers=chosen.servers, kind=_kind(chosen))
        case "points":
            yield points(seed, chosen.name, kind=chosen.kind)
        case "pauses":
            yield pauses(chosen.count, seed, servers=chosen.servers, kind=_kind(chosen))
        case "partitions":
            yield partitions(
                chosen.count,
                seed,
                chosen.longest,
                servers=chosen.servers,
                kind=_kind(chosen),
            )
        case "recovery":
            yield recovery(chosen.restarts, chosen.executions)
            yield fail_over(chosen.restarts, chosen.kind)
        case "soak":
            yield soak(chosen.events, chosen.rate, chosen.every)
        case "databases":
            for kind in chosen.kind or KINDS:
                yield databases(kind, chosen.count, seed, chosen.longest, chosen.servers)


def _arguments() -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        *("--seed",), type=int, default=random.randrange(2**32), help="of all random choices"
    )
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")

    def command(name: str, text: str, count: int) -> argparse.ArgumentParser:
        one = commands.add_parser(name, parents=[shared], help=text)
        one.add_argument("--count", type=int, default=count, help="how often")
        return one

    commands.add_parser("all", parents=[shared], help="some of each of the following")

    def several(one: argparse.ArgumentParser, servers: int) -> None:
        one.add_argument("--servers", type=int, default=servers, help="of each kind")
        one.add_argument("--kind", choices=("sqlite", *KINDS), help="of database")

    one = command("kills", "kill -9 of anything, at any moment", 60)
    several(one, 1)
    one = commands.add_parser("points", parents=[shared], help="a crash at each crash point")
    one.add_argument("--kind", choices=("sqlite", *KINDS), default="sqlite", help="of database")
    one.add_argument("name", nargs="*", help="of a point; without any, all")
    one = command("pauses", "SIGSTOP for twice the lease", 10)
    several(one, 2)
    one = command("partitions", "lines cut, slowed down or half lost", 5)
    several(one, 2)
    one.add_argument("--longest", type=float, default=60.0, help="seconds that one lasts")
    one = command("databases", "crashes of the database server", 5)
    one.add_argument("--kind", choices=KINDS, action="append")
    one.add_argument("--servers", type=int, default=1, help="of each kind")
    one.add_argument("--longest", type=float, default=30.0, help="seconds that it stays away")
    one = commands.add_parser("recovery", parents=[shared], help="seconds until all goes on")
    one.add_argument("--restarts", type=int, default=20)
    one.add_argument("--kind", choices=KINDS, default="postgresql", help="for two servers")
    one.add_argument("--executions", type=int, default=100_000, help="that are open")
    one = commands.add_parser("soak", parents=[shared], help="many events, and what grows")
    one.add_argument("--events", type=int, default=100_000)
    one.add_argument("--rate", type=float, default=1000.0, help="in a second")
    one.add_argument("--every", type=int, default=100, help="event that starts an execution")
    return parser.parse_args()


def _kind(chosen: argparse.Namespace) -> str:
    """Several servers need a database that all of them reach."""
    return str(chosen.kind or ("sqlite" if chosen.servers == 1 else "postgresql"))


def _end(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
