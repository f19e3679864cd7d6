"""The same promises by a stand-in of the command line, and by a real Spark in local mode."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from aiflow_core.errors import AIFlowError, DefinitionError
from aiflow_core.model.event import Event
from aiflow_core.model.workflow import Workflow
from aiflow_core.specs.operator import Operator
from aiflow_core.testing.operator import OperatorContract, context_of, run
from aiflow_operator_spark.operator import SparkSqlOperator, SparkSubmitOperator

# Says what it was given; an application that is called so fails as Spark does, or waits.
STAND_IN = """#!/bin/sh
printf '%s\\n' "$(basename "$0") $*"
case "$*" in
*fails*)
    echo 'Exception in thread "main" org.apache.spark.SparkException: x'
    echo '	at org.apache.spark.A.b(A.scala:1)'
    echo 'Caused by: java.lang.IllegalStateException: out of luck'
    echo '	at C.d(C.java:1)'
    exit 1 ;;
*waits*) exec sleep 600 ;;
esac
echo "COLOUR is $COLOUR"
"""


def programs(directory: Path) -> Path:
    (directory / "bin").mkdir()
    for name in ("spark-submit", "spark-sql"):
        (directory / "bin" / name).write_text(STAND_IN)
        (directory / "bin" / name).chmod(0o755)
    return directory


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", str(programs(tmp_path)))
    monkeypatch.setenv("PATH", os.defpath)


@pytest.fixture
def workflow() -> Any:
    with Workflow("wf") as workflow:
        yield workflow


class SparkSubmitContract(OperatorContract):
    good, bad = "good.py", "fails.py"

    def make(self, name: str, **config: object) -> Operator:
        return SparkSubmitOperator(name, self.good, master="local[1]", **config)

    def make_failing(self, name: str) -> Operator:
        return SparkSubmitOperator(name, self.bad, master="local[1]")

    def test_a_failure_tells_the_cause(self) -> None:
        with pytest.raises(AIFlowError, match=r"^spark-submit failed .* 1: .*out of luck"):
            run(self.make_failing("bad"))


class SparkSqlContract(OperatorContract):
    good, bad = "SELECT 1;", "SELECT * FROM fails;"

    def make(self, name: str, **config: object) -> Operator:
        return SparkSqlOperator(name, self.good, master="local[1]", **config)

    def make_failing(self, name: str) -> Operator:
        return SparkSqlOperator(name, self.bad, master="local[1]")


@pytest.mark.usefixtures("standin")
class TestSparkSubmitOperator(SparkSubmitContract):
    pass


@pytest.mark.usefixtures("standin")
class TestSparkSqlOperator(SparkSqlContract):
    pass


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to work in; the integration session has Spark in its PATH."""
    assert shutil.which("spark-submit"), "there is no spark-submit in PATH"
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.py").write_text(
        "from pyspark.sql import SparkSession\n"
        "spark = SparkSession.builder.getOrCreate()\n"
        "print('counted', spark.range(10).count(), 'as', spark.sparkContext.appName)\n"
    )
    (tmp_path / "fails.py").write_text("raise SystemExit('out of luck')\n")
    return tmp_path


