"""The test kit for workflow authors: the real engine, in virtual time, in the author's process."""

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aiflow_core import Condition, Context, Event, TaskAction, ValueStateDescriptor, Workflow
from aiflow_core.errors import NotFoundError, UsageError
from aiflow_core.model.algebra import absent, all_of, count, each, event
from aiflow_core.model.condition import SingleEventCondition
from aiflow_core.model.status import TaskStatus
from aiflow_core.specs.operator import Operator, TaskContext
from aiflow_core.testing.workflow import RUNS_ON, SUCCEEDS, Attempt, WorkflowTest
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator

Make = Callable[..., WorkflowTest]

FILE = """
from helper import COMMAND
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="one") as one:
    BashOperator("task", COMMAND)

with Workflow(name="two", namespace="other") as two:
    BashOperator("task", COMMAND)
"""


class Sum(Condition):
    """Met when the values add up to ten."""

    def is_met(self, event: Event, context: Context) -> bool:
        state = context.get_state(ValueStateDescriptor("sum"))
        state.update((state.value() or 0) + int(event.value or ""))
        return bool(state.value() >= 10)


def reports(**options: object) -> Workflow:
    """`train` follows `prepare`; `validate` starts by an event."""
    with Workflow(name="reports") as workflow:
        prepare = BashOperator("prepare", "true", **options)
        train = BashOperator("train", "true")
        train.start_after(prepare)
        validate = BashOperator("validate", "true")
        validate.action_on_event_received(TaskAction.START, "model_ready")
        validate.action_on_event_received(TaskAction.STOP, "enough")
    return workflow


@pytest.fixture
def flow(aiflow_workflow: Make) -> WorkflowTest:
    flow = aiflow_workflow(reports())
    flow.start()
    return flow


