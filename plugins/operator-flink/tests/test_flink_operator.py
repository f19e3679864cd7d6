"""The same promises by a stand-in of the command line, and by a real cluster."""

import json
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from aiflow_core.errors import AIFlowError, DefinitionError, UnavailableError
from aiflow_core.model.event import Event
from aiflow_core.model.workflow import Workflow
from aiflow_core.specs.job import JobController, JobStatus
from aiflow_core.specs.operator import Operator
from aiflow_core.testing.job import KEY, JobControllerContract
from aiflow_core.testing.operator import OperatorContract, context_of, run
from aiflow_core.testing.stores.flink import FlinkCluster, flink_cluster
from aiflow_operator_flink.controller import FlinkController, FlinkJob, job_id
from aiflow_operator_flink.operator import FlinkOperator


class StandIn:
    """A `flink` whose cluster is a directory, and its REST interface."""

    def __init__(self, directory: Path) -> None:
        source = (Path(__file__).parent / "standin_flink.py").read_text()
        self.jobs = directory / "jobs"
        self.jobs.mkdir(parents=True)
        self.program = directory / "flink"
        self.program.write_text(f"#!{sys.executable} -IS\n{source}")
        self.program.chmod(0o755)

    def begun(self) -> list[str]:
        file = self.jobs / ".begun"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def standin(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "standin")


@pytest.fixture
def rest(standin: StandIn) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, id, *more = self.path.split("/")
            job = standin.jobs / id
            trace = "java.lang.RuntimeException: x\n\tat A.b\nCaused by: out of luck\n\tat C.d\n"
            said: dict[str, Any] = {"state": job.read_text()} if job.exists() else {}
            if more:
                said = {"exceptionHistory": {"entries": [{"stacktrace": trace}]}}
            body = json.dumps(said).encode()
            self.send_response(200 if said else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


class TestByTheCommandLine(JobControllerContract):
    rest: str | None = None

    @pytest.fixture(autouse=True)
    def system(self, standin: StandIn) -> None:
        self.standin = standin

    def make(self) -> JobController[Any]:
        return FlinkController(str(self.standin.program), rest=self.rest, poll_interval=0.01)

    def job(self, kind: str) -> FlinkJob:
        return FlinkJob(application=f"{kind}.jar")

    def begun(self, key: str) -> int:
        return sum(line.startswith(job_id(key)) for line in self.standin.begun())

    def is_running(self, handle: str) -> bool:
        return (self.standin.jobs / handle).read_text() == "RUNNING"

    def test_a_cluster_that_does_not_hear_is_asked_again(self) -> None:
        controller = self.make()
        (self.standin.jobs / ".unreachable").touch()

        with pytest.raises(UnavailableError, match="ConnectException: Connection refused"):
            controller.submit(KEY, self.job("runs"))
        assert self.begun(KEY) == 0
        controller.stop(controller.submit(KEY, self.job("runs")))

    def test_what_flink_says_is_the_reason_when_it_begins_nothing(self) -> None:
        with pytest.raises(AIFlowError, match=r"flink run failed with exit code 1: Could not get"):
            self.make().submit(KEY, FlinkJob(application="absent.jar"))


class TestByRest(TestByTheCommandLine):
    @pytest.fixture(autouse=True)
    def address(self, rest: str) -> None:
        self.rest = rest

    def test_a_failure_tells_the_innermost_cause(self) -> None:
        controller = self.make()

        state = controller.status(controller.submit(KEY, self.job("fails")))

        assert state.reason == "out of luck"

    def test_an_address_where_nobody_answers_is_asked_again(self) -> None:
        self.rest = "http://127.0.0.1:9"

        with pytest.raises(UnavailableError, match="does not answer"):
            self.make().adopt(KEY)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkCluster]:
    with flink_cluster(
        tmp_path_factory.mktemp("flink"), Path(__file__).with_name("Job.java")
    ) as cluster:
        yield cluster


