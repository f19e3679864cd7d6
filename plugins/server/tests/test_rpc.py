"""Everything a scheduler offers, through a real socket."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from aiflow_core.errors import (
    AIFlowError,
    ConfigError,
    ConflictError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WaitTimeoutError,
)
from aiflow_core.model.condition import Lack, MeetAllCondition, SingleEventCondition
from aiflow_core.model.decision import Cause, Decision, Outcome
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    BundleRef,
    DeadLetter,
    LogPage,
    Namespace,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
    WorkflowSchedule,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.explanation import (
    EventExplanation,
    TaskExplanation,
    Wait,
    WorkflowExplanation,
)
from aiflow_core.model.schedule import CatchUp, ScheduleOptions
from aiflow_core.model.workflow import TaskDefinition, WorkflowDefinition
from aiflow_core.specs.scheduler import CONTRACTS, Scheduler, current_request_id
from aiflow_server import RemoteScheduler, RpcEndpoint
from aiflow_server.rpc import METHODS, REQUEST_ID

NOW = datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)
DEFINITION = WorkflowDefinition(
    name="wf", tasks=(TaskDefinition(name="t", operator="bash", params={"bash_command": "true"}),)
)
RULE = MeetAllCondition(name="both", conditions=(SingleEventCondition("a"),))
INFO = WorkflowInfo(id=1, workflow_name="wf", namespace="default", create_time=NOW, update_time=NOW)
EXECUTION = WorkflowExecution(id=7, workflow_id=1, begin_date=NOW, reason="because")
TASK = TaskExecution(id=8, workflow_execution_id=7, task_name="t", sequence_number=1)
OPTIONS = ScheduleOptions(time_zone="Europe/Berlin", end=NOW, catch_up=CatchUp.ALL)
SCHEDULE = WorkflowSchedule(
    id=2, workflow_id=1, expression="cron@* * * * *", create_time=NOW, options=OPTIONS
)
TRIGGER = WorkflowTrigger(id=3, workflow_id=1, rule=RULE, create_time=NOW)
SNAPSHOT = WorkflowSnapshot(id=4, workflow_id=1, create_time=NOW, definition=DEFINITION)
SPACE = Namespace(name="ours", properties={"team": "vision", "size": 3})
LETTER = DeadLetter(9, "somebody", "ValueError: no", NOW, 3, Event("poison", "x", offset=9))
LACK = Lack("task 'a' SUCCESS (it is FAILED)", task_name="a", wanted="SUCCESS", found="FAILED")
WAIT = Wait("rule 1 waits", 1, (LACK,), NOW)
DECISION = Decision(
    *(9, 7, "t", Outcome.NOT_MET, "rule 1", Cause.RULE, 1, NOW),
    **{"missing": (LACK,), "count": 5, "first_offset": 2, "first_time": NOW},
)
WHY = TaskExplanation("it waits", INFO, EXECUTION, "t", TASK, (DECISION,), (WAIT,))
BUNDLE = BundleRef(uri="local:abc", sha256="abc", entry="wf.py")

# Method -> arguments and what it answers.
CALLS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "submit_workflow": ((DEFINITION, BUNDLE), INFO),
    "get_workflow": (("wf", "ns"), INFO),
    "list_workflows": (("ns", 10, 5), [INFO, INFO]),
    "delete_workflow": (("wf", "ns"), None),
    "disable_workflow": (("wf", "ns"), None),
    "enable_workflow": (("wf", "ns"), None),
    "start_workflow_execution": (("wf", "ns"), EXECUTION),
    "stop_workflow_execution": ((7,), EXECUTION),
    "stop_workflow_executions": (("wf", "ns"), []),
    "delete_workflow_execution": ((7,), None),
    "get_workflow_execution": ((7,), EXECUTION),
    "list_workflow_executions": (("wf", "ns", None, 0), [EXECUTION]),
    "start_task_execution": ((7, "t"), TASK),
    "stop_task_execution": ((7, "t"), TASK),
    "restart_task_execution": ((7, "t"), TASK),
    "get_task_execution": ((8,), TASK),
    "list_task_executions": ((7, 1, 0), [TASK]),
    "add_namespace": (("ours", {"team": "vision"}), SPACE),
    "get_namespace": (("ours",), SPACE),
    "update_namespace": (("ours", {"size": 3}), SPACE),
    "list_namespaces": ((None, 0), [SPACE]),
    "delete_namespace": (("ours",), None),
    "add_workflow_schedule": (("cron@* * * * *", "wf", "ns", OPTIONS), SCHEDULE),
    "get_workflow_schedule": ((2,), SCHEDULE),
    "list_workflow_schedules": (("wf", "ns", None, 0), [SCHEDULE]),
    "delete_workflow_schedule": ((2,), None),
    "delete_workflow_schedules": (("wf", "ns"), None),
    "pause_workflow_schedule": ((2,), SCHEDULE),
    "resume_workflow_schedule": ((2,), SCHEDULE),
    "add_workflow_trigger": ((RULE, "wf", "ns"), TRIGGER),
    "get_workflow_trigger": ((3,), TRIGGER),
    "list_workflow_triggers": (("wf", "ns", None, 0), [TRIGGER]),
    "delete_workflow_trigger": ((3,), None),
    "delete_workflow_triggers": (("wf", "ns"), None),
    "pause_workflow_trigger": ((3,), TRIGGER),
    "resume_workflow_trigger": ((3,), TRIGGER),
    "get_workflow_snapshot": ((4,), SNAPSHOT),
    "list_workflow_snapshots": (("wf", "ns", None, 0), [SNAPSHOT]),
    "delete_workflow_snapshot": ((4,), None),
    "delete_workflow_snapshots": (("wf", "ns"), None),
    "get_state": ((7, "n"), "1"),
    "put_state": ((7, "n", None), None),
    "read_task_log": ((8, None, 5), LogPage(b"\xff written", 13)),
    "list_dead_letters": ((10, 5), [LETTER]),
    "get_dead_letter": ((9,), [LETTER]),
    "redrive_dead_letter": ((9, "somebody"), None),
    "redrive_dead_letters": ((), 3),
    "drop_dead_letter": ((9, None), None),
    "drop_dead_letters": ((), 3),
    "explain_task_execution": ((8,), WHY),
    "explain_task": ((7, "t"), WHY),
    "explain_workflow": (("wf", "ns"), WorkflowExplanation("it starts", INFO, (), (WAIT,))),
    "explain_event": (
        (9,),
        EventExplanation("led to", 9, LETTER.event, (DECISION,), (TASK,)),
    ),
}


class Recorder:
    """What the scheduler over there was asked, and what it is to answer instead."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.request_ids: list[str] = []
        self.raises: BaseException | None = None
        self.hold = threading.Event()
        self.hold.set()

    def answer(self, name: str, arguments: dict[str, Any]) -> Any:
        self.calls.append((name, arguments))
        self.request_ids.append(current_request_id())
        assert self.hold.wait(30)
        if self.raises is not None:
            raise self.raises
        return CALLS[name][1]


