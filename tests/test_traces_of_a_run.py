"""A collector receives one trace: of a producer outside, of AIFlow, and of what its tasks send."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from aiflow_core.app import App
from aiflow_core.cli.running import Goal, Session
from aiflow_core.model.event import Event

TRACE = "0af7651916cd43dd8448eb211c80319c"
PRODUCER = "b7ad6b7169203331"

WORKFLOW = """
from aiflow_core import Workflow
from aiflow_core.model.rule import TaskAction
from aiflow_notification_server.client import AIFlowNotificationClient
from aiflow_operator_bash.operator import BashOperator
from aiflow_operator_python.operator import PythonOperator

def tell():
    with AIFlowNotificationClient() as client:
        client.send_event("told", "once")

with Workflow(name="wf") as workflow:
    waits = BashOperator(name="waits", bash_command="until test -e {over}; do sleep 0.02; done")
    tells = PythonOperator(name="tells", python_callable=tell)
    shows = BashOperator(name="shows", bash_command="echo $TRACEPARENT > {shown}; touch {over}")
    tells.action_on_event_received(action=TaskAction.START, event_key="from outside")
    shows.action_on_event_received(action=TaskAction.START, event_key="told")
"""


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP.

    Attributes:
        spans: all that were sent, by name.
        services: the names of those who sent them.
        headers: of the last request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.spans: dict[str, Span] = {}
        self.services: set[str] = set()
        self.headers: dict[str, str] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            self.services |= {
                attribute.value.string_value
                for attribute in resource.resource.attributes
                if attribute.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans |= {span.name: span for span in scope.spans}


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.headers = dict(self.headers)
        self.server.take(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(collector: Collector) -> Iterator[Collector]:
    with collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with serving(Collector()) as collector:
        yield collector


def run(root: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> Session:
    """The workflow, with an event of a producer outside who has a trace; what it came to."""
    monkeypatch.setenv("AIFLOW_HOME", str(root))
    monkeypatch.chdir(root)
    (root / "project.yaml").write_text(
        f"hooks:\n  otel: {{endpoint: '{endpoint}', service_name: flow, headers: {{token: t}}}}\n"
    )
    file = root / "wf.py"
    file.write_text(WORKFLOW.format(over=root / "over", shown=root / "shown"))
    with ExitStack() as stack:
        session = Session(App.configured(), stack, Goal())
        session.start(file, (), None, None)
        context = f'{{"traceparent": "00-{TRACE}-{PRODUCER}-01"}}'
        session._embedded.events.append(
            [Event("from outside", "now", namespace="default", context=context)]
        )
        while not session.is_over:
            for _ in session.changes(10):
                pass
    session.judge()
    return session


def test_a_collector_receives_the_whole_of_it(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, monkeypatch, collector.endpoint)

    assert collector.services == {"flow"}
    assert collector.headers["token"] == "t"
    by_id = {span.span_id.hex(): span for span in collector.spans.values()}
    span = collector.spans["task shows"]
    lineage = []
    while span.parent_span_id.hex() in by_id:
        span = by_id[span.parent_span_id.hex()]
        lineage.append(span.name)
    assert lineage == [
        *("decide shows", "event told", "task tells"),
        *("decide tells", "event from outside"),
    ]
    assert span.parent_span_id.hex() == PRODUCER
    shows = collector.spans["task shows"]
    assert shows.trace_id.hex() == TRACE
    traceparent = (tmp_path / "shown").read_text().strip()
    assert traceparent.startswith(f"00-{TRACE}-{shows.span_id.hex()}-")
    # The execution was started by hand, and is a trace of its own.
    execution = collector.spans["workflow execution"]
    assert execution.trace_id.hex() != TRACE
    decision = by_id[execution.parent_span_id.hex()]
    assert decision.name == "decide execution"
    assert by_id[decision.parent_span_id.hex()].name == "event command"
    assert collector.spans["task waits"].trace_id == execution.trace_id


def test_a_collector_that_is_away_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = run(tmp_path, monkeypatch, "http://127.0.0.1:1/v1/traces")

    (execution,) = session.executions.values()
    assert execution.status == "SUCCESS"
    assert (tmp_path / "shown").read_text().startswith(f"00-{TRACE}-")