class TestWhatHappens:
    def test_tasks_wait_for_the_test(self, flow: WorkflowTest) -> None:
        assert flow.statuses() == {"prepare": "RUNNING", "train": None, "validate": None}

        flow.succeed("prepare")
        flow.assert_status("train", "RUNNING")
        flow.fail("train", "no such file")

        flow.assert_ended("FAILED")
        assert flow.execution().reason == "task 'train' FAILED: no such file"

    def test_events_start_and_stop_tasks(self, flow: WorkflowTest) -> None:
        flow.send("model_ready", namespace="elsewhere")
        flow.assert_status("validate", None)
        flow.send("model_ready")
        flow.assert_status("validate", "RUNNING")
        flow.send("enough")

        flow.assert_status("validate", "STOPPED")
        flow.assert_decision("validate", "STOP", because="rule 2")

    def test_an_event_may_be_for_one_execution(self, flow: WorkflowTest) -> None:
        other = flow.start()

        flow.send("model_ready", only=1)

        flow.assert_status("validate", "RUNNING", execution=1)
        flow.assert_status("validate", None, execution=other)

    def test_retries_and_timeouts_are_a_matter_of_virtual_time(self, aiflow_workflow: Make) -> None:
        flow = aiflow_workflow(reports(retries=1, retry_delay=3600, timeout=60))
        flow.start()

        flow.advance(seconds=61)
        flow.assert_status("prepare", "RETRYING")
        flow.advance(hours=1)
        flow.assert_status("prepare", "RUNNING")
        flow.succeed("prepare")

        flow.assert_runs("prepare", 1)
        flow.assert_status("train", "RUNNING")

    def test_attempts_go_as_planned(self, aiflow_workflow: Make) -> None:
        flow = aiflow_workflow(reports(retries=2), tasks=SUCCEEDS)
        flow.plan("prepare", Attempt(ends=TaskStatus.FAILED, reason="busy"), Attempt(after=90))
        flow.start()

        flow.assert_status("prepare", "RETRYING")
        flow.advance(seconds=80)
        flow.assert_status("prepare", "RUNNING")
        flow.advance(seconds=20)

        flow.assert_ended("SUCCESS")
        assert flow.runs("prepare")[0].try_number == 2

    def test_a_task_is_acted_on_by_hand(self, flow: WorkflowTest) -> None:
        flow.act("validate", "START")
        flow.act("prepare", TaskAction.RESTART)
        flow.stop()

        flow.assert_runs("prepare", 2)
        flow.assert_ended("STOPPED")

    def test_triggers_and_schedules_start_executions(self, aiflow_workflow: Make) -> None:
        flow = aiflow_workflow(reports(), start=datetime(2024, 2, 28, 23, tzinfo=UTC))
        flow.add_trigger(SingleEventCondition("go"))
        flow.add_schedule("cron@0 0 * * *")
        flow.send("go")
        flow.assert_executions(1)

        flow.advance_to(datetime(2024, 3, 1, 0, 0, tzinfo=UTC))

        flow.assert_executions(3)
        assert flow.execution().begin_date == flow.now
        flow.enable(False)
        flow.advance(timedelta(days=7))
        flow.assert_executions(3)

    def test_a_condition_of_the_authors_is_evaluated_in_the_process_of_the_test(
        self, aiflow_workflow: Make
    ) -> None:
        with Workflow(name="sums") as workflow:
            BashOperator("anchor", "true")
            BashOperator("act", "true").action_on_condition(TaskAction.START, Sum(["number"]))
        flow = aiflow_workflow(workflow)
        flow.start()

        flow.send("number", "4")
        flow.assert_status("act", None)
        flow.send("number", "six")
        assert [x.error[:10] for x in flow.dead_letters] == ["ValueError"]
        flow.send("number", "6")

        flow.assert_status("act", "RUNNING")

    def test_a_trigger_may_have_a_condition_of_the_authors(self, aiflow_workflow: Make) -> None:
        flow = aiflow_workflow(reports())
        flow.add_trigger(Sum(["number"]))

        flow.send("number", "7")
        flow.assert_executions(0)
        flow.send("number", "7")

        flow.assert_executions(1)

    def test_python_tasks_can_really_be_executed(self, aiflow_workflow: Make) -> None:
        done: list[str] = []

        def fail() -> None:
            raise RuntimeError("no luck")

        with Workflow(name="python") as workflow:
            first = PythonOperator("first", done.append, op_args=["first"])
            second = PythonOperator("second", fail)
            second.start_after(first)
        flow = aiflow_workflow(workflow)
        flow.execute("first", "second")
        flow.start()

        assert done == ["first"]
        flow.assert_status("second", "FAILED")
        assert flow.runs("second")[0].reason == "RuntimeError: no luck"


def alarms() -> Workflow:
    """`alarm` starts when no `done` has followed a `begun` of the day within ten minutes, and
    `merge` when both halves of a day have come, each time."""
    with Workflow(name="alarms") as workflow:
        alarm = BashOperator("alarm", "true")
        silence = absent(event("done"), after=event("begun"), within=600, by="value.day")
        alarm.action_on_condition(TaskAction.START, silence)
        merge = BashOperator("merge", "true")
        both = all_of(event("left"), event("right"), by="value.day")
        merge.action_on_condition(TaskAction.START, each(both))
    return workflow


