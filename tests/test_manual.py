"""The workflows of the AIFlow 0.4 manual do here what the manual says they do.

`tests/manual/` holds the Python blocks of its sections 1.2, 3.1.1 and 4.1 to 4.9 as they are
printed, import names and all; only the line breaks of the print are undone. They run on two servers
that are set up with the manual's own commands. Where a block sleeps for long, the test shortens
that in the copy that it uploads, and says so.
"""

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from .servers import TwoServers

MANUAL = Path(__file__).parent / "manual"


def printed(folder: Path, *blocks: str, name: str = "workflow.py", **shorter: str) -> Path:
    """A file with these blocks; in each value of `shorter` "A -> B", A becomes B."""
    text = "\n\n".join((MANUAL / block).read_text() for block in blocks)
    for change in shorter.values():
        before, after = change.split(" -> ")
        assert before in text
        text = text.replace(before, after)
    file = folder / name
    file.write_text(text)
    return file


def moment(row: dict[str, Any], which: str) -> datetime:
    return datetime.fromisoformat(row[which])


def test_quickstart(two_servers: TwoServers, tmp_path: Path) -> None:
    """1.2: task3 starts once task1 and task2 are finished, its event starts task4."""
    file = printed(tmp_path, "quickstart.py")

    said = two_servers.run(f"aiflow workflow upload {file}")
    assert "Workflow: default.quickstart_workflow, submitted." in said
    assert "quickstart_workflow" in two_servers.run("aiflow workflow list --namespace default")

    said = two_servers.run(
        "aiflow workflow-execution start quickstart_workflow --namespace default"
    )
    execution = int(said.split("Workflow execution: ")[1].split()[0])
    said = two_servers.run("aiflow workflow-execution list quickstart_workflow --namespace default")
    assert str(execution) in said

    assert two_servers.ended("quickstart_workflow", execution)["status"] == "SUCCESS"
    rows = {
        row["task_name"]: row for row in two_servers.rows(f"aiflow task-execution list {execution}")
    }
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(
        ["task1", "task2", "task3", "task4"], "SUCCESS"
    )
    assert moment(rows["task3"], "begin_date") >= moment(rows["task1"], "end_date")
    assert moment(rows["task3"], "begin_date") >= moment(rows["task2"], "end_date")
    waited = moment(rows["task4"], "begin_date") - moment(rows["task3"], "begin_date")
    assert waited.total_seconds() >= 5, "task3 sleeps for so long before it sends the event"
    for number, ordinal in enumerate(["1st", "2nd", "4th"]):
        task = ["task1", "task2", "task4"][number]
        assert f"I am the {ordinal} task." in two_servers.log(
            "quickstart_workflow", execution, task
        )
    assert "Sending event with key: key" in two_servers.log(
        "quickstart_workflow", execution, "task3"
    )


def test_tutorial(two_servers: TwoServers, tmp_path: Path) -> None:
    """3.1: a first model is trained, validated, deployed, and predicted with; then a stop.

    Shortened: the 30 s between two batches of data and the 5 s between two looks for a model. The
    data are scikit-learn's digits in files of the manual's names and keys. The directories for the
    models are uploaded with them: as printed, two tasks look whether they are there and make them,
    at the same moment, and now and then one of them fails because the other was faster.
    """
    file = printed(
        tmp_path,
        "tutorial.py",
        batches="time.sleep(30) -> time.sleep(3)",
        looks="time.sleep(5) -> time.sleep(0.2)",
    )
    images, labels = load_digits(return_X_y=True)
    (tmp_path / "dataset").mkdir()
    for number, part in enumerate(["train", "evaluate", "predict"]):
        np.savez(
            tmp_path / "dataset" / f"mnist_{part}.npz",
            x_train=images[number::3].reshape(-1, 8, 8),
            y_train=labels[number::3],
        )

    for directory in ("trained_models", "validated_models", "deployed_models"):
        (tmp_path / "tmp" / directory).mkdir(parents=True)

    files = f"{tmp_path / 'dataset'},{tmp_path / 'tmp'}"
    said = two_servers.run(f"aiflow workflow upload {file} --files {files}")
    assert "Workflow: default.online_machine_learning, submitted." in said
    execution = two_servers.start("online_machine_learning")

    def predicted() -> list[Path]:
        return list(
            two_servers.home.glob(
                f"working_dir/**/online_machine_learning/{execution}/**/tmp/predict_result"
            )
        )

    (result,) = two_servers.until(predicted, 60, lambda: two_servers.tasks(execution))
    two_servers.until(lambda: "predict result: [" in result.read_text())
    tasks = two_servers.tasks(execution)
    for batch_task in ("training", "validating", "deploying"):
        assert (batch_task, "SUCCESS") in tasks
    assert ("pre_processing", "RUNNING") in tasks
    assert ("predicting", "RUNNING") in tasks

    two_servers.run("aiflow workflow-execution stop-all online_machine_learning")
    assert two_servers.ended("online_machine_learning", execution)["status"] == "STOPPED"
    tasks = two_servers.tasks(execution)
    assert ("pre_processing", "STOPPED") in tasks
    assert ("predicting", "STOPPED") in tasks


