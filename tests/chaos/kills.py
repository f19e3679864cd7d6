"""R1: `kill -9` of anything, at any moment, again and again."""

import time
from typing import Any

from ..servers import ServerProcess, kill
from .campaign import Report, Trouble, campaign

# What is killed, and how often compared with the others.
VICTIMS = {
    "notification": 4,
    "aiflow": 4,
    "all servers": 1,
    "zygote": 3,
    "task": 6,
    "everything": 1,
}
LONGEST_PAUSE = 2.0


def kills(count: int, seed: int, **settings: Any) -> Report:
    """Kill `count` times, each after up to two seconds, and start again what does not by itself.

    `settings` are those of `deployed`. With several servers, one that was killed may stay away
    longer than its lease.
    """

    def trouble(doer: Trouble) -> dict[str, Any]:
        killer = _Killer(doer)
        while sum(doer.done.values()) < count:
            time.sleep(doer.choices.uniform(0, LONGEST_PAUSE))
            killer.kill()
        return {"epochs of leaders": len(doer.deployment.epochs())}

    return campaign(f"{count} kills, {_named(settings)}", seed, trouble, **settings)


class _Killer:
    def __init__(self, doer: Trouble) -> None:
        self._doer = doer
        self._away: dict[str, float] = {}

    def kill(self) -> None:
        """Kill one of the victims, and start what is down and not to stay away."""
        doer, deployment = self._doer, self._doer.deployment
        doer.expect_servers()
        (victim,) = doer.choices.choices(list(VICTIMS), list(VICTIMS.values()))
        match victim:
            case "everything":
                deployment.kill_everything()
            case "all servers":
                for server in deployment.servers.values():
                    server.kill()
            case "zygote" | "task":
                found = deployment.zygotes() if victim == "zygote" else deployment.tasks()
                if not found:
                    return
                kill([doer.choices.choice(found)])
            case _:
                self._kill_server(doer.choices.choice(deployment.of(victim)))
        doer.note(victim)
        now = time.monotonic()
        self._away = {name: until for name, until in self._away.items() if until > now}
        # Now and then the next one comes while servers are still starting.
        deployment.start(wait=doer.choices.random() < 0.75, but=self._away)

    def _kill_server(self, server: ServerProcess) -> None:
        doer = self._doer
        server.kill()
        if len(doer.deployment.members) > 1 and doer.choices.random() < 0.5:
            away = doer.choices.uniform(0, 2 * doer.deployment.lease)
            self._away[server.name] = time.monotonic() + away


def _named(settings: dict[str, Any]) -> str:
    servers, kind = settings.get("servers", 1), settings.get("kind", "sqlite")
    return f"{servers} server(s) of each kind on {kind}"