class TestPatterns:
    @pytest.fixture
    def flow(self, aiflow_workflow: Make) -> WorkflowTest:
        flow = aiflow_workflow(alarms())
        flow.start()
        return flow

    def test_time_is_let_pass_over_the_window_of_an_absence(self, flow: WorkflowTest) -> None:
        flow.send("begun", '{"day": "mon"}')
        flow.send("begun", '{"day": "tue"}')
        flow.send("done", '{"day": "mon"}')
        flow.advance(minutes=9)
        (wait, *_) = flow.explain("alarm").waits
        assert "600 s without an event with key 'done' of value.day \"tue\"" in wait.text
        assert wait.until is not None
        assert wait.until - flow.now < timedelta(minutes=2)
        flow.assert_status("alarm", None)

        flow.advance(minutes=1, seconds=1)

        flow.assert_status("alarm", "RUNNING")
        flow.assert_decision("alarm", "START", because="rule 1 (absent(done, begun")
        flow.assert_runs("alarm", 1)

    def test_a_test_that_fails_says_what_is_lacked(self, flow: WorkflowTest) -> None:
        flow.send("left", '{"day": "mon"}')

        with pytest.raises(AssertionError) as failure:
            flow.assert_status("merge", "RUNNING")

        lacked = "rule 1 (START) waits for an event with key 'right' of value.day \"mon\""
        assert lacked in str(failure.value)

    def test_matches_wait_while_the_task_runs(self, flow: WorkflowTest) -> None:
        for day in ("mon", "tue", "wed"):
            flow.send("left", f'{{"day": "{day}"}}')
            flow.send("right", f'{{"day": "{day}"}}')

        flow.assert_runs("merge", 1)
        flow.assert_decision("merge", "START waits")
        assert flow.explain("merge").waits[0].text.startswith("2 matches wait until it has ended")

        flow.succeed("merge")
        flow.succeed("merge")
        flow.assert_runs("merge", 3)

    def test_a_trigger_may_be_a_pattern(self, aiflow_workflow: Make) -> None:
        flow = aiflow_workflow(alarms())
        flow.add_trigger(count(event("late"), 2, within=60))

        flow.send("late")
        flow.advance(seconds=61)
        flow.send("late")
        flow.assert_executions(0)
        flow.send("late")

        flow.assert_executions(1)

    def test_an_operator_that_is_really_executed_has_the_events(
        self, aiflow_workflow: Make
    ) -> None:
        found: list[object] = []

        class Looks(Operator):
            def start(self, context: TaskContext) -> None:
                found.append([(e.key, e.value) for e in context.events])

            def await_termination(self, context: TaskContext, timeout: int | None = None) -> None:
                pass

        with Workflow(name="reads") as workflow:
            looks = Looks("looks")
            looks.action_on_condition(TaskAction.START, all_of(event("left"), event("right")))
            told = PythonOperator("told", found.append, op_args=["${event.value.day}"])
            told.action_on_event_received(TaskAction.START, "left")
        flow = aiflow_workflow(workflow)
        flow.execute("looks", "told")
        flow.start()

        flow.send("left", '{"day": "mon"}')
        flow.send("right", "2")

        assert found == ["mon", [("left", '{"day": "mon"}'), ("right", "2")]]
        flow.assert_status("looks", "SUCCESS")


class TestFiles:
    def test_a_file_beside_the_test_is_loaded(self, aiflow_workflow: Make, tmp_path: Path) -> None:
        (tmp_path / "workflow.py").write_text(FILE)
        (tmp_path / "helper.py").write_text("COMMAND = 'true'\n")

        flow = aiflow_workflow(tmp_path / "workflow.py", name="two")
        flow.start()

        assert flow.workflow.namespace == "other"
        flow.assert_status("task", "RUNNING")
        with pytest.raises(UsageError, match="several workflows: one, two"):
            aiflow_workflow(tmp_path / "workflow.py")
        with pytest.raises(UsageError, match="no workflow 'three'"):
            aiflow_workflow(tmp_path / "workflow.py", name="three")

    def test_the_fixture_comes_with_the_installed_package(self, tmp_path: Path) -> None:
        (tmp_path / "helper.py").write_text("COMMAND = 'true'\n")
        (tmp_path / "flow.py").write_text(FILE)
        (tmp_path / "test_flow.py").write_text(
            textwrap.dedent("""
            def test_it(aiflow_workflow):
                flow = aiflow_workflow("flow.py", name="one")
                flow.start()
                flow.succeed("task")
                flow.assert_ended("SUCCESS")

            def test_that_fails(aiflow_workflow):
                flow = aiflow_workflow("flow.py", name="one")
                flow.start()
                flow.assert_status("task", "SUCCESS")
            """)
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]

        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

        assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
        assert "AssertionError: Task 'task' is RUNNING, it was to be SUCCESS." in done.stdout


