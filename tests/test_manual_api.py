"""Every name of the Python API of the AIFlow 0.4 manual is there, and can be called as it says.

`tests/manual/api.yaml` is what the manual's chapter on the Python API says.
"""

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import ai_flow.ops
from aiflow_core import SingleEventCondition, WorkflowRule
from aiflow_core.errors import AIFlowError

from .served import Served, served
from .servers import until

FACTS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "manual/api.yaml").read_text())
NAMES = [(module, name) for module, facts in FACTS.items() for name in facts["names"]]
FUNCTIONS = {
    name: facts["returns"]
    for module in FACTS.values()
    for name, facts in module["names"].items()
    if "call" in facts
}


def parameters(text: str) -> list[tuple[str, str | None]]:
    """Name and default of each parameter in a text such as `a, b=None`."""
    parts = [part.partition("=") for part in text.split(", ") if part]
    return [(name, default if equals else None) for name, equals, default in parts]


def check_signature(callable: Callable[..., Any], text: str, bound: bool = False) -> None:
    """It can be called with these parameters, by position and by name, and needs no others."""
    ours = list(inspect.signature(callable).parameters.values())[1 if bound else 0 :]
    named = [p for p in ours if p.kind is not p.VAR_KEYWORD]
    wanted = parameters(text)
    if wanted and wanted[-1][0] == "**kwargs":
        assert ours[-1].kind is inspect.Parameter.VAR_KEYWORD
        wanted.pop()
    assert [p.name for p in named[: len(wanted)]] == [name for name, _ in wanted]
    for ours_, (name, default) in zip(named, wanted, strict=False):
        if default is not None:
            assert str(ours_.default) == default, name
    assert all(p.default is not p.empty for p in named[len(wanted) :])


def resolved(module: str, name: str) -> Any:
    if "." in name:
        module, _, name = name.rpartition(".")
    return getattr(import_module(module), name)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_every_name_is_what_the_manual_says(module: str, name: str) -> None:
    facts, found = FACTS[module]["names"][name], resolved(module, name)

    if "call" in facts:
        check_signature(found, facts["call"])
    if "init" in facts:
        init = found.__init__
        is_written = inspect.isfunction(init)
        check_signature(init if is_written else found, facts["init"], bound=is_written)
    for method, text in facts.get("methods", {}).items():
        is_bound = not inspect.ismethod(getattr(found, method))
        check_signature(getattr(found, method), text, bound=is_bound)
    if "bases" in facts:
        assert issubclass(found, resolved(module, facts["bases"]))
    if "members" in facts:
        assert {m.name: str(m.value) for m in found} == {n: n for n in facts["members"].split()}
    for constant, value in facts.get("constants", {}).items():
        assert getattr(found, constant) == value


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_the_same_is_there_without_the_old_import_names(module: str, name: str) -> None:
    here = FACTS[module].get("here")
    if here is None:
        assert resolved(module, name) is not None
        return
    found, facts = resolved(here, name), FACTS[module]["names"][name]
    if "call" in facts:
        # `add_namespace` may be called without properties.
        check_signature(found, facts["call"])


# --- what functions return ---------------------------------------------------------------------

FILE = """
from ai_flow.model.workflow import Workflow
from ai_flow.operators.bash import BashOperator

with Workflow(name="wf") as workflow:
    BashOperator(name="t", bash_command="sleep 600")
"""
METAS = {
    "NamespaceMeta": ("namespace", "name properties"),
    "WorkflowMeta": (
        "workflow",
        "id name namespace create_time update_time is_enabled event_offset",
    ),
    "WorkflowExecutionMeta": (
        "workflow_execution",
        "id workflow_id begin_date end_date status run_type snapshot_id event_offset",
    ),
    "TaskExecutionMeta": (
        "task_execution",
        "id workflow_execution_id task_name sequence_number try_number begin_date end_date status",
    ),
    "WorkflowScheduleMeta": (
        "workflow_schedule",
        "id workflow_id expression create_time is_paused",
    ),
    "WorkflowEventTriggerMeta": (
        "workflow_event_trigger",
        "id workflow_id rule create_time is_paused",
    ),
    "WorkflowSnapshotMeta": ("workflow_snapshot", "id workflow_id create_time uri signature"),
}
ABSENT = 987654


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("api")) as running:
        (running.home / "wf.py").write_text(FILE)
        (running.home / "words.txt").write_text("hello")
        yield running


def check_meta(value: Any, name: str) -> None:
    module, attributes = METAS[name]
    assert isinstance(value, resolved(f"ai_flow.metadata.{module}", name))
    for attribute in attributes.split():
        assert hasattr(value, attribute), attribute


class Checked:
    """Calls functions of `ai_flow.ops`, and checks what they return."""

    def __init__(self) -> None:
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.called.add(name)
            result = getattr(ai_flow.ops, name)(*args, **kwargs)
            self._check(result, FUNCTIONS[name])
            return result

        return call

    def _check(self, result: Any, expected: str) -> None:
        kind, _, item = expected.partition(" of ")
        meta = expected.removesuffix(" or None")
        if kind == "list":
            assert isinstance(result, list)
            for one in result:
                check_meta(one, item)
        elif meta in METAS:
            if result is not None or meta == expected:
                check_meta(result, meta)
        elif expected in ("int", "str"):
            assert type(result).__name__ == expected
        elif expected == "nothing":
            assert result is None