def test_declaring_uploading_disabling_and_deleting(
    two_servers: TwoServers, tmp_path: Path
) -> None:
    """4.1: from `aiflow workflow upload workflow.py --files f1,f2` to `workflow delete`."""
    printed(tmp_path, "workflows.py")
    (tmp_path / "f1").write_text("one")
    (tmp_path / "f2").write_text("two")
    two_servers.run("aiflow workflow upload workflow.py --files f1,f2", cwd=tmp_path)
    execution = two_servers.start("workflow_name")
    assert two_servers.ended("workflow_name", execution)["status"] == "SUCCESS"
    assert two_servers.tasks(execution) == [("task_1", "SUCCESS"), ("task_2", "SUCCESS")]

    two_servers.run("aiflow workflow disable workflow_name")
    conflict = 4
    two_servers.run("aiflow workflow-execution start workflow_name", expect=conflict)
    two_servers.run("aiflow workflow enable workflow_name")
    execution = two_servers.start("workflow_name")
    assert two_servers.ended("workflow_name", execution)["status"] == "SUCCESS"

    two_servers.run("aiflow workflow delete workflow_name --yes")
    names = [row["workflow_name"] for row in two_servers.rows("aiflow workflow list")]
    assert "workflow_name" not in names


def test_namespaces(two_servers: TwoServers) -> None:
    """4.2: a namespace is added, listed and deleted."""
    two_servers.run("aiflow namespace add user_namespace")
    assert "user_namespace" in two_servers.run("aiflow namespace list")
    two_servers.run("aiflow namespace delete user_namespace --yes")
    assert "user_namespace" not in two_servers.run("aiflow namespace list")


def test_periodic_task(two_servers: TwoServers, tmp_path: Path) -> None:
    """4.4.1: periodic tasks start with the execution and run again, task3 after each task1.

    Shortened: task_2 runs every second, not every minute.
    """
    file = printed(tmp_path, "periodic_tasks.py", interval="interval@0 0 1 0 -> interval@0 0 0 1")
    two_servers.upload(file)
    execution = two_servers.start("periodic_task_example")

    two_servers.until(lambda: two_servers.tasks(execution).count(("task_2", "SUCCESS")) >= 2)
    two_servers.until(lambda: ("task_3", "SUCCESS") in two_servers.tasks(execution))
    tasks = [name for name, _ in two_servers.tasks(execution)]
    assert tasks.index("task_1") < tasks.index("task_3")
    assert two_servers.execution("periodic_task_example", execution)["status"] == "RUNNING"

    two_servers.run("aiflow workflow-execution stop-all periodic_task_example")
    assert two_servers.ended("periodic_task_example", execution)["status"] == "STOPPED"


def test_start_after(two_servers: TwoServers, tmp_path: Path) -> None:
    """4.5.1: task2 starts after task1 succeeded."""
    two_servers.upload(printed(tmp_path, "start_after.py"))
    execution = two_servers.start("my_workflow")

    assert two_servers.ended("my_workflow", execution)["status"] == "SUCCESS"
    first, second = two_servers.rows(f"aiflow task-execution list {execution}")
    assert (first["task_name"], second["task_name"]) == ("task_1", "task_2")
    assert moment(first, "end_date") <= moment(second, "begin_date")


