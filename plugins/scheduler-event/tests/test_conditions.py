"""Users' conditions, evaluated in real host processes."""

import base64
import json
import os
import queue
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import msgspec
import psutil
import pytest

from aiflow_core import crash
from aiflow_core.bundle import load_workflows, pack
from aiflow_core.errors import ConfigError
from aiflow_core.model.condition import as_data
from aiflow_core.model.context import pack as packed
from aiflow_core.model.context import unpack
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import BundleRef, Namespace
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.workflow import WorkflowDefinition
from aiflow_core.testing.blob_manager import MemoryBlobManager
from aiflow_core.testing.waiting import wait_until
from aiflow_scheduler_event.commands import AddTrigger, Command, StartExecution, SubmitWorkflow
from aiflow_scheduler_event.conditions import ConditionHosts, Limits
from aiflow_scheduler_event.engine import Engine
from aiflow_scheduler_event.state import Changes, Evaluate, State
from aiflow_scheduler_event.step import Answer

FLOW = r"""
import ctypes, multiprocessing, os, pathlib, signal, sys, threading, time
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
def spins(event, state, context):
    while True:
        pass
def eats(event, state, context):
    hoard = []
    while True:
        hoard.append(bytearray(1_000_000))
def recurses(event, state, context):
    return recurses(event, state, context)
def crashes(event, state, context):
    ctypes.string_at(0)
def freezes(event, state, context):
    os.kill(os.getpid(), signal.SIGSTOP)
def pipes():
    return [int(fd) for fd in os.listdir("/proc/self/fd")
            if os.readlink(f"/proc/self/fd/{fd}").startswith("pipe:")]
def garbles(event, state, context):
    for fd in pipes():
        try:
            os.write(fd, event.value.encode())
        except OSError:
            pass
    return True
def reads(event, state, context):
    return sys.stdin.read() == ""
def forks(event, state, context):
    child = os.fork()
    if not child and event.value == "stay":
        time.sleep(60)
    return True
def starts(event, state, context):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, [-1, -2]) == [1, 2]
def unspeakable(event, state, context):
    raise ValueError("half \ud83e, \0, " + "x" * 100_000)
def third(event, state, context):
    # How often it was tried is known only to the file; what it leaves in its state is forgotten.
    tries = pathlib.Path(event.value)
    tries.write_text(tries.read_text() + f"{os.getpid()} {state('tries').value()}\n")
    state("tries").update(1)
    if len(tries.read_text().splitlines()) < 3:
        raise ValueError("not yet")
    return True
def dies_twice(event, state, context):
    third_time = len(pathlib.Path(event.value).read_text().splitlines()) == 2
    with open(event.value, "a") as tries:
        tries.write(f"{os.getpid()}\n")
    if not third_time:
        os._exit(9)
    return True

with Workflow("flow") as workflow:
    task = Nothing("t")
    listener = Nothing("listener")
    for check in (equals, raises, exits, leaves, hangs, prints, adds, clears, objects, large,
                  echoes, unpicklable, badly_named, status, process, spins, eats, recurses, crashes,
                  freezes, garbles, reads, forks, starts, unspeakable, third, dies_twice):
        listener.action_on_condition(TaskAction.START, Check(check))
"""


GENEROUS = Limits(time_limit=20, tries=1)


class Stage:
    """An engine, and the hosts that evaluate what it wants to be evaluated."""

    def __init__(self, home: Path, limits: Limits = GENEROUS, python: str = sys.executable) -> None:
        self.home = home
        self.blobs = MemoryBlobManager()
        self.state = State(namespaces={"default": Namespace("default")})
        self.engine = Engine(self.state)
        self.answers: queue.Queue[Event] = queue.Queue()
        self.hosts = ConditionHosts(self.blobs, home, python, limits, self.answers.put)

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

    def start_another(self) -> int:
        """A further execution of the workflow; its id."""
        self.do(StartExecution("flow", "default"))
        return self.state.counters.execution

    def tell(self, key: str, only: int, value: str = "") -> None:
        """Send an event to one execution, and do not wait for the answer."""
        context = json.dumps({"workflow_execution_id": only})
        self.take_in(Event(key, value, namespace="default", context=context))

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


@contextmanager
def staged(home: Path, limits: Limits = GENEROUS, python: str = sys.executable) -> Iterator[Stage]:
    """A stage whose hosts are ended."""
    stage = Stage(home, limits, python)
    try:
        yield stage
    finally:
        stage.hosts.close()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with staged(tmp_path) as stage:
        yield stage


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
    with staged(tmp_path, Limits(time_limit=2, tries=1)) as stage:
        stage.upload()
        before = stage.process()

        assert "longer than 2 s" in stage.ask("hangs").error

        assert not psutil.pid_exists(before)
        assert stage.process() != before


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


