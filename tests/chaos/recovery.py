"""R3: how long until the first decision after a restart, with many executions open, until another
server decides when one is lost, and until a listener that was cut off hears the first event."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from sqlalchemy import MetaData, Table, create_engine, insert, select, update

from aiflow_core.model.condition import SingleEventCondition
from aiflow_core.model.event import Event, EventFilter
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_server.scheduler import RemoteScheduler

from .campaign import Report, evidence
from .deployment import Deployment, deployed
from .figures import percentile, spread
from .history import read_metadata
from .oracle import FINISHED, Finding

# Seconds, the goals; a lost leader is followed within its lease and LATE.
FIRST_DECISION = 2.0
FIRST_EVENT = 1.0
LATE = 1.0

_AT_ONCE = 10_000


def recovery(restarts: int, executions: int) -> Report:
    """Kill and start each server `restarts` times, with so many executions open."""
    report = Report(f"{restarts} restarts with {executions:,} executions open")
    with evidence(report) as root, deployed(root) as deployment:
        deployment.start()
        deployment.upload()
        with RemoteScheduler(deployment.addresses.server_address) as scheduler:
            waiting = scheduler.start_workflow_execution("switch")
            scheduler.add_workflow_trigger(SingleEventCondition("chaos.call"), "called")
        deployment.servers["aiflow-1"].kill()
        _fill(deployment, waiting.id, executions)
        decisions = [_first_decision(deployment) for _ in range(restarts)]
        deliveries = [_first_event(deployment) for _ in range(restarts)]
        report.figures |= {
            "executions that were open": f"{_open(deployment):,}",
            "seconds from start to ready": spread([ready for ready, _ in decisions]),
            "seconds from start to the first decision": spread([s for _, s in decisions]),
            "seconds from ready to the first event heard": spread(deliveries),
        }
        report.findings = [
            _bounded("first decision", [s for _, s in decisions], FIRST_DECISION),
            _bounded("first event", deliveries, FIRST_EVENT),
        ]
    return report


def fail_over(losses: int, kind: str, lease: float = 3.0) -> Report:
    """Kill the server that leads of two, and let it come back when the other has taken over."""
    report = Report(f"{losses} losses of the leader of two, with a lease of {lease:g} s on {kind}")
    with evidence(report) as root, deployed(root, kind=kind, servers=2, lease=lease) as deployment:
        deployment.start()
        deployment.upload()
        with RemoteScheduler(deployment.addresses.server_address) as scheduler:
            scheduler.add_workflow_trigger(SingleEventCondition("chaos.call"), "called")
        seconds = [_take_over(deployment) for _ in range(losses)]
        report.figures["seconds from the loss to the other's first decision"] = spread(seconds)
        report.findings = [_bounded("first decision of the other", seconds, lease + LATE)]
    return report


def _take_over(deployment: Deployment) -> float:
    """Seconds from the death of the leader until the other has decided."""
    name = deployment.leader()
    assert name is not None, "no server leads"
    with (
        closing(RemoteEventStore(deployment.addresses.log_uri)) as log,
        _heard(log, log.head(), EventFilter(keys=("workflow_status.called",))) as heard,
    ):
        deployment.servers[name].kill()
        died = time.monotonic()
        log.append([Event("chaos.call", namespace="default", id=uuid.uuid4().hex)])
        seconds = heard() - died
    deployment.start()
    return seconds


def _bounded(what: str, seconds: list[float], most: float) -> Finding:
    p99 = percentile(seconds, 99)
    wrong = f"it was {p99:.2f} s"
    return Finding(
        f"p99 of the {what} within {most:g} s", len(seconds), (wrong,) if p99 > most else ()
    )


def _open(deployment: Deployment) -> int:
    found = read_metadata(deployment.addresses.metadata_database)["executions"]
    return sum(row.status not in FINISHED for row in found)


def _first_decision(deployment: Deployment) -> tuple[float, float]:
    """Seconds from the start of the AIFlow server until it is ready, and until it has decided on
    an event that was sent while it was away."""
    server = deployment.servers["aiflow-1"]
    server.kill()
    decided = EventFilter(keys=("workflow_status.called",))
    with closing(RemoteEventStore(deployment.addresses.log_uri)) as log:
        before = log.head()
        with _heard(log, before, decided) as heard:
            log.append([Event("chaos.call", namespace="default", id=uuid.uuid4().hex)])
            began = time.monotonic()
            server.start()
            server.wait_until_ready()
            ready = time.monotonic() - began
            return ready, heard() - began


def _first_event(deployment: Deployment) -> float:
    """Seconds from when the notification server is ready again until a listener, which was there
    before, hears the first event."""
    server = deployment.servers["notification-1"]
    with closing(RemoteEventStore(deployment.addresses.log_uri, timeout=30.0)) as log:
        key = f"chaos.{uuid.uuid4().hex}"
        with _heard(log, log.head(), EventFilter(keys=(key,))) as heard:
            server.kill()
            server.start()
            server.wait_until_ready()
            ready = time.monotonic()
            log.append([Event(key, namespace="default", id=uuid.uuid4().hex)])
            return heard() - ready


@contextmanager
def _heard(log: RemoteEventStore, after: int, wanted: EventFilter) -> Iterator[Callable[[], float]]:
    """Listen; what is yielded waits for the first wanted event and returns when it was heard."""
    moments: list[float] = []
    arrived = threading.Event()

    def listen() -> None:
        for _ in subscription:
            moments.append(time.monotonic())
            arrived.set()

    def wait() -> float:
        assert arrived.wait(60), f"{wanted} was not heard within 60 s"
        return moments[0]

    with log.subscribe(after, wanted) as subscription:
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield wait
    thread.join()


def _fill(deployment: Deployment, like: int, count: int) -> None:
    """Write so many open executions into the tables, each like one that waits for events."""
    engine = create_engine(deployment.addresses.metadata_database)
    with engine.begin() as connection:
        metadata = MetaData()
        executions = Table("workflow_execution", metadata, autoload_with=connection)
        consumer = Table("consumer", metadata, autoload_with=connection)
        query = select(executions).where(executions.c.id == like)
        model = dict(connection.execute(query).mappings().one())
        counters = json.loads(connection.execute(select(consumer.c.counters)).scalar_one())
        first = counters["execution"] + 1
        for start in range(first, first + count, _AT_ONCE):
            ids = range(start, min(start + _AT_ONCE, first + count))
            connection.execute(insert(executions), [{**model, "id": number} for number in ids])
        counters["execution"] += count
        connection.execute(update(consumer).values(counters=json.dumps(counters)))
    engine.dispose()
