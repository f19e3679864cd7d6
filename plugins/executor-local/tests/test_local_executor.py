import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import psutil
import pytest

from aiflow_core.deployment import Deployment
from aiflow_core.errors import ConfigError
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, AttemptRequest
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_core.specs.executor import Executor, alone
from aiflow_core.testing.executor import ExecutorContract, Host, Stage, is_running
from aiflow_core.testing.waiting import wait_until
from aiflow_executor_local.executor import LocalExecutor
from aiflow_executor_local.run_directory import Draft, RunDirectory, drafts


def from_definition(operator: str, number: int = 1, **params: object) -> AttemptRequest:
    return AttemptRequest(
        key=AttemptKey(workflow_execution_id=1, task_name="task", sequence_number=number),
        namespace="default",
        workflow_name="contract",
        task=TaskDefinition(name="task", operator=operator, params=params),
    )


def zygotes() -> list[psutil.Process]:
    """Those of this test: the processes that have the zygote's command and are its leaders."""
    return [
        process
        # Asked for here, because a process may end between one question and the next.
        for process in psutil.process_iter(["cmdline", "environ"])
        if "aiflow_executor_local.zygote" in (process.info["cmdline"] or [])
        and os.environ["AIFLOW_TEST"] == (process.info["environ"] or {}).get("AIFLOW_TEST")
    ]


