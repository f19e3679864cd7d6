"""`python -m tests.simulation --seeds 1000`: plays many seeds, and tells what they found."""

import argparse
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from .oracle import Violation
from .simulate import desk, simulate

_AT_ONCE = 50


def play(seeds: range, with_patterns: bool) -> tuple[Counter[str], list[tuple[int, str]]]:
    """Totals over the seeds, and which of them failed, and how."""
    totals: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    with desk() as one:
        for seed in seeds:
            try:
                outcome = simulate(seed, one, with_patterns=with_patterns)
            except Violation as violation:
                failures.append((seed, str(violation)))
            except Exception:
                failures.append((seed, traceback.format_exc()))
            else:
                totals.update(
                    events=outcome.events,
                    attempts=outcome.processes,
                    crashes=outcome.crashes,
                    refused_writes=outcome.lost_writes,
                    milliseconds=round(outcome.milliseconds),
                )
            totals["seeds"] += 1
    return totals, failures


def main() -> int:
    """The number of seeds that failed, at most 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds to play")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--history", action="store_true", help="show what happens in each seed")
    parser.add_argument("--patterns", action="store_true", help="with rules on several events")
    asked = parser.parse_args()
    last = asked.first + asked.seeds
    if asked.history:
        with desk() as one:
            for seed in range(asked.first, last):
                try:
                    simulate(seed, one, with_patterns=asked.patterns)
                finally:
                    print("\n".join(one.world.history))
        return 0
    began = time.monotonic()
    parts = [range(n, min(n + _AT_ONCE, last)) for n in range(asked.first, last, _AT_ONCE)]
    totals: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    with ProcessPoolExecutor(asked.processes) as pool:
        for found, failed in pool.map(play, parts, repeat(asked.patterns)):
            totals.update(found)
            failures += failed
            for seed, why in failed:
                print(f"seed {seed}: {why}", flush=True)
    took = time.monotonic() - began
    print(f"{totals['seeds']} seeds, {len(failures)} violations")
    for name in ("events", "attempts", "crashes", "refused_writes"):
        print(f"{name.replace('_', ' ')}: {totals[name]}")
    virtual = totals["milliseconds"] / 1000
    print(f"virtual time: {virtual:.0f} s in {took:.0f} s, {virtual / took:.0f} x real time")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
