"""Numbers as they are told."""

from collections import Counter
from collections.abc import Sequence


def counts(counter: Counter[str]) -> str:
    """How often each."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items())) or "none"


def spread(values: Sequence[float]) -> str:
    """The middle, the nearly worst and the worst of some."""
    if not values:
        return "none"
    return (
        f"p50 {percentile(values, 50):.2f}, p99 {percentile(values, 99):.2f}, "
        f"max {max(values):.2f} (N = {len(values)})"
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that so many percent do not exceed."""
    in_order = sorted(values)
    return in_order[max(0, -(-len(in_order) * percent // 100) - 1)]