def test_action_on_task_status(two_servers: TwoServers, tmp_path: Path) -> None:
    """4.5.1: task3 does not finish after 100 s, it is stopped when task1 and task2 have succeeded.

    Shortened: task1 and task2 sleep for 1 and 2 s, not for 10 and 20 s.
    """
    file = printed(
        tmp_path,
        "action_on_task_status.py",
        task1="'sleep 10' -> 'sleep 1'",
        task2="'sleep 20' -> 'sleep 2'",
    )
    two_servers.upload(file)
    execution = two_servers.start("my_workflow")

    assert two_servers.ended("my_workflow", execution)["status"] == "STOPPED"
    assert sorted(two_servers.tasks(execution)) == [
        ("task_1", "SUCCESS"),
        ("task_2", "SUCCESS"),
        ("task_3", "STOPPED"),
    ]


def test_single_event(two_servers: TwoServers, tmp_path: Path) -> None:
    """4.5.2: the event of task1 starts task2.

    Shortened: task1 sleeps for 1 s, not for 5 s.
    """
    two_servers.upload(printed(tmp_path, "single_event.py", nap="time.sleep(5) -> time.sleep(1)"))
    execution = two_servers.start("quickstart_workflow")

    assert two_servers.ended("quickstart_workflow", execution)["status"] == "SUCCESS"
    assert two_servers.tasks(execution) == [("task1", "SUCCESS"), ("task2", "SUCCESS")]
    assert "I am the 2nd task." in two_servers.log("quickstart_workflow", execution, "task2")


@pytest.mark.parametrize(
    "blocks",
    [("custom_rule.py",), ("custom_condition.py", "condition_workflow.py")],
    ids=["4.5.3", "4.6.2"],
)
def test_custom_condition(two_servers: TwoServers, tmp_path: Path, blocks: tuple[str, ...]) -> None:
    """4.5.3 and 4.6.2: the consumer starts when the producer's numbers add up to 100.

    Shortened: the producer sends every 0.05 s, not every second.
    """
    two_servers.upload(printed(tmp_path, *blocks, pause="time.sleep(1) -> time.sleep(0.05)"))
    execution = two_servers.start("condition_workflow")

    two_servers.until(lambda: ("consumer", "SUCCESS") in two_servers.tasks(execution))
    assert "Got 100 records." in two_servers.log("condition_workflow", execution, "consumer")
    consumer = next(
        row
        for row in two_servers.rows(f"aiflow task-execution list {execution}")
        if row["task_name"] == "consumer"
    )
    assert consumer["sequence_number"] == 1
    sent_before = [
        int(event["value"])
        for event in two_servers.rows("aiflow event list num_event")
        if json.loads(event["context"])["workflow_execution_id"] == execution
        and moment(event, "create_time") <= moment(consumer, "begin_date")
    ]
    assert sum(sent_before) >= 100

    two_servers.run("aiflow workflow-execution stop-all condition_workflow")
    assert two_servers.ended("condition_workflow", execution)["status"] == "STOPPED"


def test_sending_events(two_servers: TwoServers, tmp_path: Path) -> None:
    """4.7.1: task2 is triggered by the event that task1 sends."""
    two_servers.upload(printed(tmp_path, "sending_events.py"))
    execution = two_servers.start("workflow")

    assert two_servers.ended("workflow", execution)["status"] == "SUCCESS"
    assert two_servers.tasks(execution) == [("task1", "SUCCESS"), ("task2", "SUCCESS")]