class TestMessages:
    """What an author reads when a test fails."""

    def test_a_task_that_has_not_run_says_what_it_waits_for(self, flow: WorkflowTest) -> None:
        with pytest.raises(AssertionError) as failure:
            flow.assert_status("train", "SUCCESS")

        waits = "rule 1 (START) waits for task 'prepare' SUCCESS (it is RUNNING)"
        assert str(failure.value) == (
            "Task 'train' has not run, it was to be SUCCESS.\n"
            f"  Task 'train' of workflow execution 1 has not run: {waits}.\n"
            f"  waits: {waits}"
        )

    def test_a_task_that_was_not_to_run_says_why_it_did(self, flow: WorkflowTest) -> None:
        flow.send("model_ready")

        with pytest.raises(AssertionError, match="it was not to run") as failure:
            flow.assert_status("validate", None)

        assert "decided: START by event" in str(failure.value)
        with pytest.raises(AssertionError, match="was started once, not 2 times"):
            flow.assert_runs("validate", 2)
        with pytest.raises(AssertionError, match="STOP of task 'validate' because of 'rule 9'"):
            flow.assert_decision("validate", "STOP", because="rule 9")

    def test_an_execution_says_how_its_tasks_are(self, flow: WorkflowTest) -> None:
        with pytest.raises(AssertionError) as failure:
            flow.assert_ended("SUCCESS")

        assert str(failure.value) == (
            "Workflow execution 1 is RUNNING, it was to end with SUCCESS.\n"
            "  prepare RUNNING, train None, validate None"
        )
        with pytest.raises(AssertionError, match="There are 1 executions"):
            flow.assert_executions(2)

    def test_what_makes_no_sense_is_refused_in_words(self, flow: WorkflowTest) -> None:
        with pytest.raises(UsageError, match=r"no task 'trian'.*Did you mean 'train'"):
            flow.assert_status("trian", "SUCCESS")
        with pytest.raises(AssertionError, match="Task 'train' has no attempt that runs"):
            flow.succeed("train")
        with pytest.raises(UsageError, match="no execution 7"):
            flow.assert_status("train", None, execution=7)
        with pytest.raises(UsageError, match="does not pass backwards"):
            flow.advance(seconds=-1)
        with pytest.raises(UsageError, match="No execution of workflow 'reports' has been started"):
            WorkflowTest(reports()).assert_status("train", None)

    def test_only_what_has_an_operator_is_executed(self, aiflow_workflow: Make) -> None:
        flow = aiflow_workflow(reports())
        flow.rehearsal.upload(reports().definition())
        flow.rehearsal._operators.clear()
        flow.execute("prepare")

        with pytest.raises(NotFoundError, match="No such operator: prepare"):
            flow.start()


def test_rules_that_start_one_another_for_ever_are_found(
    aiflow_workflow: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiflow_scheduler_event.simulation._MOST_AT_ONCE", 1000)
    with Workflow(name="circle") as workflow:
        one, other = BashOperator("one", "true"), BashOperator("other", "true")
        one.action_on_task_status(TaskAction.START, {other: TaskStatus.SUCCESS})
        one.action_on_event_received(TaskAction.START, "go")
        other.start_after(one)
    flow = aiflow_workflow(workflow, tasks=SUCCEEDS)
    flow.start()

    with pytest.raises(UsageError, match="events have followed from one another at one moment"):
        flow.send("go")


def test_a_week_of_an_hourly_schedule_takes_no_time(aiflow_workflow: Make) -> None:
    flow = aiflow_workflow(reports(), tasks=SUCCEEDS)
    flow.add_schedule("cron@0 * * * *")
    began = time.perf_counter()

    flow.advance(days=7)

    seconds = time.perf_counter() - began
    flow.assert_executions(168)
    assert {e.status for e in flow.executions} == {"SUCCESS"}
    print(f"a week, 168 executions: {seconds * 1000:.0f} ms")
    assert seconds < 5


def test_an_attempt_that_runs_on_can_be_planned(aiflow_workflow: Make) -> None:
    flow = aiflow_workflow(reports(), tasks=SUCCEEDS)
    flow.plan("train", RUNS_ON)
    flow.start()

    flow.advance(days=1)

    flow.assert_status("train", "RUNNING")
