import os
import subprocess
import threading
from pathlib import Path

import pytest

from aiflow_core.errors import AIFlowError, DefinitionError
from aiflow_core.model.event import Event
from aiflow_core.specs.operator import Operator
from aiflow_core.testing.operator import OperatorContract, context_of, run
from aiflow_operator_bash.operator import BashOperator


class TestBashOperator(OperatorContract):
    def make(self, name: str, **config: object) -> Operator:
        return BashOperator(name, bash_command="true", **config)

    def make_failing(self, name: str) -> Operator:
        return BashOperator(name, bash_command="exit 3")

    def test_a_failure_tells_the_exit_code(self) -> None:
        with pytest.raises(AIFlowError) as caught:
            run(self.make_failing("bad"))
        assert caught.value.what == (
            "Bash command failed. The command returned a non-zero exit code. (exit code 3)"
        )

    def test_a_command_that_is_killed_tells_the_signal(self) -> None:
        with pytest.raises(AIFlowError, match=r"killed by SIGKILL"):
            run(BashOperator("bad", bash_command="kill -9 $$"))

    def test_output_goes_where_the_output_of_the_process_goes(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        run(BashOperator("talks", bash_command="echo out; echo err >&2"))

        assert capfd.readouterr() == ("out\n", "err\n")

    def test_the_command_finds_its_environment_and_directory(self, tmp_path: Path) -> None:
        run(
            BashOperator(
                "looks",
                bash_command='test "$COLOUR" = red -a -n "$PATH" && pwd > here',
                env={"COLOUR": "red"},
                cwd=str(tmp_path),
            )
        )

        assert (tmp_path / "here").read_text() == f"{tmp_path}\n"
        assert "COLOUR" not in os.environ

    def test_what_an_event_says_is_a_value_and_never_part_of_the_command(
        self, tmp_path: Path
    ) -> None:
        with pytest.raises(DefinitionError, match=r"Put it into `env`"):
            BashOperator("bad", bash_command="echo ${event.value}")
        says = Event("a", "$(touch hacked)`touch hacked`; touch hacked", offset=1)
        operator = BashOperator(
            "good",
            bash_command='echo "$SAID" > said',
            env={"SAID": "${event.value}"},
            cwd=str(tmp_path),
        )

        run(operator.filled((says,)))

        assert [path.name for path in tmp_path.iterdir()] == ["said"]
        assert (tmp_path / "said").read_text() == f"{says.value}\n"

    def test_a_directory_that_is_missing_is_named(self, tmp_path: Path) -> None:
        operator = BashOperator("task", bash_command="true", cwd=str(tmp_path / "missing"))

        with pytest.raises(AIFlowError, match="There is no directory"):
            run(operator)

    def test_a_machine_without_bash_is_said_to_be_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))

        with pytest.raises(AIFlowError, match="no bash on this machine"):
            run(BashOperator("task", bash_command="true"))

    def test_stopping_ends_the_command(self) -> None:
        operator = BashOperator("sleeps", bash_command="sleep 60")
        context = context_of(operator)
        operator.start(context)

        operator.stop(context)

        with pytest.raises(AIFlowError, match="killed by SIGTERM"):
            operator.await_termination(context)

    def test_a_command_may_tidy_up_when_it_is_stopped(self, tmp_path: Path) -> None:
        script = f"trap 'touch {tmp_path}/tidy; exit 0' TERM; echo > {tmp_path}/ready; "
        operator = BashOperator(
            "sleeps", bash_command=f"{script} while true; do read -rt 0.01 < <(:); done"
        )
        context = context_of(operator)
        operator.start(context)
        deadline = threading.Event()
        for _ in range(3000):
            if (tmp_path / "ready").exists():
                break
            deadline.wait(0.01)

        operator.stop(context)

        assert (tmp_path / "tidy").exists()

    def test_waiting_can_be_limited(self) -> None:
        operator = BashOperator("sleeps", bash_command="sleep 60")
        context = context_of(operator)
        operator.start(context)

        with pytest.raises(subprocess.TimeoutExpired):
            operator.await_termination(context, timeout=0)
        operator.stop(context)

    def test_it_runs_from_its_definition(self) -> None:
        definition = BashOperator("task", bash_command="echo $A", env={"A": "b"}).definition()

        assert definition.operator == "bash"
        assert definition.params == {"bash_command": "echo $A", "env": {"A": "b"}}
