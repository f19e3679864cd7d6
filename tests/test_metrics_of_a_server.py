"""What a server under load serves as metrics is what stands in its log and its database."""

import re
import sqlite3
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiflow_core.model.event import Event
from aiflow_notification_server.event_store import RemoteEventStore

from .servers import TwoServers, quickstart, until

WORKFLOW = """
from aiflow_core import Workflow
from aiflow_core.model.rule import TaskAction
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="wf") as workflow:
    waits = BashOperator(
        name="waits", bash_command="until test -e {enough}; do sleep 0.05; done"
    )
    fails = BashOperator(name="fails", bash_command="exit 3")
    fails.start_after(waits)
    fails.action_on_event_received(action=TaskAction.STOP, event_key="load")
"""

SENDERS = 4
EACH = 50
BATCH = 5

Samples = dict[tuple[str, ...], float]


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TwoServers]:
    monkeypatch.setenv("AIFLOW__PROJECT__HOOKS__METRICS__PORT", "0")
    monkeypatch.setenv("AIFLOW__PROJECT__OBSERVERS__FIGURES_INTERVAL", "0.1")
    with quickstart(tmp_path) as servers:
        yield servers


def scraped(address: str) -> Samples:
    with urllib.request.urlopen(address, timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def counted(samples: Samples, name: str) -> dict[str, int]:
    """The counts of a metric with one label."""
    return {key[1]: int(value) for key, value in samples.items() if key[0] == name and value}


def address_of(servers: TwoServers) -> str:
    (log,) = servers.home.glob("logs/aiflow_server-*.log")
    found = re.search(r"Metrics are served at (\S+)", log.read_text())
    assert found, log.read_text()
    return found[1]


def send(address: str, sender: int) -> None:
    with closing(RemoteEventStore(address, timeout=30)) as store:
        for _ in range(EACH):
            store.append([Event("load", namespace="default", sender=str(sender))] * BATCH)


def test_the_metrics_of_a_server_under_load(servers: TwoServers, tmp_path: Path) -> None:
    metrics = address_of(servers)
    (tmp_path / "wf.py").write_text(WORKFLOW.format(enough=tmp_path / "enough"))
    servers.upload(tmp_path / "wf.py")
    uri = servers.run("notification config get-value server_port").strip()
    log = f"localhost:{uri}"
    executions = [servers.start("wf") for _ in range(2)]
    load = [threading.Thread(target=send, args=(log, n)) for n in range(SENDERS)]
    for thread in load:
        thread.start()
    seen: list[Samples] = []
    while any(thread.is_alive() for thread in load):
        seen.append(scraped(metrics))
    (tmp_path / "enough").touch()
    for execution in executions:
        assert servers.ended("wf", execution)["status"] == "FAILED"

    with closing(RemoteEventStore(log)) as store:
        head = store.head()

        def settled() -> Samples | None:
            samples = scraped(metrics)
            is_all = samples.get(("aiflow_log_taken_in_offset",)) == head
            return samples if is_all and not samples["aiflow_log_lag_events",] else None

        final = until(settled, 30, lambda: scraped(metrics))
        events = store.read(limit=10_000)

    assert len(events) == head > SENDERS * EACH * BATCH
    assert counted(final, "aiflow_events_total") == Counter(str(e.type) for e in events)
    assert final["aiflow_decision_latency_seconds_count",] == head
    assert final["aiflow_log_head_offset",] == head
    for sample in ("inbox_events", "outbox_messages", "reports_waiting", "dead_letters"):
        assert final[f"aiflow_{sample}",] == 0, sample
    decisions = counted(final, "aiflow_decisions_total")
    assert decisions["STOP ignored"] == len(executions) * SENDERS * EACH * BATCH
    with closing(sqlite3.connect(servers.home / "aiflow.db")) as database:
        query = "select count(*) from decision where what = 'START'"
        assert (decisions["START"],) == database.execute(query).fetchone()
    assert counted(final, "aiflow_workflow_execution_status_changes_total") == {
        "RUNNING": 2,
        "FAILED": 2,
    }
    ends = counted(final, "aiflow_task_status_changes_total")
    assert (ends["QUEUED"], ends["SUCCESS"], ends["FAILED"]) == (4, 2, 2)
    assert not counted(final, "aiflow_task_executions")
    assert not counted(final, "aiflow_workflow_executions")
    assert counted(final, "aiflow_observer_calls_dropped_total") == {}
    assert final["aiflow_leader",] == 1
    # While it was loaded: every count grows only, and what was taken in was never ahead of the log.
    for earlier, later in zip(seen, [*seen[1:], final], strict=True):
        for key, value in earlier.items():
            if key[0].endswith(("_total", "_count", "_bucket")):
                assert later[key] >= value, key
        if ("aiflow_log_lag_events",) in later:
            assert later["aiflow_log_lag_events",] >= 0
    assert len(seen) >= 3