def test_trouble_that_nobody_thought_of_is_the_reason(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.upload()
    with monkeypatch.context() as patch:
        patch.setattr("aiflow_scheduler_event.conditions.fetch", lambda *args: 1 / 0)
        assert stage.ask("equals").error == "ZeroDivisionError: division by zero"

    assert stage.ask("equals", "yes").met


def test_a_workflow_that_came_without_its_code_says_so(stage: Stage) -> None:
    stage.home.joinpath("flow.py").write_text(FLOW)
    (loaded,) = load_workflows(stage.home / "flow.py")
    stage.start(loaded.definition(), None)

    assert "uploaded without its code" in stage.ask("equals").error


def test_an_interpreter_that_is_not_there_is_the_reason(tmp_path: Path) -> None:
    with staged(tmp_path, python="/nowhere/python") as stage:
        stage.upload()

        assert "no condition host" in stage.ask("equals").error


def even_trigger() -> AddTrigger:
    """A trigger on even numbers, whose condition travels as code."""

    class Even:
        expect_event_keys = ("number",)

        def is_met(self, event: Event, context: Any) -> bool:
            return int(event.value or "") % 2 == 0

    return AddTrigger("flow", "default", as_data(Even()))


def test_a_condition_that_travels_as_code_is_evaluated(flow: Stage) -> None:
    flow.do(even_trigger())

    assert flow.ask("number", "2").met
    assert not flow.ask("number", "3").met


def test_code_that_cannot_be_loaded_is_the_reason(flow: Stage) -> None:
    from aiflow_core.model.condition import CustomCondition

    code = base64.b64encode(cloudpickle.dumps(5)[:-1]).decode()
    flow.do(AddTrigger("flow", "default", CustomCondition(("number",), code=code)))

    assert flow.ask("number", "2").error


class TestTries:
    """A condition is tried several times before the event goes to the dead letters."""

    @pytest.fixture
    def tries(self, tmp_path: Path) -> Path:
        file = tmp_path / "tries"
        file.touch()
        return file

    @pytest.fixture
    def flow(self, tmp_path: Path) -> Iterator[Stage]:
        with staged(tmp_path, Limits(time_limit=20, tries=3)) as stage:
            stage.upload()
            yield stage

    def test_the_answer_tells_how_often_it_was_tried(self, flow: Stage) -> None:
        assert flow.ask("equals", "yes").tries == 1
        assert flow.ask("raises").tries == 3

    def test_each_try_begins_from_the_same_states(self, flow: Stage, tries: Path) -> None:
        answer = flow.ask("third", str(tries))

        assert (answer.met, answer.tries, answer.states) == (True, 3, {"tries": "1"})
        seen = [line.split() for line in tries.read_text().splitlines()]
        assert [state for _, state in seen] == ["None"] * 3
        assert len({pid for pid, _ in seen}) == 1

    def test_a_try_after_the_end_of_a_process_is_made_in_a_new_one(
        self, flow: Stage, tries: Path
    ) -> None:
        answer = flow.ask("dies_twice", str(tries))

        assert (answer.met, answer.tries) == (True, 3)
        assert len(set(tries.read_text().split())) == 3

    @pytest.mark.parametrize(
        ("limit", "problem"),
        [
            ({"tries": 0}, "condition_tries: expected `int` >= 1."),
            ({"hosts": "four"}, "condition_hosts: expected `int`, got `str`."),
            ({"memory_limit": 1}, "condition_memory_limit: expected `int` >= 64."),
            ({"time_limit": 0}, "condition_time_limit: expected `float` > 0.0."),
        ],
    )
    def test_limits_that_no_condition_could_keep_are_refused(
        self, limit: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(ConfigError, match=re.escape(problem)):
            Limits.checked(**limit)


class TestHarm:
    """Whatever a condition does in its process, it is answered and disturbs no other."""

    @pytest.fixture
    def flow(self, tmp_path: Path) -> Iterator[Stage]:
        with staged(tmp_path, Limits(time_limit=3, tries=1, memory_limit=256)) as stage:
            stage.upload()
            yield stage

    @pytest.mark.parametrize(
        ("key", "why"),
        [
            ("spins", "it took longer than 3 s"),
            ("freezes", "it took longer than 3 s"),
            ("recurses", "RecursionError"),
            ("crashes", "its process ended by signal 11 (SIGSEGV)"),
            ("unspeakable", "ValueError: half ?"),
        ],
    )
    def test_it_is_the_reason(self, flow: Stage, key: str, why: str) -> None:
        answer = flow.ask(key)

        assert why in answer.error
        assert "\0" not in answer.error
        assert len(answer.error) < 5000
        assert flow.ask("equals", "yes").met

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's own memory")
    def test_one_that_eats_memory_is_told_so_and_its_process_is_not_used_again(
        self, flow: Stage
    ) -> None:
        before = flow.process()

        assert flow.ask("eats").error == "it needed more than 256 MiB of memory"

        assert flow.process() != before

    @pytest.mark.parametrize("text", ["x", "\n", "{}\n", "ready\n", '{"met":true}\n', "x" * 60_000])
    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="finds the pipe by /proc")
    def test_what_it_writes_to_the_pipe_of_the_answer_is_not_taken_for_the_next_one(
        self, flow: Stage, text: str
    ) -> None:
        flow.ask("garbles", text)

        assert not flow.ask("equals", "no").met
        assert flow.ask("equals", "yes") == Answer(flow.state.counters.evaluation, met=True)

    def test_it_does_not_read_the_next_question(self, flow: Stage) -> None:
        assert flow.ask("reads").met

    @pytest.mark.parametrize("value", ["go", "stay"])
    def test_a_process_that_it_forks_answers_nothing(self, flow: Stage, value: str) -> None:
        before = flow.process()

        assert flow.ask("forks", value).met

        assert flow.process() == before
        assert not flow.ask("equals", "no").met

    def test_it_may_use_processes(self, flow: Stage) -> None:
        assert flow.ask("starts").met

    def test_what_it_has_forked_ends_with_its_process(self, flow: Stage) -> None:
        pid = flow.process()
        flow.ask("forks", "stay")
        children = psutil.Process(pid).children(recursive=True)

        flow.ask("exits")

        assert children
        gone = psutil.STATUS_ZOMBIE
        wait_until(lambda: not any(c.is_running() and c.status() != gone for c in children), "gone")


class TestOthers:
    """A condition that hangs is waited for by its own execution alone."""

    @pytest.fixture
    def flow(self, tmp_path: Path) -> Iterator[Stage]:
        with staged(tmp_path, Limits(time_limit=600, tries=1, hosts=4)) as stage:
            stage.upload()
            yield stage

    def test_those_of_other_executions_are_answered_meanwhile(self, flow: Stage) -> None:
        warm = flow.process()
        healthy = flow.start_another()
        flow.tell("hangs", only=1)

        began = time.perf_counter()
        flow.tell("equals", only=healthy, value="yes")
        answer = decode(flow.answers.get(timeout=60).value or "", Answer)
        first = time.perf_counter() - began

        # The first needs a process of its own; those after it find that warm.
        print(f"a condition, while another hangs: {first * 1000:.0f} ms with a new process")
        assert answer.met
        assert flow.state.evaluations[answer.evaluation_id].scope.id == healthy
        assert psutil.pid_exists(warm)  # where the other one hangs on

    def test_the_moments_at_which_a_process_may_die_are_named(self, flow: Stage) -> None:
        heard: list[str] = []

        with crash.passing(heard.append):
            flow.ask("equals")

        assert heard == [
            "conditions.spawn.before",
            "conditions.spawn.after",
            "conditions.answer.before",
        ]

    def test_the_slow_ones_are_never_given_more_than_half_of_the_hosts(
        self, tmp_path: Path
    ) -> None:
        with staged(tmp_path, Limits(time_limit=1, tries=1000, hosts=2)) as flow:
            flow.upload()
            healthy = flow.start_another()
            for execution in (1, flow.start_another(), flow.start_another()):
                flow.tell("hangs", only=execution)
            hung = 1.0

            flow.tell("equals", only=healthy, value="yes")
            began = time.monotonic()
            answer = decode(flow.answers.get(timeout=60).value or "", Answer)

            # Behind those that were asked before it was known that they hang, and behind no other.
            assert answer.met
            assert time.monotonic() - began < 30 * hung

    def test_those_of_one_bundle_are_never_given_all_hosts(self, tmp_path: Path) -> None:
        with staged(tmp_path, Limits(time_limit=600, tries=1, hosts=2)) as flow:
            flow.upload()
            flow.do(even_trigger())
            for execution in (1, flow.start_another(), flow.start_another()):
                flow.tell("hangs", only=execution)

            flow.tell("number", only=0, value="2")

            answer = decode(flow.answers.get(timeout=60).value or "", Answer)
            assert answer.met
            assert flow.state.evaluations[answer.evaluation_id].trigger_id == 1

    def test_servers_and_tasks_go_first(self, flow: Stage) -> None:
        assert psutil.Process(flow.process()).nice() == min(19, psutil.Process().nice() + 5)

    def test_the_end_waits_for_none(self, flow: Stage) -> None:
        began = time.monotonic()
        flow.tell("hangs", only=1)

        flow.hosts.close()

        assert time.monotonic() - began < 60
        assert flow.answers.empty()

    def test_what_is_asked_twice_is_answered_once(self, flow: Stage) -> None:
        flow.tell("equals", only=1, value="yes")
        (evaluation,) = flow.state.evaluations.values()
        flow.hosts.evaluate(evaluation, flow.state)

        flow.take_in(flow.answers.get(timeout=60))
        flow.ask("equals")

        assert flow.answers.empty()


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