@pytest.mark.integration
@pytest.mark.usefixtures("spark")
class TestSubmittingToSpark(SparkSubmitContract):
    def test_its_output_is_that_of_the_task(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(self.make("good"))

        assert "counted 10 as spark_submit_task_good\n" in capsys.readouterr().out

    def test_a_driver_that_is_stopped_is_gone(self, spark: Path) -> None:
        (spark / "waits.py").write_text(
            "import pathlib, time\npathlib.Path('here').touch()\ntime.sleep(600)\n"
        )
        operator = SparkSubmitOperator("waits", "waits.py", master="local[1]")
        context = context_of(operator)
        operator.start(context)

        operator.stop(context)

        with pytest.raises(AIFlowError, match="spark-submit failed with exit code"):
            operator.await_termination(context)


@pytest.mark.integration
@pytest.mark.usefixtures("spark")
class TestSqlOnSpark(SparkSqlContract):
    def test_a_failure_tells_what_is_wrong(self) -> None:
        with pytest.raises(AIFlowError, match=r"spark-sql failed .* 1: .*TABLE_OR_VIEW_NOT_FOUND"):
            run(self.make_failing("bad"))

    def test_a_file_is_executed(self, spark: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (spark / "report.sql").write_text("SELECT 40 + 2;\n")

        run(SparkSqlOperator("report", str(spark / "report.sql"), master="local[1]"))

        assert "42\n" in capsys.readouterr().out


SUBMITTED = "spark-submit --master {} --name {} --deploy-mode client {}"


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({}, SUBMITTED.format("yarn", "spark_submit_task_t", "a.py")),
        (
            {"master": "local[2]", "application_name": "mine", "application_args": ["x y", 3]},
            SUBMITTED.format("local[2]", "mine", "a.py x y 3"),
        ),
        (
            {"submit_options": "--class a.Main --conf 'spark.x=a b'", "master": "spark://h:1"},
            SUBMITTED.format(
                "spark://h:1", "spark_submit_task_t", "--class a.Main --conf spark.x=a b a.py"
            ),
        ),
        (
            {"env_vars": {"A": 1}},
            SUBMITTED.format(
                "yarn", "spark_submit_task_t", "--conf spark.yarn.appMasterEnv.A=1 a.py"
            ),
        ),
        (
            {"master": "k8s://https://h:1", "k8s_namespace": "ns", "env_vars": {"A": 1}},
            SUBMITTED.format(
                "k8s://https://h:1",
                "spark_submit_task_t",
                "--conf spark.kubernetes.namespace=ns a.py",
            ),
        ),
    ],
)
@pytest.mark.usefixtures("standin", "workflow")
def test_the_command_line_is_that_of_spark_submit(
    params: dict[str, Any], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(SparkSubmitOperator("t", "a.py", **params))

    assert capsys.readouterr().out.splitlines()[0] == line


@pytest.mark.parametrize(
    ("sql", "end"),
    [(" SELECT 1; ", "-e SELECT 1;"), ("/a/b.sql", "-f /a/b.sql"), ("a.hql", "-f a.hql")],
)
@pytest.mark.usefixtures("standin", "workflow")
def test_the_command_line_is_that_of_spark_sql(
    sql: str, end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(SparkSqlOperator("t", sql))

    said = capsys.readouterr().out.splitlines()[0]
    assert said == f"spark-sql --master yarn --name spark_sql_task_t {end}"


@pytest.mark.usefixtures("standin", "workflow")
def test_the_driver_has_its_environment(capsys: pytest.CaptureFixture[str]) -> None:
    run(SparkSubmitOperator("t", "a.py", env_vars={"COLOUR": "red"}))

    assert capsys.readouterr().out.splitlines()[1] == "COLOUR is red"
    assert "COLOUR" not in os.environ


@pytest.mark.usefixtures("standin", "workflow")
def test_stopping_ends_the_driver() -> None:
    operator = SparkSubmitOperator("waits", "waits.py")
    context = context_of(operator)
    operator.start(context)

    operator.stop(context)

    with pytest.raises(AIFlowError, match="exit code -15"):
        operator.await_termination(context)


@pytest.mark.usefixtures("standin", "workflow")
def test_what_an_event_says_is_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    operator = SparkSubmitOperator("t", "a.py", ["${event.value}"], master="local")

    run(operator.filled((Event("a", "--conf $(x)", offset=1),)))

    assert capsys.readouterr().out.splitlines()[0].endswith("a.py --conf $(x)")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"deploy_mode": "cluster"}, "only client mode is"),
        ({"deploy_mode": "moon"}, "is none"),
        ({"master": "k8s://h"}, r"Param k8s_namespace must be set when submit to k8s"),
        ({"submit_options": "--conf '"}, "cannot be read: No closing quotation"),
        ({"submit_options": "${event.value}"}, "could add options"),
    ],
)
@pytest.mark.usefixtures("workflow")
def test_what_makes_no_sense_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        SparkSubmitOperator("t", "a.py", **params)


@pytest.mark.usefixtures("workflow")
def test_sql_is_given_and_is_no_text_of_an_event() -> None:
    with pytest.raises(DefinitionError, match="has no SQL"):
        SparkSqlOperator("t", " ")
    with pytest.raises(DefinitionError, match="would execute what an event says"):
        SparkSqlOperator("t", "DROP ${event.value}")


@pytest.mark.usefixtures("workflow")
def test_a_machine_without_spark_is_said_to_be_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SPARK_HOME", raising=False)

    with pytest.raises(AIFlowError, match=r"no spark-sql on this machine\. Add it to PATH, set SP"):
        run(SparkSqlOperator("sql", "SELECT 1"))
    with pytest.raises(AIFlowError, match="There is no program /nowhere"):
        run(SparkSubmitOperator("submit", "a.py", executable_path="/nowhere"))
