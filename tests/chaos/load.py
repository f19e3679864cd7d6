"""The load: producers, listeners and clients, who never give up and note what they were told."""

import json
import random
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from aiflow_core.errors import UnavailableError, WaitTimeoutError
from aiflow_core.model.condition import SingleEventCondition
from aiflow_core.model.event import EVERYTHING, Event, EventFilter
from aiflow_core.model.execution import WorkflowExecution
from aiflow_core.specs.event_store import Subscription
from aiflow_core.specs.scheduler import request
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_server.scheduler import RemoteScheduler

from .deployment import Deployment
from .history import (
    Appended,
    Entry,
    History,
    Pause,
    Plan,
    Started,
    Transcript,
    made,
    read_lines,
    read_log,
    read_metadata,
)
from .oracle import FINISHED

T = TypeVar("T")

TICKS = {"interval": "interval@0 0 0 2", "cron": "cron@* * * * *"}

# Name -> the keys that it chooses from, and the mean of its pauses in seconds.
PRODUCERS = {
    "producer-1": (["chaos.noise"], 0.05),
    "producer-2": (["chaos.noise", "chaos.hum"], 0.1),
    "producer-3": (["chaos.call"], 0.7),
    "producer-4": (["chaos.on", "chaos.off"], 0.9),
}

PLAN = Plan(
    upstream={
        "chain": {f"link{n}": frozenset([f"link{n - 1}"] if n else []) for n in range(40)},
        "fan": {
            "root": frozenset(),
            **{f"leaf{n}": frozenset(["root"]) for n in range(200)},
            "join": frozenset(f"leaf{n}" for n in range(200)),
        },
        "tick": {"tock": frozenset()},
        "called": {"answer": frozenset()},
        "talk": {"speaker": frozenset()},
    },
    heard={
        "switch": {"lamp": frozenset(["chaos.on", "chaos.off"])},
        "talk": {"hearer": frozenset(["chaos.spoken"])},
    },
    triggers={"chaos.call": "called"},
    schedules={},
    reactive=frozenset(["switch"]),
)