@pytest.mark.integration
class TestOnFlink(JobControllerContract):
    """Each test has keys of its own: the cluster remembers those of the tests before."""

    by_rest = True

    @pytest.fixture(autouse=True)
    def system(self, cluster: FlinkCluster, request: pytest.FixtureRequest) -> Iterator[None]:
        self.cluster, self.salt = cluster, request.node.nodeid
        yield
        for job in self._jobs():
            if job["state"] == "RUNNING":
                FlinkController(cluster.program, ("-m", cluster.address)).stop(job["jid"])

    def make(self) -> JobController[Any]:
        return Salted(self.cluster, self.salt, self.by_rest)

    def job(self, kind: str) -> FlinkJob:
        return FlinkJob(options=("-c", "Job"), application=str(self.cluster.jar), args=(kind,))

    def begun(self, key: str) -> int:
        return sum(job["jid"] == job_id(self.salt + key) for job in self._jobs())

    def is_running(self, handle: str) -> bool:
        return any(job["jid"] == handle and job["state"] == "RUNNING" for job in self._jobs())

    def _jobs(self) -> list[dict[str, Any]]:
        with urlopen(f"http://{self.cluster.address}/jobs/overview") as answer:
            jobs: list[dict[str, Any]] = json.load(answer)["jobs"]
            return jobs


@pytest.mark.integration
class TestOnFlinkByTheCommandLine(TestOnFlink):
    by_rest = False


class Salted(FlinkController):
    def __init__(self, cluster: FlinkCluster, salt: str, by_rest: bool) -> None:
        rest = f"http://{cluster.address}" if by_rest else None
        super().__init__(cluster.program, ("-m", cluster.address), rest, poll_interval=0.1)
        self.salt = salt

    def submit(self, key: str, job: FlinkJob) -> str:
        return super().submit(self.salt + key, job)

    def adopt(self, key: str) -> str | None:
        return super().adopt(self.salt + key)


@pytest.mark.integration
def test_a_failure_on_flink_tells_its_cause(cluster: FlinkCluster) -> None:
    with Workflow("wf"):
        operator = FlinkOperator(
            "fails",
            application=str(cluster.jar),
            application_args=["fails"],
            executable_path=cluster.program,
            command_options=f"-m {cluster.address} -c Job",
        )

    with pytest.raises(AIFlowError, match=r"failed: .*IllegalStateException: out of luck"):
        run(operator)


@pytest.mark.integration
def test_a_job_on_flink_leaves_a_savepoint_when_it_is_stopped(
    cluster: FlinkCluster, tmp_path: Path
) -> None:
    with Workflow("wf"):
        operator = FlinkOperator(
            "runs",
            application=str(cluster.jar),
            application_args=["runs"],
            executable_path=cluster.program,
            stop_with_savepoint=True,
            command_options=f"-m {cluster.address} -c Job "
            f"-Dexecution.checkpointing.savepoint-dir=file://{tmp_path}",
        )
    context = context_of(operator)
    operator.start(context)
    cluster.await_running()

    operator.stop(context)

    assert list(tmp_path.glob("savepoint-*/_metadata"))