def scheduler_that_tells(recorder: Recorder, *contracts: type) -> Scheduler:
    """A scheduler of these contracts whose every method tells the recorder."""

    def method(name: str) -> Any:
        return lambda self, **arguments: recorder.answer(name, arguments)

    body = {m.name: method(m.name) for m in METHODS.values() if m.contract in contracts}
    scheduler: Scheduler = type("Telling", contracts, body)()
    return scheduler


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def address(recorder: Recorder) -> Iterator[str]:
    with ExitStack() as stack:
        scheduler = scheduler_that_tells(recorder, *CONTRACTS)
        yield RpcEndpoint(port=0).start(stack, None, scheduler)  # type: ignore[arg-type]


@pytest.fixture
def remote(address: str) -> Iterator[RemoteScheduler]:
    with RemoteScheduler(address) as scheduler:
        yield scheduler


def test_every_method_of_every_contract_is_tested_here() -> None:
    assert set(CALLS) == set(METHODS)
    assert len(METHODS) == 53


@pytest.mark.parametrize("name", CALLS)
def test_a_call_arrives_as_it_was_made_and_so_does_its_answer(
    name: str, remote: RemoteScheduler, recorder: Recorder
) -> None:
    arguments, answer = CALLS[name]

    assert getattr(remote, name)(*arguments) == answer

    ((called, arrived),) = recorder.calls
    assert called == name
    assert tuple(arrived.values()) == arguments


def test_defaults_are_those_of_the_contract(remote: RemoteScheduler, recorder: Recorder) -> None:
    remote.list_workflows()

    assert recorder.calls == [
        ("list_workflows", {"namespace": "default", "limit": None, "offset": 0})
    ]


def test_a_call_with_the_wrong_arguments_is_refused_at_once(
    remote: RemoteScheduler, recorder: Recorder
) -> None:
    with pytest.raises(TypeError):
        remote.get_workflow()  # type: ignore[call-arg]

    assert not recorder.calls


def test_a_value_of_the_wrong_type_is_refused_by_the_server(
    remote: RemoteScheduler, recorder: Recorder
) -> None:
    with pytest.raises(UsageError, match=r"get_workflow_execution.*int"):
        remote.get_workflow_execution("seven")  # type: ignore[arg-type]

    assert not recorder.calls


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("workflow", "wf", next_step="Upload it."),
        ConflictError("It runs."),
        AIFlowError("Something else."),
    ],
)
def test_an_error_arrives_as_it_was_raised(
    error: AIFlowError, remote: RemoteScheduler, recorder: Recorder
) -> None:
    recorder.raises = error

    with pytest.raises(type(error)) as raised:
        remote.get_workflow("wf")

    assert raised.value.to_wire() == error.to_wire()


