"""R8: any line between two parts is cut, slowed down or half lost for a while, and heals."""

import time
from collections.abc import Callable
from typing import Any

from .campaign import Report, Trouble, campaign
from .machines import missing
from .pauses import REFUSALS
from .proxy import Fault

LEASE = 2.0


def partitions(count: int, seed: int, longest: float = 60.0, **settings: Any) -> Report:
    """Disturb lines, or unplug a machine, `count` times, each for 1 to `longest` seconds.

    Machines are network namespaces, where this one allows them. `settings` are those of `deployed`.
    """

    def trouble(doer: Trouble) -> dict[str, Any]:
        for _ in range(count):
            time.sleep(doer.choices.uniform(0, 2))
            heal = _one_of(doer)(doer)
            try:
                time.sleep(doer.choices.uniform(1, longest))
            finally:
                heal()
            doer.expect_servers()
        return {
            "machines of their own": missing() or len(doer.deployment.wiring.machines),
            "epochs of leaders": len(doer.deployment.epochs()),
            "stale writes that were refused": doer.deployment.said(*REFUSALS),
        }

    return campaign(f"{count} partitions", seed, trouble, lined=True, lease=LEASE, **settings)


Heal = Callable[[], None]


def _one_of(doer: Trouble) -> Callable[[Trouble], Heal]:
    if doer.deployment.wiring.machines and doer.choices.random() < 0.25:
        return _unplug
    return _disturb


def _unplug(doer: Trouble) -> Heal:
    """Pull out the cable of a machine, at one of its ends."""
    machine = doer.choices.choice(doer.deployment.wiring.machines)
    at_its_own_end = doer.choices.random() < 0.5
    machine.unplug(at_its_own_end)
    doer.note("unplugged", machine=machine.name, at_its_own_end=at_its_own_end)
    return machine.plug


def _disturb(doer: Trouble) -> Heal:
    """Give some of the lines a fault."""
    network = doer.deployment.wiring.network
    assert network is not None
    fault = doer.choices.choice(list(Fault))
    lines = doer.choices.sample(sorted(network.lines), doer.choices.randint(1, 3))
    for line in lines:
        network.trouble(line, fault)
    doer.note(fault, lines=lines)

    def heal() -> None:
        for line in lines:
            network.trouble(line, None)

    return heal
