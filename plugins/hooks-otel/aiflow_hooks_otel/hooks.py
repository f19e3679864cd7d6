"""The observer `otel`."""

from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from aiflow_core import __version__
from aiflow_core.errors import ConfigError
from aiflow_core.hookspecs import hook
from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptRequest, TaskExecution, WorkflowExecution
from aiflow_hooks_otel.story import Story

# Seconds that one export may take, and that the end of a server waits for the last one.
_EXPORT = 3.0


class Traces:
    """Sends a trace of what led to what: from an event through decisions to tasks, and on to the
    events that these send.

    Args:
        endpoint: where spans are sent, by OTLP over HTTP.
        service_name: how the deployment is called there.
        ratio: the part of the traces that is sent, 0 to 1. A trace that came from outside is sent
            if it says so itself.
        headers: HTTP headers for the endpoint, such as an authorization.
        exporter: takes the spans in place of the endpoint.
    """

    def __init__(
        self,
        endpoint: str = "http://127.0.0.1:4318/v1/traces",
        service_name: str = "aiflow",
        ratio: float = 1.0,
        headers: Mapping[str, str] | None = None,
        exporter: SpanExporter | None = None,
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ConfigError(f"The ratio of the observer 'otel' is 0 to 1, not {ratio:g}.")
        self._endpoint = endpoint
        self._service_name = service_name
        self._ratio = ratio
        self._headers = dict(headers or {})
        self._exporter = exporter
        self._provider: TracerProvider | None = None
        self._story: Story | None = None

    @hook
    def event_appended(self, event: Event, begun_ms: int, decided_ms: int) -> None:
        self._told.event(event, begun_ms, decided_ms)

    @hook
    def decision_made(self, decision: Decision) -> None:
        self._told.decision(decision)

    @hook
    def workflow_execution_changed(self, execution: WorkflowExecution) -> None:
        self._told.execution(execution)

    @hook
    def task_execution_changed(self, task_execution: TaskExecution) -> None:
        self._told.task(task_execution)

    @hook
    def before_task_start(self, request: AttemptRequest) -> dict[str, str]:
        return self._told.environment(request.key)

    @hook
    def server_stopped(self) -> None:
        """Also what has not ended is sent: what came of it has a parent then."""
        if self._provider is None or self._story is None:
            return
        self._story.close()
        self._provider.force_flush(round(_EXPORT * 1000))
        self._provider.shutdown()
        self._provider = self._story = None

    @property
    def _told(self) -> Story:
        # Made when there is something to tell: a client that only uploads has no use for a thread.
        if self._story is None:
            resource = Resource.create(
                {SERVICE_NAME: self._service_name, SERVICE_VERSION: __version__}
            )
            self._provider = TracerProvider(
                sampler=ParentBased(TraceIdRatioBased(self._ratio)),
                resource=resource,
                shutdown_on_exit=False,  # nobody waits for a collector that is away
            )
            exporter = self._exporter or OTLPSpanExporter(
                self._endpoint, headers=self._headers, timeout=_EXPORT
            )
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
            self._story = Story(self._provider.get_tracer("aiflow", __version__))
        return self._story
