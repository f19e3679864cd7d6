"""Workflow files, scripts and settings of AIFlow 0.4 go on working."""

import pkgutil
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import ai_flow
from ai_flow.blob_manager.blob_manager_interface import (
    BlobManager,
    BlobManagerConfig,
    BlobManagerFactory,
)
from ai_flow.blob_manager.impl.local_blob_manager import LocalBlobManager
from ai_flow.model.action import TaskAction
from ai_flow.model.context import Context
from ai_flow.model.execution_type import ExecutionType
from ai_flow.model.internal.conditions import (
    MeetAllCondition,
    SingleEventCondition,
    TaskStatusAllMetCondition,
    TaskStatusCondition,
)
from ai_flow.model.internal.contexts import get_runtime_task_context
from ai_flow.model.operator import AIFlowOperator, OperatorConfigItem
from ai_flow.model.rule import TaskRule, WorkflowRule
from ai_flow.model.state import ValueState, ValueStateDescriptor
from ai_flow.model.status import TASK_ALIVE_SET, TASK_FINISHED_SET, TaskStatus, WorkflowStatus
from ai_flow.model.task_execution import TaskExecution, TaskExecutionKey
from ai_flow.model.workflow import Workflow, WorkflowContextManager
from ai_flow.model.workflow_execution import WorkflowExecution
from ai_flow.operators.bash import BashOperator
from ai_flow.ops.absent import none_if_absent
from aiflow_core.bundle import load_workflows
from aiflow_core.errors import ConflictError, DefinitionError, NotFoundError, UsageError
from aiflow_core.model.condition import CustomCondition
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, RunningTask
from aiflow_core.model.rule import TaskRule as KeptRule
from aiflow_core.plugins import make

# What the 0.4 manual and reference import, by module.
IMPORTS = {
    "ai_flow": "ops",
    "ai_flow.blob_manager.blob_manager_interface": "BlobManager BlobManagerConfig",
    "ai_flow.common.exception.exceptions": "AIFlowException",
    "ai_flow.context.project_context": "current_project_config",
    "ai_flow.model.action": "TaskAction",
    "ai_flow.model.condition": "Condition",
    "ai_flow.model.context": "Context",
    "ai_flow.model.execution_type": "ExecutionType",
    "ai_flow.model.internal.conditions": "SingleEventCondition MeetAnyCondition",
    "ai_flow.model.operator": "AIFlowOperator Operator OperatorConfigItem",
    "ai_flow.model.rule": "TaskRule WorkflowRule",
    "ai_flow.model.state": "State StateDescriptor StateType ValueState ValueStateDescriptor",
    "ai_flow.model.status": "TaskStatus WorkflowStatus WORKFLOW_ALIVE_SET WORKFLOW_FINISHED_SET",
    "ai_flow.model.task_execution": "TaskExecution TaskExecutionKey",
    "ai_flow.model.workflow": "Workflow WorkflowContextManager",
    "ai_flow.model.workflow_execution": "WorkflowExecution",
    "ai_flow.notification.notification_client": (
        "AIFlowNotificationClient Event ListenerProcessor ListenerRegistrationId"
    ),
    "ai_flow.notification_client": "AIFlowNotificationClient",
    "ai_flow.operators.bash": "BashOperator",
    "ai_flow.operators.flink.flink_operator": "FlinkOperator",
    "ai_flow.operators.python": "PythonOperator",
    "ai_flow.operators.spark.spark_sql": "SparkSqlOperator",
    "ai_flow.operators.spark.spark_submit": "SparkSubmitOperator",
    "ai_flow.ops": (
        "add_namespace add_workflow_schedule add_workflow_trigger delete_namespace "
        "delete_workflow delete_workflow_execution delete_workflow_schedule "
        "delete_workflow_schedules delete_workflow_snapshot delete_workflow_snapshots "
        "delete_workflow_trigger delete_workflow_triggers disable_workflow enable_workflow "
        "get_namespace get_task_execution get_workflow get_workflow_execution "
        "get_workflow_schedule get_workflow_snapshot get_workflow_trigger list_namespace "
        "list_task_executions list_workflow_executions list_workflow_schedules "
        "list_workflow_snapshots list_workflow_triggers list_workflows "
        "pause_workflow_schedule pause_workflow_trigger resume_workflow_schedule "
        "resume_workflow_trigger start_task_execution start_workflow_execution "
        "stop_task_execution stop_workflow_execution stop_workflow_executions "
        "update_namespace upload_workflows"
    ),
    "ai_flow.ops.namespace_ops": "add_namespace",
    "ai_flow.ops.task_execution_ops": "start_task_execution",
    "ai_flow.ops.workflow_execution_ops": "start_workflow_execution",
    "ai_flow.ops.workflow_ops": "upload_workflows",
    "ai_flow.ops.workflow_schedule_ops": "add_workflow_schedule",
    "ai_flow.ops.workflow_snapshot_ops": "list_workflow_snapshots",
    "ai_flow.ops.workflow_trigger_ops": "add_workflow_trigger",
    "ai_flow.plugin_interface.blob_manager_interface": "BlobConfig BlobManagerFactory BlobManager",
    "ai_flow.version": "__version__",
    "ai_flow.workflow.workflow": "WorkflowPropertyKeys",
    "ai_flow.blob_manager.impl.hdfs_blob_manager": "HDFSBlobManager",
    "ai_flow.blob_manager.impl.oss_blob_manager": "OssBlobManager",
    "ai_flow.blob_manager.impl.s3_blob_manager": "S3BlobManager",
    "ai_flow_plugins.blob_manager_plugins.hdfs_blob_manager": "HDFSBlobManager",
    "ai_flow_plugins.blob_manager_plugins.local_blob_manager": "LocalBlobManager",
    "ai_flow_plugins.blob_manager_plugins.oss_blob_manager": "OssBlobManager",
    "ai_flow_plugins.blob_manager_plugins.s3_blob_manager": "S3BlobManager",
    "notification_service.model.event": "Event",
}


