"""What users do: workflows of every kind, and clients that start them and send events."""

from collections.abc import Callable

from aiflow_core.errors import UnavailableError
from aiflow_core.model.algebra import (
    absent,
    all_of,
    batch,
    count,
    debounce,
    each,
    event,
    sequence,
)
from aiflow_core.model.condition import (
    CustomCondition,
    MeetAllCondition,
    SingleEventCondition,
    TaskStatusCondition,
)
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.rule import TaskAction, TaskRule
from aiflow_core.model.serialization import encode
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import TaskConfig, TaskDefinition, WorkflowDefinition
from aiflow_core.specs.event_store import EventStore
from aiflow_scheduler_event.commands import (
    ActOnTask,
    AddSchedule,
    AddTrigger,
    Command,
    DeleteSchedules,
    PauseTrigger,
    StartExecution,
    StopExecution,
    StopExecutions,
    SubmitWorkflow,
)

from .world import World

START, STOP, RESTART = TaskAction.START, TaskAction.STOP, TaskAction.RESTART
KEYS = ("a", "b", "c")
FLOWS = ("chain", "fan", "events", "custom")
PATTERNS = "patterns"


def after(*tasks: str) -> TaskRule:
    return TaskRule(START, TaskStatusCondition(dict.fromkeys(tasks, TaskStatus.SUCCESS)))


def on(action: TaskAction, key: str) -> TaskRule:
    return TaskRule(action, SingleEventCondition(key))


def task(name: str, *rules: TaskRule, **config: object) -> TaskDefinition:
    return TaskDefinition(name=name, rules=rules, config=TaskConfig(**config))  # type: ignore[arg-type]


def definitions() -> list[WorkflowDefinition]:
    """A chain, a fan-out, tasks that are driven by events, and conditions of users."""
    chain = [task("t0", retries=2, retry_delay=0.2)]
    chain += [
        task(f"t{i}", after(f"t{i - 1}"), retries=2, retry_delay=0.2, timeout=1.2)
        for i in range(1, 5)
    ]
    leaves = [task(f"leaf{i}", after("root"), retries=1) for i in range(6)]
    fan = [task("root", retries=3), *leaves, task("join", after(*(leaf.name for leaf in leaves)))]
    events = [
        task("started", on(START, "a"), on(STOP, "b"), on(RESTART, "c")),
        task(
            "both",
            TaskRule(
                START,
                MeetAllCondition("ab", (SingleEventCondition("a"), SingleEventCondition("b"))),
            ),
        ),
        task("follower", after("started")),
    ]
    custom = [
        task("first"),
        task(
            "asked", TaskRule(START, CustomCondition(expect_event_keys=("a", "c"), place="asked/0"))
        ),
        task("periodic", periodic_expression="interval@0 0 0 2"),
    ]
    return [
        WorkflowDefinition(name, "default", tuple(tasks))
        for name, tasks in zip(FLOWS, (chain, fan, events, custom), strict=True)
    ]


def patterns() -> WorkflowDefinition:
    """Tasks that wait for more than one event, with windows that end by themselves."""
    gatherer = task(
        "gatherer",
        TaskRule(START, batch(event("a"), max=3, within=1.5)),
        TaskRule(STOP, sequence(event("b"), event("b"), event("c"), within=4)),
    )
    one_by_one = task(
        "one_by_one", TaskRule(START, each(all_of(event("b"), event("c"), consume="first")))
    )
    alarm = task("alarm", TaskRule(RESTART, absent(event("a"), after=event("b"), within=1)))
    return WorkflowDefinition(PATTERNS, "default", (gatherer, one_by_one, alarm))


class Client:
    """Sends events and commands, again and again until they are acknowledged.

    Attributes:
        acknowledged: the ids of what the log has confirmed, in order.
    """

    def __init__(self, world: World, log: EventStore, told: Callable[[], None]) -> None:
        self._world = world
        self._log = log
        self._told = told
        self._sent = 0
        self.unconfirmed = 0
        self.acknowledged: list[str] = []

    def begin(self, until: float, with_patterns: bool) -> None:
        """Use the deployment until that moment."""
        for definition in definitions():
            self.do(SubmitWorkflow(definition, None))
        self.do(AddTrigger("chain", "default", SingleEventCondition("a")))
        self.do(AddSchedule("fan", "default", "interval@0 0 0 3"))
        for name in FLOWS[2:]:
            self.do(StartExecution(name, "default"))
        if with_patterns:
            self.do(SubmitWorkflow(patterns(), None))
            self.do(StartExecution(PATTERNS, "default"))
            self.do(AddTrigger("fan", "default", debounce(count(event("c"), 2), 1)))
        self._go_on(until)

    def end(self, with_patterns: bool) -> None:
        """Let nothing new begin, and what would never end be stopped."""
        self.do(PauseTrigger(1, True))
        if with_patterns:
            self.do(PauseTrigger(2, True))
            self.do(StopExecutions(PATTERNS, "default"))
        self.do(DeleteSchedules((1,)))
        for name in FLOWS[2:]:
            self.do(StopExecutions(name, "default"))

    def do(self, command: Command) -> None:
        self._send("command", encode(command).decode(), EventType.COMMAND)

    def _go_on(self, until: float) -> None:
        if self._world.now < until:
            self._deed()
            self._world.soon(900, lambda: self._go_on(until))

    def _deed(self) -> None:
        chance = self._world.chance
        number = chance.randrange(10)
        if number < 6:
            self._send(chance.choice(KEYS), str(self._sent), EventType.USER)
        elif number < 8:
            self.do(StartExecution(chance.choice(FLOWS[:2]), "default"))
        elif number < 9:
            self.do(StopExecution(chance.randint(3, 8)))
        else:
            name = chance.choice(("started", "follower", "t1", "leaf0"))
            self.do(ActOnTask(chance.randint(1, 6), name, chance.choice(list(TaskAction))))

    def _send(self, key: str, value: str, type: EventType) -> None:
        self._sent += 1
        id = f"client-{self._sent}"
        self.unconfirmed += 1
        self._try(Event(key, value, "default", "client", type=type, id=id))

    def _try(self, event: Event) -> None:
        try:
            with self._world.crossing(lambda: None):
                self._log.append([event])
                self._told()
        except UnavailableError:
            self._world.soon(300, lambda: self._try(event))
        else:
            self.unconfirmed -= 1
            self.acknowledged.append(event.id)