class Notes:
    """A file to which a line of JSON is appended for each thing that somebody was told."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def write(self, *lines: Any) -> None:
        with self._lock:
            self._file.write("".join(f"{json.dumps(line)}\n" for line in lines))

    def close(self) -> None:
        self._file.close()


class Load:
    """All who ask something of a deployment.

    Args:
        seed: of their choices.
    """

    def __init__(self, deployment: Deployment, seed: int) -> None:
        self.deployment = deployment
        self.plan = replace(PLAN, schedules={})
        self._seed = seed
        self._done = threading.Event()
        self._given_up = threading.Event()
        self._asking: list[threading.Thread] = []
        self._listening: list[threading.Thread] = []
        self._listeners: list[Listener] = []
        self._surprises = Notes(deployment.root / "surprises")
        self._appended = Notes(deployment.root / "appended")
        self._started = Notes(deployment.root / "started")
        self._schedules: list[int] = []
        self._switch = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Set up what is asked for, and ask, until the end of the block."""
        with self.scheduler() as scheduler:
            scheduler.add_workflow_trigger(SingleEventCondition("chaos.call"), "called")
            for expression in TICKS.values():
                made = scheduler.add_workflow_schedule(expression, "tick")
                self._schedules.append(made.id)
                self.plan.schedules[made.id] = ("tick", expression)
        self._switch = self._begin("switch").id
        self._listen("everything", EVERYTHING)
        self._listen("some", EventFilter(keys=("chaos.*", "workflow_status.*")))
        self._asking = [
            *(
                self._run(name, self._produce, keys, pause)
                for name, (keys, pause) in PRODUCERS.items()
            ),
            *(
                self._run(f"starter-{workflow}", self._start_again_and_again, workflow)
                for workflow in ("chain", "fan", "talk")
            ),
        ]
        try:
            yield
        finally:
            self._done.set()
            self._given_up.set()
            for listener in self._listeners:
                listener.close()
            for thread in (*self._asking, *self._listening):
                thread.join()

    def settle(self, seconds: float) -> float:
        """Ask for nothing more, and wait until everything has come to its end and everybody has
        heard of it; how many seconds that took. After `seconds` it is left as it is, for the
        oracle to say what is missing."""
        began = time.monotonic()
        self._done.set()
        deadline = began + seconds
        for thread in self._asking:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self.scheduler() as scheduler, closing(self.log()) as log:
            for schedule in self._schedules:
                self._ask(lambda s=schedule: scheduler.pause_workflow_schedule(s))
            self._ask(lambda: scheduler.stop_workflow_execution(self._switch))
            while time.monotonic() < deadline and not self._is_quiet(log):
                time.sleep(0.5)
        return time.monotonic() - began

    def scheduler(self) -> RemoteScheduler:
        """A client of the AIFlow server."""
        return RemoteScheduler(self.deployment.addresses.server_address, timeout=20.0)

    def log(self) -> RemoteEventStore:
        """A client of the notification server."""
        return RemoteEventStore(self.deployment.addresses.log_uri, timeout=3.0)

    def history(self) -> History:
        """All that was noted, by whomever; to be asked when nobody asks any more."""
        root = self.deployment.root
        return History(
            plan=self.plan,
            log=read_log(self.deployment.addresses.log_database),
            appended=made(Appended, read_lines(root / "appended")),
            started=made(Started, read_lines(root / "started")),
            journal=made(Entry, read_lines(self.deployment.journal)),
            pauses=made(Pause, [t["pause"] for t in read_lines(root / "trouble") if "pause" in t]),
            transcripts=tuple(listener.transcript() for listener in self._listeners),
            several=len(self.deployment.members) > 1,
            surprises=tuple(read_lines(root / "surprises")),
            **read_metadata(self.deployment.addresses.metadata_database),
        )

    def close(self) -> None:
        """Close what was noted."""
        for notes in (self._surprises, self._appended, self._started):
            notes.close()

    def surprise(self, what: str) -> None:
        """Note what must not happen."""
        self._surprises.write(what)

    # --- what they do --------------------------------------------------------------------------

    def _run(self, name: str, body: Callable[..., None], *arguments: Any) -> threading.Thread:
        def run() -> None:
            try:
                body(random.Random(f"{self._seed} {name}"), name, *arguments)
            except Exception:
                self.surprise(f"{name}: {traceback.format_exc()}")

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def _listen(self, name: str, wanted: EventFilter) -> None:
        listener = Listener(self, name, wanted)
        self._listeners.append(listener)
        self._listening.append(self._run(name, listener.listen))

    def _produce(
        self, choices: random.Random, name: str, keys: Sequence[str], pause: float
    ) -> None:
        number = 0
        with closing(self.log()) as log:
            while not self._done.wait(choices.uniform(0, 2 * pause)):
                batch = [
                    Event(
                        key=choices.choice(keys),
                        value=str(number + place),
                        namespace="default",
                        sender=name,
                        id=uuid.uuid4().hex,
                    )
                    for place in range(choices.randint(1, 4))
                ]
                stored = self._ask(lambda b=batch: log.append(b))
                for event, told in zip(batch, stored, strict=True):
                    self._appended.write(asdict(Appended(name, number, event.id, told.offset)))
                    number += 1

    def _start_again_and_again(self, choices: random.Random, name: str, workflow: str) -> None:
        with self.scheduler() as scheduler:
            while not self._done.wait(choices.uniform(0, 0.4)):
                execution = self._begin(workflow)
                while not self._done.wait(0.3):
                    asked = execution.id
                    execution = self._ask(lambda i=asked: scheduler.get_workflow_execution(i))
                    if execution.status in FINISHED:
                        break

    def _begin(self, workflow: str) -> WorkflowExecution:
        """Start an execution; asked under one request id for as long as nobody answers."""
        request_id = uuid.uuid4().hex

        def start() -> WorkflowExecution:
            with self.scheduler() as scheduler, request(request_id):
                return scheduler.start_workflow_execution(workflow)

        execution = self._ask(start)
        self._started.write(asdict(Started(request_id, workflow, execution.id)))
        return execution

    def _ask(self, call: Callable[[], T]) -> T:
        """The answer to a call that may be repeated; it is, for as long as nobody answers."""
        while True:
            try:
                return call()
            except (UnavailableError, WaitTimeoutError):
                if self._given_up.wait(0.05):
                    raise

    def _is_quiet(self, log: RemoteEventStore) -> bool:
        try:
            head = log.head()
            behind = [one for one in self._listeners if log.read(one.position, filter=one.wanted)]
        except UnavailableError:
            return False
        found = read_metadata(self.deployment.addresses.metadata_database)
        return (
            not behind
            and found["position"] == head
            and not any(found["leftovers"].values())
            and all(row.status in FINISHED for row in found["executions"])
        )


class Listener:
    """Writes down what it hears, and begins anew where its transcript ends, again and again."""

    def __init__(self, load: Load, name: str, wanted: EventFilter) -> None:
        self.name = name
        self.position = 0
        self._load = load
        self.wanted = wanted
        self._closed = threading.Event()
        self._file = load.deployment.root / f"transcript-{name}"
        self._subscription: Subscription | None = None

    def listen(self, choices: random.Random, name: str) -> None:
        """Until closed."""
        with closing(Notes(self._file)) as notes:
            while not self._closed.is_set():
                with closing(self._load.log()) as log:
                    self._subscription = log.subscribe(self.position, self.wanted)
                    timer = threading.Timer(choices.uniform(1, 8), self._subscription.close)
                    timer.daemon = True
                    timer.start()
                    for events in self._subscription:
                        notes.write(*([event.offset, event.id] for event in events))
                        self.position = events[-1].offset
                    timer.cancel()

    def transcript(self) -> Transcript:
        """What it has heard."""
        heard = tuple((offset, id) for offset, id in read_lines(self._file))
        return Transcript(self.name, 0, self.wanted, heard)

    def close(self) -> None:
        """End `listen`."""
        self._closed.set()
        if self._subscription is not None:
            self._subscription.close()