@pytest.mark.parametrize("module", IMPORTS)
def test_what_the_manual_imports_can_be_imported(module: str) -> None:
    import_module("ai_flow.ops")
    found = import_module(module)

    assert not [name for name in IMPORTS[module].split() if not hasattr(found, name)]


def test_every_module_says_what_it_offers() -> None:
    for found in pkgutil.walk_packages(ai_flow.__path__, "ai_flow."):
        module = import_module(found.name)
        assert module.__doc__, found.name
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{found.name}.{name}"


def test_an_operator_of_ones_own_takes_its_name_as_task_name() -> None:
    class Shout(AIFlowOperator):
        def __init__(self, name: str, word: str, **kwargs: Any) -> None:
            super().__init__(task_name=name, **kwargs)
            self.word = word

        def start(self, context: Any) -> None:
            print(self.word)

    with Workflow(name="wf") as workflow:
        shout = Shout("shout", "hey", **{OperatorConfigItem.PERIODIC_EXPRESSION: "cron@* * * * *"})

    assert workflow.tasks == {"shout": shout}
    assert workflow.definition().tasks[0].params is None


def test_a_workflow_is_entered_and_left_without_a_with_block() -> None:
    workflow = Workflow(name="wf")

    WorkflowContextManager.push_context_managed_workflow(workflow)
    task = BashOperator(name="t", bash_command="true")
    assert WorkflowContextManager.get_current_workflow() is workflow
    assert WorkflowContextManager.pop_context_managed_workflow() is workflow

    assert WorkflowContextManager.get_current_workflow() is None
    assert WorkflowContextManager.pop_context_managed_workflow() is None
    assert workflow.tasks == {"t": task}


def test_conditions_are_made_as_before() -> None:
    with Workflow(name="wf") as workflow:
        first = BashOperator(name="first", bash_command="true")
        second = BashOperator(name="second", bash_command="true")
    both = MeetAllCondition(
        name="both", conditions=[SingleEventCondition("a"), SingleEventCondition("b")]
    )
    done = TaskStatusAllMetCondition(
        [TaskStatusCondition("wf", "first", "default", TaskStatus.SUCCESS)]
    )

    second.action_on_condition(action=TaskAction.START, condition=both)
    workflow.action_on_condition("second", TaskAction.STOP, done)

    rules = workflow.definition().tasks[1].rules
    assert [rule.condition.expect_event_keys for rule in rules] == [["a", "b"], []]
    assert rules[1].condition.statuses == {first.name: TaskStatus.SUCCESS}


def test_each_status_is_alive_or_finished() -> None:
    assert set(TaskStatus) == TASK_ALIVE_SET | TASK_FINISHED_SET
    assert not TASK_ALIVE_SET & TASK_FINISHED_SET


def test_a_task_finds_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_runtime_task_context() is None

    key = AttemptKey(workflow_execution_id=1, task_name="t", sequence_number=2)
    running = RunningTask(
        namespace="ns", workflow_name="wf", key=key, notification_uri="localhost:1"
    )
    for name, value in running.to_environment().items():
        monkeypatch.setenv(name, value)

    context = get_runtime_task_context()
    assert context is not None
    assert (context.namespace, str(context.task_execution_key)) == ("ns", "1_t_2")


