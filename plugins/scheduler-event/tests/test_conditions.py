"""Users' conditions, evaluated in real host processes."""

import base64
import os
import queue
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec
import psutil
import pytest

from aiflow_core.bundle import load_workflows, pack
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import BundleRef, Namespace
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.workflow import WorkflowDefinition
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.scheduler import wait_until
from aiflow_scheduler_event.commands import AddTrigger, Command, StartExecution, SubmitWorkflow
from aiflow_scheduler_event.condition_host import pack as packed
from aiflow_scheduler_event.condition_host import unpack
from aiflow_scheduler_event.conditions import ConditionHosts
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import Changes, Evaluate, State
from aiflow_scheduler_event.step import Answer

FLOW = """
import os, sys, threading, time
from aiflow_core import Condition, Operator, Workflow, TaskAction
from aiflow_core.model.context import ValueStateDescriptor

class Point:
    def __init__(self, x):
        self.x = x

class Nothing(Operator):
    def start(self, context):
        pass

class Check(Condition):
    def __init__(self, check):
        super().__init__([check.__name__])
        self.check = check
    def is_met(self, event, context):
        def state(name):
            return context.get_state(ValueStateDescriptor(name))
        return self.check(event, state, context)

def equals(event, state, context):
    return event.value == "yes"
def raises(event, state, context):
    raise ValueError("no such luck")
def exits(event, state, context):
    os._exit(3)
def leaves(event, state, context):
    sys.exit(4)
def hangs(event, state, context):
    while True:
        time.sleep(60)
def prints(event, state, context):
    print("to standard output")
    os.system("echo so does a child")
    return True
def adds(event, state, context):
    total = (state("total").value() or 0) + int(event.value)
    state("total").update(total)
    return total >= 10
def clears(event, state, context):
    state("total").clear()
    return True
def objects(event, state, context):
    before = state("point").value()
    state("point").update(Point(before.x + 1 if before else 1))
    return before is not None and before.x == 2
def large(event, state, context):
    state("large").update("x" * int(event.value))
    return True
def echoes(event, state, context):
    return len(event.value) == 900_000
def unpicklable(event, state, context):
    state("lock").update(threading.Lock())
def badly_named(event, state, context):
    state("x" * 201)
def status(event, state, context):
    return context.get_task_status("t") == "QUEUED" and context.get_task_status("x") is None
def process(event, state, context):
    state("pid").update(os.getpid())

with Workflow("flow") as workflow:
    task = Nothing("t")
    listener = Nothing("listener")
    for check in (equals, raises, exits, leaves, hangs, prints, adds, clears, objects, large,
                  echoes, unpicklable, badly_named, status, process):
        listener.action_on_condition(TaskAction.START, Check(check))
"""


class Stage:
    """An engine, and the hosts that evaluate what it wants to be evaluated."""

    def __init__(self, home: Path, time_limit: float = 20.0) -> None:
        self.home = home
        self.blobs = MemoryBlobManager()
        self.state = State(namespaces={"default": Namespace("default")})
        self.engine = Engine(self.state)
        self.answers: queue.Queue[Event] = queue.Queue()
        self.hosts = ConditionHosts(self.blobs, home, sys.executable, time_limit, self.answers.put)

    def upload(self, flow: str = FLOW, damaged: str = "") -> None:
        """Upload the workflow, whose file in the bundle may be another than was loaded here."""
        source = self.home / "source"
        source.mkdir(exist_ok=True)
        (source / "flow.py").write_text(flow)
        (loaded,) = load_workflows(source / "flow.py")
        if damaged:
            (source / "flow.py").write_text(damaged)
        archive, reference = pack(source / "flow.py", [], source)
        bundle = msgspec.structs.replace(reference, uri=self.blobs.upload(archive))
        self.start(loaded.definition(), bundle)

    def start(self, definition: WorkflowDefinition, bundle: BundleRef | None) -> None:
        self.do(SubmitWorkflow(definition, bundle))
        self.do(StartExecution(definition.name, "default"))

    def do(self, command: Command) -> None:
        self.take_in(
            Event("", encode(command).decode(), type=EventType.COMMAND, id=str(self.state.offset))
        )

    def ask(self, key: str, value: str = "") -> Answer:
        """Send an event that one condition listens to; how it was found."""
        self.take_in(Event(key, value, namespace="default"))
        event = self.answers.get(timeout=60)
        self.take_in(event)
        return decode(event.value or "", Answer)

    def take_in(self, event: Event) -> None:
        changes = Changes()
        offset = self.state.offset + 1
        self.engine.apply(
            msgspec.structs.replace(event, offset=offset, create_time=1_700_000_000_000), changes
        )
        for entry in changes.outbox:
            if isinstance(entry.message, Evaluate):
                self.hosts.evaluate(entry.message.evaluation, self.state)

    def process(self) -> int:
        """The process in which conditions are evaluated now."""
        pid: int = unpack(self.ask("process").states["pid"] or "")
        return pid


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    stage.hosts.close()


@pytest.fixture
def flow(stage: Stage) -> Stage:
    stage.upload()
    return stage


def test_a_condition_is_met_or_not(flow: Stage) -> None:
    assert flow.ask("equals", "yes").met
    assert not flow.ask("equals", "no").met


def test_one_process_evaluates_all_conditions_of_a_bundle(flow: Stage) -> None:
    first = flow.process()
    flow.ask("equals")

    assert flow.process() == first != os.getpid()


def test_no_code_of_a_user_is_loaded_here(tmp_path: Path, stage: Stage) -> None:
    marker = tmp_path / "loaded_by"
    write = f"import os, pathlib\npathlib.Path({str(marker)!r}).write_text(str(os.getpid()))\n"
    flow = write + FLOW
    stage.upload(flow)
    marker.unlink()

    pid = stage.process()

    assert marker.read_text() == str(pid)