LISTENING_WORKFLOW = """\
import os
import time

from ai_flow.model.workflow import Workflow
from ai_flow.notification.notification_client import AIFlowNotificationClient
from ai_flow.operators.python import PythonOperator

HERE = os.path.dirname(__file__)


def block(name, names):
    with open(os.path.join(HERE, name)) as file:
        exec(compile(file.read(), name, "exec"), names)


def listen():
    names = {}
    block("listening_counter.py", names)
    block("listening_register.py", names)
    sender = AIFlowNotificationClient("localhost:50052")
    for _ in range(3):
        sender.send_event(key="expect_key", value="")
    sender.send_event(key="another_key", value="")
    deadline = time.monotonic() + 20
    while names["counter"].counter < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    block("listening_unregister.py", names)
    print("counted", names["counter"].counter)


with Workflow(name="listening") as workflow:
    PythonOperator(name="listener", python_callable=listen)
"""


def test_listening_to_events(two_servers: TwoServers, tmp_path: Path) -> None:
    """4.7.2: the listener is handed the events with the expected key. Its blocks are fragments:
    here they stand in a task, one after the other."""
    blocks = ["listening_counter.py", "listening_register.py", "listening_unregister.py"]
    for block in blocks:
        printed(tmp_path, block, name=block)
    file = tmp_path / "workflow.py"
    file.write_text(LISTENING_WORKFLOW)
    two_servers.upload(file, "--files", ",".join(blocks))
    execution = two_servers.start("listening")

    assert two_servers.ended("listening", execution)["status"] == "SUCCESS"
    assert "counted 3" in two_servers.log("listening", execution, "listener")


def test_schedules(two_servers: TwoServers, tmp_path: Path) -> None:
    """4.8: a schedule is added, listed, paused, resumed and deleted; it starts executions.

    Shortened: every second, not every ten minutes.
    """
    two_servers.upload(printed(tmp_path, "workflows.py"))
    two_servers.run('aiflow workflow-schedule add workflow_name "interval@0 0 0 1"')
    (schedule,) = two_servers.rows("aiflow workflow-schedule list workflow_name")

    def started() -> list[str]:
        executions = two_servers.rows("aiflow workflow-execution list workflow_name")
        return [execution["run_type"] for execution in executions]

    two_servers.until(lambda: started().count("PERIODIC") >= 2)
    two_servers.run(f"aiflow workflow-schedule pause {schedule['id']}")
    (schedule,) = two_servers.rows("aiflow workflow-schedule list workflow_name")
    assert schedule["is_paused"]
    two_servers.run(f"aiflow workflow-schedule resume {schedule['id']}")
    two_servers.run(f"aiflow workflow-schedule delete {schedule['id']} --yes")
    assert two_servers.rows("aiflow workflow-schedule list workflow_name") == []


def test_triggers(two_servers: TwoServers, tmp_path: Path) -> None:
    """4.9: the event of workflow 1 starts workflow 2; the trigger is paused, resumed, deleted."""
    file = printed(tmp_path, "workflow_trigger.py")
    subprocess.run([sys.executable, str(file)], env=two_servers.environment, check=True, timeout=60)

    def triggered() -> list[dict[str, Any]]:
        return two_servers.rows("aiflow workflow-execution list event_trigger_workflow_2")

    (execution,) = two_servers.until(triggered)
    assert execution["run_type"] == "EVENT"
    ended = two_servers.ended("event_trigger_workflow_2", execution["id"])
    assert ended["status"] == "SUCCESS"
    assert "I am 1st task." in two_servers.log("event_trigger_workflow_2", execution["id"], "task1")

    (trigger,) = two_servers.rows("aiflow workflow-trigger list event_trigger_workflow_2")
    two_servers.run(f"aiflow workflow-trigger pause {trigger['id']}")
    again = two_servers.start("event_trigger_workflow_1")
    assert two_servers.ended("event_trigger_workflow_1", again)["status"] == "SUCCESS"
    two_servers.run(f"aiflow workflow-trigger resume {trigger['id']}")
    again = two_servers.start("event_trigger_workflow_1")
    two_servers.until(lambda: len(triggered()) >= 2)
    assert two_servers.ended("event_trigger_workflow_1", again)["status"] == "SUCCESS"
    assert len(triggered()) == 2, "the event sent while the trigger was paused started nothing"

    two_servers.run(f"aiflow workflow-trigger delete {trigger['id']} --yes")
    assert two_servers.rows("aiflow workflow-trigger list event_trigger_workflow_2") == []