def test_what_is_absent_is_none_and_nothing_else_is() -> None:
    def get(answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert none_if_absent(get)(1) == 1
    assert none_if_absent(get)(NotFoundError("workflow", "wf")) is None
    with pytest.raises(ConflictError):
        none_if_absent(get)(ConflictError("no"))


class DropBox(BlobManager):
    """A blob manager as the manual says to write one."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.box = Path(config["box"])

    def upload(self, local_file_path: str | Path) -> str:
        source = Path(local_file_path)
        (self.box / source.name).write_bytes(source.read_bytes())
        return source.name

    def download(self, remote_file_path: str, local_dir: str | Path) -> Path:
        target = Path(local_dir) / remote_file_path
        target.write_bytes((self.box / remote_file_path).read_bytes())
        return target


class TestBlobManagers:
    def test_one_of_ones_own_is_made_from_the_settings(self, tmp_path: Path) -> None:
        (tmp_path / "box").mkdir()
        (tmp_path / "back").mkdir()
        (tmp_path / "file").write_text("content")
        name = f"{__name__}.DropBox"

        made = make("aiflow.blob_manager", name, {"box": str(tmp_path / "box")})

        back = made.download(made.upload(tmp_path / "file"), tmp_path / "back")
        assert back.read_text() == "content"
        place = made.download_project("1", made.upload_project("1", tmp_path / "back"), tmp_path)
        assert (Path(place) / "file").read_text() == "content"
        with pytest.raises(UsageError, match=r"written for AIFlow 0\.4 and cannot list"):
            list(made.list_blobs())
        assert DropBox({"box": "/x"}).box == DropBox(config={"box": "/x"}).box == Path("/x")

    def test_the_names_of_the_default_one_mean_the_local_one(self, tmp_path: Path) -> None:
        for name in (
            "ai_flow.blob_manager.impl.local_blob_manager.LocalBlobManager",
            "ai_flow_plugins.blob_manager_plugins.local_blob_manager.LocalBlobManager",
        ):
            config = {
                "blob_manager_class": name,
                "blob_manager_config": {"root_directory": str(tmp_path)},
            }
            made = BlobManagerFactory.create_blob_manager(BlobManagerConfig(config))
            assert type(made) is LocalBlobManager

    def test_a_task_makes_the_one_of_its_project(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As section 6.1.2 of the manual does."""
        from ai_flow.context.project_context import current_project_config
        from ai_flow.plugin_interface.blob_manager_interface import BlobConfig
        from ai_flow.workflow.workflow import WorkflowPropertyKeys

        monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
        (tmp_path / "file").write_text("content")

        blob_config = BlobConfig(current_project_config().get(WorkflowPropertyKeys.BLOB))
        blob_manager = BlobManagerFactory.create_blob_manager(
            blob_config.blob_manager_class(), blob_config.blob_manager_config()
        )

        uri = blob_manager.upload(local_file_path=tmp_path / "file")
        assert Path(uri).is_relative_to(tmp_path / "blob")


class TestRules:
    GO = Event("go", "1", namespace="default")

    def test_a_rule_says_what_to_do_on_an_event(self) -> None:
        rule = TaskRule(SingleEventCondition("go"), TaskAction.STOP)

        assert rule.trigger(self.GO, AnyContext()) is TaskAction.STOP
        assert rule.trigger(Event("other"), AnyContext()) is None
        assert WorkflowRule(SingleEventCondition("go")).trigger(self.GO, AnyContext()) is True
        assert WorkflowRule(SingleEventCondition("x")).trigger(self.GO, AnyContext()) is False

    def test_the_rule_that_is_kept_says_the_same_unless_it_is_code(self) -> None:
        kept = KeptRule(TaskAction.STOP, SingleEventCondition("go"))
        code = KeptRule(TaskAction.STOP, CustomCondition(("go",), place="t/0"))

        assert kept.trigger(self.GO, AnyContext()) is TaskAction.STOP
        with pytest.raises(UsageError, match="only evaluated by the server"):
            code.trigger(self.GO, AnyContext())


class AnyContext(Context):
    def get_state(self, state_descriptor: ValueStateDescriptor) -> ValueState:
        return ValueState()

    def get_task_status(self, task_name: str) -> TaskStatus | None:
        return None


def test_executions_are_made_as_before() -> None:
    execution = WorkflowExecution(
        1, ExecutionType.EVENT, datetime.min, datetime.max, WorkflowStatus.SUCCESS
    )
    task = TaskExecution(7, "t", 2, ExecutionType.MANUAL)

    assert (execution.id, execution.status) == (None, "SUCCESS")
    assert (task.status, task.begin_date, task.id) == ("INIT", None, None)
    assert str(TaskExecutionKey(7, "t", seq_num=2)) == "7_t_2"


def test_the_home_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_flow import settings

    monkeypatch.setenv("AIFLOW_HOME", "/somewhere")
    assert settings.AIFLOW_HOME == "/somewhere"
    with pytest.raises(AttributeError):
        settings.AIFLOW_HOUSE  # noqa: B018  (to look it up is the test)


@pytest.mark.parametrize(
    ("module", "name", "plugin"),
    [
        ("flink.flink_operator", "FlinkOperator", "aiflow-operator-flink"),
        ("spark.spark_submit", "SparkSubmitOperator", "aiflow-operator-spark"),
        ("spark.spark_sql", "SparkSqlOperator", "aiflow-operator-spark"),
    ],
)
def test_an_operator_whose_plugin_is_missing_says_what_to_install(
    module: str, name: str, plugin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = plugin.replace("-", "_")
    monkeypatch.setitem(sys.modules, f"{package}.operator", None)
    monkeypatch.delitem(sys.modules, f"ai_flow.operators.{module}", raising=False)
    file = tmp_path / "workflow.py"
    file.write_text(f"from ai_flow.operators.{module} import {name}\n")

    with pytest.raises(DefinitionError, match=rf"{name} needs .* Run `pip install {plugin}`"):
        load_workflows(file)