class TestFlinkOperator(OperatorContract):
    @pytest.fixture(autouse=True)
    def system(self, standin: StandIn) -> None:
        self.standin = standin

    def make(self, name: str, **config: object) -> Operator:
        return self.flink(name, "succeeds.jar", **config)

    def make_failing(self, name: str) -> Operator:
        return self.flink(name, "fails.jar")

    def flink(self, name: str, application: str, **config: Any) -> FlinkOperator:
        return FlinkOperator(name, application, executable_path=str(self.standin.program), **config)

    def test_the_command_line_is_that_of_flink(self) -> None:
        operator = self.flink(
            "task",
            "succeeds.jar",
            target="kubernetes-session",
            kubernetes_cluster_id="mine",
            application_args=["a b", 1],
            command_options="-c a.Main -Dkubernetes.namespace=ns '-Dpipeline.name=a b'",
        )
        run(operator)

        (line,) = self.standin.begun()
        id, _, arguments = line.partition(" ")
        assert arguments == (
            "-d -t kubernetes-session -Dkubernetes.cluster-id=mine -Dkubernetes.namespace=ns "
            f"-D$internal.pipeline.job-id={id} -c a.Main -Dpipeline.name=a b succeeds.jar a b 1"
        )

    @pytest.mark.parametrize(
        ("params", "line", "state"),
        [
            ({}, "cancel", "CANCELED"),
            ({"stop_with_savepoint": True}, "stop", "FINISHED"),
            (
                {
                    "stop_with_savepoint": True,
                    "command_options": "-m h:1 -Dexecution.checkpointing.savepoint-dir=file:///s",
                    "target": "yarn-session",
                },
                "stop -t yarn-session -m h:1 --savepointPath file:///s",
                "FINISHED",
            ),
        ],
    )
    def test_stopping_cancels_or_leaves_a_savepoint(
        self, params: dict[str, Any], line: str, state: str
    ) -> None:
        operator = self.flink("runs", "runs.jar", **params)
        context = context_of(operator)
        operator.start(context)

        operator.stop(context)

        (job,) = self.standin.jobs.glob("[!.]*")
        assert job.read_text() == state
        assert (self.standin.jobs / ".ended").read_text() == f"{line} {job.name}\n"

    def test_a_job_is_looked_at_by_rest_where_its_address_is_known(self, rest: str) -> None:
        address = rest.removeprefix("http://")
        host, _, port = address.partition(":")
        both = (f"-m {address}", f"-Drest.address={host} -Drest.port={port}")
        for number, options in enumerate(both):
            operator = self.flink(f"task{number}", "runs.jar", command_options=options)
            controller = operator.controller()
            assert controller.rest == rest

        by_command = self.flink("task", "runs.jar", command_options="-Drest.port=1").controller()
        assert by_command.rest is None

    @pytest.mark.parametrize(
        ("params", "said"),
        [
            ({"application_mode": True}, "is not offered"),
            ({"target": "yarn-per-job"}, "It is one of local, remote"),
            ({"target": "kubernetes-session"}, "Give `kubernetes_cluster_id`"),
            ({"command_options": "-D '"}, "cannot be read: No closing quotation"),
            ({"command_options": "${event.value}"}, "Put it into `application_args`"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, params: dict[str, Any], said: str) -> None:
        with pytest.raises(DefinitionError, match=said):
            self.flink("task", "succeeds.jar", **params)

    def test_what_an_event_says_is_an_argument(self) -> None:
        says = Event("a", "-d; $(x)", offset=1)
        operator = self.flink("task", "succeeds.jar", application_args=["${event.value}"])

        run(operator.filled((says,)))

        assert self.standin.begun()[0].endswith("succeeds.jar -d; $(x)")

    def test_a_machine_without_flink_is_said_to_be_one(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("FLINK_HOME", raising=False)

        with pytest.raises(AIFlowError, match=r"no flink on this machine\. Add it to PATH, set FL"):
            run(FlinkOperator("task", "succeeds.jar"))
        with pytest.raises(AIFlowError, match="There is no program /nowhere/flink"):
            run(FlinkOperator("other", "succeeds.jar", executable_path="/nowhere/flink"))

    def test_the_program_of_the_installation_is_found(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "bin").mkdir()
        shutil.copy(self.standin.program, tmp_path / "bin" / "flink")
        monkeypatch.setenv("PATH", "")
        monkeypatch.setenv("FLINK_HOME", str(tmp_path))

        assert FlinkOperator("task", "x").controller().program == str(tmp_path / "bin" / "flink")


def test_a_job_in_the_client_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "flink"
    program.write_text('#!/bin/sh\necho "$@"\n[ "$5" = runs ] && exec sleep 600\nexit 3\n')
    program.chmod(0o755)
    with Workflow("wf"):
        fails, runs = (
            FlinkOperator(kind, "a.jar", "local", [kind], str(program))
            for kind in ("fails", "runs")
        )

    with pytest.raises(AIFlowError, match=r"exit code 3: run -t local a\.jar fails"):
        run(fails)
    assert capsys.readouterr().out == "run -t local a.jar fails\n"

    context = context_of(runs)
    runs.start(context)
    runs.stop(context)
    with pytest.raises(AIFlowError, match="exit code -15"):
        runs.await_termination(context)


def test_a_job_that_flink_suspended_is_not_taken_for_one_that_succeeded(standin: StandIn) -> None:
    controller = FlinkController(str(standin.program))
    handle = controller.submit(KEY, FlinkJob(application="runs.jar"))
    (standin.jobs / handle).write_text("SUSPENDED")

    assert controller.status(handle).status is JobStatus.STOPPED