def test_every_function_returns_what_the_manual_says(deployment: Served) -> None:
    ops = Checked()
    # Nothing is there yet: a list is empty, one thing is None.
    assert ops.list_workflows() == []
    for kind in ("task_execution", "workflow_execution", "workflow_schedule", "workflow_trigger"):
        assert getattr(ops, f"get_{kind}")(ABSENT) is None
    assert ops.get_workflow_snapshot(ABSENT) is None
    assert ops.get_workflow("absent") is None
    assert ops.get_namespace("absent") is None
    assert ops.update_namespace("absent", {}) is None

    assert ops.add_namespace("lab", {"team": "vision"}).properties == {"team": "vision"}
    assert ops.get_namespace("lab").name == "lab"
    assert ops.update_namespace(name="lab", properties={"size": 3}).properties == {"size": 3}
    assert [n.name for n in ops.list_namespace(limit=1, offset=1)] == ["lab"]
    ops.delete_namespace("lab")

    (workflow,) = ops.upload_workflows("wf.py", artifacts=["words.txt"])
    assert workflow.name == "wf"
    ops.upload_workflows(workflow_file_path="wf.py")
    assert ops.get_workflow("wf", "default").id == workflow.id
    ops.disable_workflow("wf")
    assert not ops.get_workflow("wf").is_enabled
    ops.enable_workflow(workflow_name="wf", namespace="default")
    for kind in ("schedules", "triggers", "snapshots", "executions"):
        listed = getattr(ops, f"list_workflow_{kind}")("wf", limit=10, offset=0)
        assert len(listed) == (2 if kind == "snapshots" else 0)

    schedule = ops.add_workflow_schedule("interval@1 0 0 0", "wf")
    assert ops.get_workflow_schedule(schedule.id) == schedule
    ops.pause_workflow_schedule(schedule.id)
    assert ops.get_workflow_schedule(schedule.id).is_paused
    ops.resume_workflow_schedule(schedule_id=schedule.id)
    ops.delete_workflow_schedule(schedule.id)
    ops.delete_workflow_schedules("wf")

    trigger = ops.add_workflow_trigger(WorkflowRule(SingleEventCondition("go")), "wf")
    assert ops.get_workflow_trigger(trigger.id) == trigger
    ops.pause_workflow_trigger(trigger.id)
    assert ops.get_workflow_trigger(trigger.id).is_paused
    ops.resume_workflow_trigger(trigger_id=trigger.id)
    ops.delete_workflow_trigger(trigger.id)
    ops.delete_workflow_triggers("wf")

    execution = ops.start_workflow_execution("wf")
    assert ops.get_workflow_execution(execution).id == execution
    assert [e.id for e in ops.list_workflow_executions("wf")] == [execution]
    (task,) = until(lambda: ops.list_task_executions(execution))
    assert ops.get_task_execution(task.id).task_name == "t"
    assert ops.start_task_execution(execution, "t") == f"{execution}_t_1"
    ops.stop_task_execution(workflow_execution_id=execution, task_name="t")
    other = ops.start_workflow_execution(workflow_name="wf")
    ops.stop_workflow_execution(other)
    ops.stop_workflow_executions("wf")
    for id in (execution, other):
        until(lambda id=id: ops.get_workflow_execution(id).end_date)
    ops.delete_workflow_execution(execution)
    first, _ = ops.list_workflow_snapshots("wf")
    with pytest.raises(AIFlowError, match="in use"):
        ops.delete_workflow_snapshot(ops.list_workflow_snapshots("wf")[-1].id)
    ops.delete_workflow_snapshot(first.id)
    ops.delete_workflow_snapshots("wf")
    ops.delete_workflow("wf")
    assert ops.get_workflow("wf") is None

    assert ops.called == set(FUNCTIONS)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(
            (name, (ABSENT,))
            for name in FUNCTIONS
            if name.startswith(("delete_", "pause_", "resume_"))
        ),
        ("start_workflow_execution", ("absent",)),
        ("stop_workflow_execution", (ABSENT,)),
        ("stop_workflow_executions", ("absent",)),
        ("start_task_execution", (ABSENT, "t")),
        ("stop_task_execution", (ABSENT, "t")),
        ("enable_workflow", ("absent",)),
        ("disable_workflow", ("absent",)),
        ("list_workflow_executions", ("absent",)),
        ("upload_workflows", ("absent.py",)),
        ("add_workflow_schedule", ("interval0 0 10 0", "absent")),
    ],
)
def test_what_fails_says_so_in_one_sentence(
    name: str, arguments: tuple[Any, ...], deployment: Served
) -> None:
    from ai_flow.common.exception.exceptions import AIFlowException

    if "namespace" in name or name.endswith("s") or name == "delete_workflow":
        arguments = tuple("absent" if argument == ABSENT else argument for argument in arguments)
    with pytest.raises(AIFlowException) as raised:
        getattr(ai_flow.ops, name)(*arguments)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in str(raised.value)