class TestLocalExecutor(ExecutorContract):
    @pytest.fixture(autouse=True)
    def _mark_of_this_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIFLOW_TEST", f"{os.getpid()}.{time.monotonic_ns()}")

    def make(self) -> Executor:
        return LocalExecutor(parallelism=self.parallelism)

    # --- tasks without a bundle ---

    def test_plain_data_runs_from_the_definition_in_a_directory_of_its_own(
        self, stage: Stage
    ) -> None:
        request = from_definition("bash", bash_command="pwd; echo $AIFLOW_NOTIFICATION_URI")
        stage.executor.submit(request)

        assert stage.final(request).status is TaskStatus.SUCCESS
        said = (stage.home / "aiflow/logs/contract/1/task/1.log").read_text()
        assert f"{stage.home}/aiflow/run/1/task.1.1\n127.0.0.1:50052\n" in said

    def test_a_task_finds_the_events_that_started_it(self, stage: Stage) -> None:
        events = tuple(
            Event("a", json.dumps({"day": day, "more": "x" * 300_000}), offset=day)
            for day in range(1, 12)
        )
        request = msgspec.structs.replace(
            from_definition(
                "bash",
                bash_command='wc -l < "$AIFLOW_EVENTS_FILE"; tail -n 1 "$AIFLOW_EVENTS_FILE" | '
                "cut -c 1-10; echo day $DAY",
                env={"DAY": "${event.value.day}"},
            ),
            events=events,
        )
        stage.executor.submit(request)

        assert stage.final(request).status is TaskStatus.SUCCESS
        said = (stage.home / "aiflow/logs/contract/1/task/1.log").read_text()
        assert '11\n{"key":"a"\nday 11\n' in said

    @pytest.mark.parametrize(
        ("events", "reason"),
        [((), "started by no event"), ((Event("a", "plain", offset=5),), "event 5 (a)")],
    )
    def test_a_field_that_the_event_does_not_have_is_the_reason_of_the_failure(
        self, stage: Stage, events: tuple[Event, ...], reason: str
    ) -> None:
        request = msgspec.structs.replace(
            from_definition("bash", bash_command="true", env={"DAY": "${event.value.day}"}),
            events=events,
        )
        stage.executor.submit(request)

        report = stage.final(request)
        assert report.status is TaskStatus.FAILED
        assert "${event.value.day}" in report.reason
        assert reason in report.reason

    def test_a_bash_command_that_fails_gives_its_exit_code(self, stage: Stage) -> None:
        request = from_definition("bash", bash_command="exit 7")
        stage.executor.submit(request)

        report = stage.final(request)
        assert report.status is TaskStatus.FAILED
        assert "non-zero exit code. (exit code 7)" in report.reason

    def test_a_bash_command_is_stopped_with_all_that_it_started(self, stage: Stage) -> None:
        request = from_definition(
            "bash",
            bash_command=f"(echo start child $BASHPID >> {stage.desk}/journal; sleep 60); true",
        )
        stage.executor.submit(request)
        stage.await_journal("start child")

        stage.executor.stop(request.key)

        assert stage.final(request).status is TaskStatus.STOPPED
        assert not any(map(is_running, stage.pids()))

    def test_a_task_from_its_definition_works_beside_the_files_of_its_bundle(
        self, stage: Stage
    ) -> None:
        request = msgspec.structs.replace(
            from_definition("bash", bash_command="test -f flow.py"), bundle=stage.bundle
        )
        stage.executor.submit(request)

        assert stage.final(request).status is TaskStatus.SUCCESS

    def test_a_strangers_operator_works(
        self, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        site = tmp_path / "site"
        info = site / "stranger-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[aiflow.operator]\nshout = stranger:Shout\n")
        (site / "stranger.py").write_text(
            textwrap.dedent("""
                from aiflow_core import Operator
                class Shout(Operator):
                    def __init__(self, name, text):
                        super().__init__(name)
                        self.text = text
                    def start(self, context):
                        print(self.text.upper(), context.workflow_name, self.workflow.name)
            """)
        )
        monkeypatch.setenv("PYTHONPATH", str(site))
        stage.restart()  # the zygote in reserve does not know the stranger
        request = from_definition("shout", text="hello")
        stage.executor.submit(request)

        assert stage.final(request).status is TaskStatus.SUCCESS
        said = (stage.home / "aiflow/logs/contract/1/task/1.log").read_text()
        assert said == "HELLO contract contract\n"

    # --- its log ---

    def test_observers_are_told_what_a_task_writes(self, stage: Stage) -> None:
        guard = self.guarded(stage)

        request = stage.submit("speak")

        stage.final(request)
        wait_until(lambda: len(guard.lines[request.key]) >= 3, "all lines")
        assert guard.lines[request.key] == [
            "said on stdout",
            "said on stderr",
            "said by a child",
        ]

    def test_observers_hear_it_while_the_task_runs(self, stage: Stage) -> None:
        guard = self.guarded(stage)
        script = f"echo early; until test -e {stage.desk}/go; do sleep 0.01; done; printf late"
        request = from_definition("bash", bash_command=script)
        stage.executor.submit(request)

        def early() -> bool:
            stage.clock.advance(1)
            return guard.lines[request.key][-1:] == ["early"]

        wait_until(early, "the first line")
        stage.let_go()

        wait_until(lambda: guard.lines[request.key][-1:] == ["late"], "what has no line end")
        assert guard.lines[request.key][1:] == ["early", "late"]

    def test_observers_hear_of_a_task_that_was_adopted_what_it_writes_then(
        self, stage: Stage
    ) -> None:
        guard = self.guarded(stage)
        script = f"echo early; until test -e {stage.desk}/go; do sleep 0.01; done; echo late"
        request = from_definition("bash", bash_command=script)
        stage.executor.submit(request)
        log = stage.home / "aiflow/logs/contract/1/task/1.log"
        wait_until(lambda: log.exists() and "\nearly\n" in log.read_text(), "the first line")
        stage.restart()
        guard.lines.clear()
        stage.executor.adopt(request)
        stage.await_report(request, TaskStatus.RUNNING)

        stage.let_go()

        stage.final(request)
        wait_until(lambda: guard.lines[request.key] == ["late"], "the last line")

    def test_an_operator_that_is_not_installed_is_named(self, stage: Stage) -> None:
        request = from_definition("no-such-operator")
        stage.executor.submit(request)

        assert "'no-such-operator'" in stage.final(request).reason

    def test_a_parameter_that_the_operator_does_not_take_is_named(self, stage: Stage) -> None:
        request = from_definition("bash", bash_command="true", colour="red")
        stage.executor.submit(request)

        assert "colour" in stage.final(request).reason

    def test_code_without_a_bundle_cannot_run(self, stage: Stage) -> None:
        request = msgspec.structs.replace(stage.request("quick"), bundle=None)
        stage.executor.submit(request)

        assert "needs its workflow file" in stage.final(request).reason

    # --- zygotes ---

    def test_a_zygote_that_dies_takes_no_task_with_it(self, stage: Stage) -> None:
        request = stage.submit("waits")
        stage.await_journal("start")
        for zygote in zygotes():
            if zygote.pid not in stage.pids():
                zygote.send_signal(signal.SIGKILL)
        stage.let_go()

        assert stage.final(request).status is TaskStatus.SUCCESS
        assert stage.run("quick").status is TaskStatus.SUCCESS, "another zygote takes its place"

    def test_a_task_that_dies_after_its_zygote_leaves_nothing_behind(self, stage: Stage) -> None:
        request = stage.submit("family")
        stage.await_journal("start child")
        for zygote in zygotes():
            if zygote.pid not in stage.pids():
                zygote.send_signal(signal.SIGKILL)
        os.kill(stage.pids()[0], signal.SIGKILL)

        report = stage.final(request)

        assert report.status is TaskStatus.FAILED
        assert "vanished" in report.reason
        assert not any(map(is_running, stage.pids()))

    def test_zygotes_are_gone_when_the_executor_is_and_the_tasks_are(self, stage: Stage) -> None:
        stage.run("quick")
        assert zygotes()

        stage.leave()

        wait_until(lambda: not zygotes(), "no zygote is left")
        stage.restart()

    def test_an_interpreter_that_is_missing_fails_the_tasks(self, stage: Stage) -> None:
        request = stage.request("quick")
        with other_executor(stage, LocalExecutor(python="/no/such/python")) as executor:
            executor.submit(request)

            assert "/no/such/python does not start: No such file" in stage.final(request).reason

    def test_a_file_whose_import_hangs_fails_the_tasks_and_ends(self, stage: Stage) -> None:
        hangs = stage.make_bundle("import threading\nthreading.Event().wait()")
        request = stage.request("quick", bundle=hangs)
        with other_executor(stage, LocalExecutor(start_timeout=1.5)) as executor:
            executor.submit(request)

            assert "took longer than 1.5 s" in stage.final(request).reason

        stage.leave()
        wait_until(lambda: not zygotes(), "no zygote is left")
        stage.restart()

    def test_an_interpreter_without_aiflow_fails_the_tasks(self, stage: Stage) -> None:
        request = stage.request("quick")
        with other_executor(stage, LocalExecutor(python="/bin/false")) as executor:
            executor.submit(request)

            assert "/bin/false cannot run tasks (exit code 1)" in stage.final(request).reason

    def test_more_bundles_than_zygotes_are_served_in_turn(self, stage: Stage) -> None:
        flow = (stage.home / "source" / "flow.py").read_text()
        bundles = [stage.make_bundle(f"{flow}\n# {n}\n") for n in range(3)]
        with other_executor(stage, LocalExecutor(warm_zygotes=1)) as executor:
            for number in range(6):
                request = stage.request("quick", number, bundle=bundles[number % 3])
                executor.submit(request)
                assert stage.final(request).status is TaskStatus.SUCCESS

    # --- crashes ---

    def test_tasks_survive_the_crash_of_the_executor_and_are_taken_over(self, stage: Stage) -> None:
        requests = [stage.request("waits", number) for number in range(4)]
        requests.append(stage.request("quick", 9))
        host = start_host(stage, requests)
        stage.await_journal("start", 5)
        stage.await_journal("end", 1)
        host.kill()
        os.kill(int(stage.journal("start")[0].split()[2]), 0)

        for request in requests:
            stage.executor.submit(request)
        stage.let_go()

        assert {stage.final(r).status for r in requests} == {TaskStatus.SUCCESS}
        started = sorted(line.split()[1] for line in stage.journal("start"))
        assert started == sorted(str(r.key) for r in requests), "each ran once"

    def test_tasks_stop_with_an_embedded_executor(self, stage: Stage) -> None:
        requests = [stage.request("stubborn"), stage.request("waits")]
        host = start_host(stage, requests, orphans="stop", stop_grace=0.5)
        stage.await_journal("start child")
        stage.await_journal("start", 3)
        host.kill()

        wait_until(lambda: not any(map(is_running, stage.pids())), "all tasks have stopped")
        assert len(stage.journal("stop")) == 1
        for request in requests:
            stage.executor.adopt(request)
            assert stage.final(request).status is TaskStatus.STOPPED

    # --- settings, tidying ---

    @pytest.mark.parametrize(
        "settings",
        [{"parallelism": 0}, {"stop_grace": -1.0}, {"orphans": "adopt"}, {"warm_zygotes": 0}],
        ids=str,
    )
    def test_a_setting_that_makes_no_sense_is_refused(self, settings: dict[str, int]) -> None:
        with pytest.raises(ConfigError):
            LocalExecutor(**settings)  # type: ignore[arg-type]

    def test_a_name_that_leads_out_of_its_directory_is_refused(self, stage: Stage) -> None:
        request = stage.request("../../up")
        stage.executor.submit(request)

        assert "is not a name for a task" in stage.final(request).reason

    def test_results_are_kept_for_some_days(self, stage: Stage) -> None:
        old, recent = stage.submit("quick", 1), stage.submit("quick", 2)
        running = stage.submit("waits")
        for request in (old, recent):
            stage.final(request)
        stage.await_journal("start", 3)
        directories = [RunDirectory(stage.home / "aiflow", r.key) for r in (old, recent, running)]
        now = stage.clock.now_ms() / 1000
        os.utime(directories[0].path / "result.json", (now, now - 8 * 24 * 3600))

        stage.restart()

        wait_until(lambda: not directories[0].exists(), "the old result is removed")
        assert directories[1].exists()
        assert directories[2].exists()

    def test_what_a_process_made_for_a_task_that_never_came_ends_with_it(
        self, stage: Stage
    ) -> None:
        place = drafts(stage.home / "aiflow")
        stage.final(stage.submit("quick"))
        wait_until(lambda: any(place.glob("*/lock")), "a process waits for the next task")

        stage.restart()

        wait_until(lambda: not any(place.iterdir()), "it is gone")

    def test_what_a_killed_process_made_is_removed_after_some_days(self, stage: Stage) -> None:
        old, recent = (Draft(stage.home / "aiflow") for _ in range(2))
        for draft in (old, recent):
            os.close(draft.lock)
        now = stage.clock.now_ms() / 1000
        os.utime(old.path, (now, now - 8 * 24 * 3600))

        stage.restart()

        wait_until(lambda: not old.path.exists(), "the old one is removed")
        assert recent.path.exists()