def test_a_number_is_kept_between_events(flow: Stage) -> None:
    answers = [flow.ask("adds", value) for value in ("4", "5", "1")]

    assert [answer.met for answer in answers] == [False, False, True]
    assert answers[-1].states == {"total": "10"}


def test_a_state_that_was_cleared_is_gone(flow: Stage) -> None:
    flow.ask("adds", "4")

    assert flow.ask("clears").states == {"total": None}
    assert flow.ask("adds", "1").states == {"total": "1"}


def test_an_object_is_kept_between_events(flow: Stage) -> None:
    assert [flow.ask("objects").met for _ in range(3)] == [False, False, True]


def test_only_states_that_were_asked_for_are_part_of_the_answer(flow: Stage) -> None:
    flow.ask("adds", "4")

    assert flow.ask("equals").states == {}


def test_a_condition_sees_the_statuses_of_tasks(flow: Stage) -> None:
    assert flow.ask("status").met


def test_what_is_raised_is_the_reason(flow: Stage) -> None:
    answer = flow.ask("raises")

    assert not answer.met
    assert "ValueError: no such luck" in answer.error


@pytest.mark.parametrize(("key", "code"), [("exits", 3), ("leaves", 4)])
def test_a_condition_that_ends_its_process_fails_and_the_next_finds_a_new_one(
    flow: Stage, key: str, code: int
) -> None:
    before = flow.process()

    assert f"exit code {code}" in flow.ask(key).error

    assert flow.process() != before


def test_a_condition_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    stage = Stage(tmp_path, time_limit=5)
    stage.upload()
    before = stage.process()
    # Loading has been paid for; what remains is the condition's own time.
    stage.hosts._time_limit = 0.3

    assert "longer than 0.3 s" in stage.ask("hangs").error
    stage.hosts._time_limit = 20

    assert not psutil.pid_exists(before)
    assert stage.process() != before
    stage.hosts.close()


def test_what_a_condition_prints_does_not_disturb(flow: Stage, capfd: Any) -> None:
    assert flow.ask("prints").met
    assert flow.ask("prints").met
    flow.hosts.close()

    said = capfd.readouterr()
    assert said.out == ""
    assert "to standard output" in said.err
    assert "so does a child" in said.err


def test_a_large_event_arrives_whole(flow: Stage) -> None:
    assert flow.ask("echoes", "x" * 900_000).met


def test_a_large_state_is_kept_whole(flow: Stage) -> None:
    answer = flow.ask("large", "900000")

    assert len(answer.states["large"] or "") == 900_002


def test_a_state_that_no_event_can_carry_is_refused(flow: Stage) -> None:
    answer = flow.ask("large", "2000000")

    assert not answer.met
    assert "its states cannot be kept" in answer.error
    assert flow.ask("equals", "yes").met


@pytest.mark.parametrize(
    ("key", "why"), [("unpicklable", "pickle"), ("badly_named", "not a name for a state")]
)
def test_a_state_that_cannot_be_kept_is_the_reason(flow: Stage, key: str, why: str) -> None:
    assert why in flow.ask(key).error


def test_a_host_that_was_killed_while_idle_is_replaced(flow: Stage) -> None:
    pid = flow.process()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "the host is gone")

    assert flow.ask("equals", "yes") == Answer(2, met=True)


def test_a_bundle_that_cannot_be_loaded_is_the_reason(stage: Stage) -> None:
    stage.upload(damaged="import no_such_module")

    answer = stage.ask("equals")

    assert "flow.py:1: ModuleNotFoundError" in answer.error


def test_a_bundle_that_is_gone_is_the_reason(stage: Stage) -> None:
    stage.upload()
    bundle = stage.state.plans[1].snapshot.bundle
    assert bundle is not None
    stage.blobs.delete(bundle.uri)

    assert "No such blob" in stage.ask("equals").error


def test_a_workflow_that_came_without_its_code_says_so(stage: Stage) -> None:
    stage.home.joinpath("flow.py").write_text(FLOW)
    (loaded,) = load_workflows(stage.home / "flow.py")
    stage.start(loaded.definition(), None)

    assert "uploaded without its code" in stage.ask("equals").error


def test_an_interpreter_that_is_not_there_is_the_reason(stage: Stage) -> None:
    stage.hosts._python = "/nowhere/python"
    stage.upload()

    assert "no condition host" in stage.ask("equals").error


def test_a_condition_that_travels_as_code_is_evaluated(flow: Stage) -> None:
    from aiflow_core.model.condition import as_data

    class Even:
        expect_event_keys = ("number",)

        def is_met(self, event: Event, context: Any) -> bool:
            return int(event.value or "") % 2 == 0

    flow.do(AddTrigger("flow", "default", as_data(Even())))

    assert flow.ask("number", "2").met
    assert not flow.ask("number", "3").met


def test_code_that_cannot_be_loaded_is_the_reason(flow: Stage) -> None:
    from aiflow_core.model.condition import CustomCondition

    code = base64.b64encode(cloudpickle.dumps(5)[:-1]).decode()
    flow.do(AddTrigger("flow", "default", CustomCondition(("number",), code=code)))

    assert flow.ask("number", "2").error


@pytest.mark.parametrize(
    "value",
    [
        *(0, 1.5, True, "", "🦊 \0 \ud83e", [], {}, [1, [2]], {"a": {"b": None}}),
        *({"pickle": "x"}, (1, 2), {1: 2}, b"bytes", {1, 2}),
    ],
    ids=repr,
)
def test_every_value_of_a_state_comes_back_as_it_was(value: Any) -> None:
    text = packed(value)

    assert (unpack(text), type(unpack(text))) == (value, type(value))
    assert text.isascii()
