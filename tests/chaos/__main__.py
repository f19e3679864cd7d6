"""The command line: `python -m tests.chaos WHAT [options]`."""

import argparse
import logging
import os
import random
import signal
import sys
from typing import NoReturn

from .campaign import Report
from .kills import kills


def main() -> None:
    signal.signal(signal.SIGTERM, _end)
    # What clients and gRPC say of servers that are away is what was to be expected.
    logging.disable(logging.WARNING)
    os.environ["GRPC_VERBOSITY"] = "NONE"
    chosen = _arguments()
    seed = random.randrange(2**32) if chosen.seed is None else chosen.seed
    print(f"seed {seed}", flush=True)
    report: Report = kills(chosen.count, seed)
    print(report.text())
    sys.exit(bool(report.violations))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int)
    what = parser.add_subparsers(dest="what", required=True)
    for name in ("kills",):
        one = what.add_parser(name)
        one.add_argument("--count", type=int, default=60)
    return parser.parse_args()


def _end(signum: int, frame: object) -> NoReturn:
    sys.exit(128 + signum)


if __name__ == "__main__":
    main()