class other_executor(ExitStack):
    """An executor on the same stage, beside the one that the stage has."""

    def __init__(self, stage: Stage, executor: LocalExecutor) -> None:
        super().__init__()
        self._executor = executor
        home = stage.home / "other"
        executor.start(
            self,
            Deployment(home=home, log_dir=home / "logs", notification_uri="", clock=stage.clock),
            stage.blobs,
            stage._take,
            alone,
        )

    def __enter__(self) -> LocalExecutor:  # type: ignore[override]
        return self._executor


def start_host(stage: Stage, requests: list[AttemptRequest], **settings: object) -> Host:
    """Another process that holds an executor on the home of the stage's."""
    archive = next((stage.home / "source").glob("*.zip"))
    host = Host(
        "aiflow_executor_local.executor:LocalExecutor", stage.home / "aiflow", archive, settings
    )
    for request in requests:
        host.submit(request)
    return host


def test_a_zygote_imports_nothing_that_tasks_do_not_need() -> None:
    """Each page of it costs every task some of its time."""
    code = """
import sys
import aiflow_executor_local.zygote
import aiflow_operator_python.operator
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    late = {
        *("aiflow_core.archive", "aiflow_core.specs.blob_manager", "aiflow_core.specs.scheduler"),
        *("asyncio", "concurrent.futures", "email", "importlib.metadata", "zipfile", "zoneinfo"),
    }
    assert not late & set(done.stdout.split())
