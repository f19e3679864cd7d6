"""R1: `kill -9` of anything, at any moment, again and again."""

import time
from typing import Any

from ..servers import kill
from .campaign import Report, Trouble, campaign

# What is killed, and how often compared with the others.
VICTIMS = {
    "notification": 4,
    "aiflow": 4,
    "both servers": 1,
    "zygote": 3,
    "task": 6,
    "everything": 1,
}
LONGEST_PAUSE = 2.0


def kills(count: int, seed: int, **settings: Any) -> Report:
    """Kill `count` times, each after up to two seconds, and start again what does not by itself."""

    def trouble(doer: Trouble) -> dict[str, Any]:
        while sum(doer.done.values()) < count:
            time.sleep(doer.choices.uniform(0, LONGEST_PAUSE))
            _kill_one(doer)
        return {}

    return campaign(f"{count} kills", seed, trouble, **settings)


def _kill_one(doer: Trouble) -> None:
    deployment = doer.deployment
    doer.expect_servers()
    (victim,) = doer.choices.choices(list(VICTIMS), list(VICTIMS.values()))
    # Now and then the next one comes while servers are still starting.
    is_patient = doer.choices.random() < 0.75
    match victim:
        case "everything":
            deployment.kill_everything()
        case "both servers":
            for server in deployment.servers.values():
                server.kill()
        case "zygote" | "task":
            found = deployment.zygotes() if victim == "zygote" else deployment.tasks()
            if not found:
                return
            kill([doer.choices.choice(found)])
        case _:
            deployment.servers[victim].kill()
    doer.note(victim)
    deployment.start(wait=is_patient)