def test_what_nobody_expected_stays_in_the_servers_log(
    remote: RemoteScheduler, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.raises = ZeroDivisionError("secret of the server")

    with pytest.raises(AIFlowError, match="internal error") as raised:
        remote.get_workflow("wf")

    assert "secret" not in str(raised.value)
    assert "secret of the server" in caplog.text
    assert recorder.request_ids[0] in str(raised.value)
    assert recorder.request_ids[0] in caplog.text


def test_each_call_is_a_request_of_its_own(remote: RemoteScheduler, recorder: Recorder) -> None:
    remote.start_workflow_execution("wf")
    remote.start_workflow_execution("wf")

    assert len(set(recorder.request_ids)) == 2


def test_what_the_scheduler_does_not_offer_is_said(recorder: Recorder) -> None:
    with ExitStack() as stack:
        scheduler = scheduler_that_tells(recorder, Scheduler)
        address = RpcEndpoint(port=0).start(stack, None, scheduler)  # type: ignore[arg-type]
        remote = stack.enter_context(RemoteScheduler(address))

        assert remote.get_workflow("wf") == INFO
        with pytest.raises(UsageError, match="offers no triggers"):
            remote.get_workflow_trigger(1)


class TestAServerThatIsAway:
    def test_is_said_to_be_away(self) -> None:
        with (
            RemoteScheduler(f"127.0.0.1:{free_port()}", patience=0.2) as remote,
            pytest.raises(UnavailableError, match=r"does not answer.*aiflow server start -d"),
        ):
            remote.list_workflows()

    def test_is_waited_for_under_one_request_id(self, recorder: Recorder) -> None:
        """The first server dies amid the call; the second one answers it."""
        port = free_port()
        seen: list[str] = []
        reached = threading.Event()

        class Dying(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, details: Any) -> Any:
                def die(body: bytes, context: grpc.ServicerContext) -> bytes:
                    seen.append(dict(context.invocation_metadata())[REQUEST_ID])
                    reached.set()
                    context.abort(grpc.StatusCode.UNAVAILABLE, "going down")
                    raise AssertionError

                return grpc.unary_unary_rpc_method_handler(die)

        with ExitStack() as stack:
            from concurrent.futures import ThreadPoolExecutor

            pool = stack.enter_context(ThreadPoolExecutor(2))
            first = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
            first.add_generic_rpc_handlers([Dying()])
            first.add_insecure_port(f"127.0.0.1:{port}")
            first.start()
            remote = stack.enter_context(RemoteScheduler(f"127.0.0.1:{port}", patience=20))
            answer = pool.submit(remote.start_workflow_execution, "wf")
            assert reached.wait(10)
            first.stop(None).wait()
            scheduler = scheduler_that_tells(recorder, *CONTRACTS)
            RpcEndpoint(port=port).start(stack, None, scheduler)  # type: ignore[arg-type]

            assert answer.result(30) == EXECUTION

        assert len(recorder.calls) == 1
        assert set(seen) == set(recorder.request_ids)

    def test_that_takes_too_long_is_a_time_out(self, address: str, recorder: Recorder) -> None:
        recorder.hold.clear()
        with RemoteScheduler(address, timeout=0.2) as remote:
            with pytest.raises(WaitTimeoutError, match="did not answer get_workflow"):
                remote.get_workflow("wf")
            recorder.hold.set()

    def test_that_is_something_else_is_said_to_be(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(1))
            other = grpc.server(pool)
            port = other.add_insecure_port("127.0.0.1:0")
            other.start()
            stack.callback(lambda: other.stop(None).wait())
            remote = stack.enter_context(RemoteScheduler(f"127.0.0.1:{port}"))

            with pytest.raises(AIFlowError, match="does not know list_workflows"):
                remote.list_workflows()


class TestAnEndpoint:
    def test_does_not_share_its_port(self, address: str, recorder: Recorder) -> None:
        port = int(address.rpartition(":")[2])

        with (
            ExitStack() as stack,
            pytest.raises(ConflictError, match=f"Port {port} of .* is in use"),
        ):
            RpcEndpoint(port=port).start(
                stack,
                None,  # type: ignore[arg-type]
                scheduler_that_tells(recorder, *CONTRACTS),
            )

    def test_says_which_address_it_cannot_have(self, recorder: Recorder) -> None:
        with ExitStack() as stack, pytest.raises(ConfigError, match=r"192\.0\.2\.1:"):
            RpcEndpoint(host="192.0.2.1", port=0).start(
                stack,
                None,  # type: ignore[arg-type]
                scheduler_that_tells(recorder, *CONTRACTS),
            )
