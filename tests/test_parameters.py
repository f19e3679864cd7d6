"""Fields of events in the parameters of tasks, and the events that a task finds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aiflow_core import current_context
from aiflow_core.errors import AIFlowError, UsageError
from aiflow_core.model.event import Event
from aiflow_core.model.execution import AttemptKey, RunningTask, write_events
from aiflow_core.model.parameters import fill, mentions_event
from aiflow_core.model.workflow import Workflow
from aiflow_core.specs.operator import Operator, TaskContext

OLDER = Event("orders", '{"day": "sunday"}', offset=6)
ORDERS = Event("orders", '{"day": "monday", "rows": 5, "ok": true, "list": [1, "a"]}', offset=7)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${event.key}", "orders"),
        ("day ${event.value.day}, ${event.value.rows} rows", "day monday, 5 rows"),
        ("${event.value.ok} ${event.value.list}", 'true [1,"a"]'),
        ("${event.value.list.1}", "a"),
        ("${event.value}", ORDERS.value),
        ("${event.offset}", "7"),
        ("$${event.key}", "${event.key}"),
        ("$$${event.key}", "$${event.key}"),
        ("$$ ${HOME} $event ${events}", "$$ ${HOME} $event ${events}"),
        ("{{ event.key }}", "{{ event.key }}"),
    ],
)
def test_fields_of_the_latest_event_stand_in_for_their_paths(text: str, filled: str) -> None:
    assert fill(text, (OLDER, ORDERS)) == filled


def test_texts_in_lists_and_dicts_are_filled_and_nothing_else_is() -> None:
    thing = object()
    given = {"a": ["${event.key}", 1, (thing, "${event.value.day}")], "${event.key}": None}

    assert fill(given, (ORDERS,)) == {"a": ["orders", 1, (thing, "monday")], "${event.key}": None}


def test_what_an_event_says_is_not_filled_again() -> None:
    assert fill("${event.value}", (Event("a", "${event.key}"),)) == "${event.key}"


@pytest.mark.parametrize(
    "path", ["value.week", "value.day.x", "value.list.2", "context", "nonsense", ""]
)
def test_a_field_that_is_missing_is_named(path: str) -> None:
    with pytest.raises(AIFlowError) as caught:
        fill(f"x ${{event.{path}}}", (ORDERS,))
    assert f"${{event.{path}}}, and event 7 (orders)" in caught.value.what
    assert caught.value.next_step


def test_an_event_without_a_value_has_none_to_put_in() -> None:
    with pytest.raises(AIFlowError, match="no such field"):
        fill("${event.value}", (Event("a"),))


def test_a_task_that_no_event_started_has_no_fields() -> None:
    with pytest.raises(AIFlowError, match="started by no event"):
        fill("${event.key}", ())


@pytest.mark.parametrize(
    ("value", "mentions"),
    [("${event.key}", True), ([{"a": ("$${event.x}",)}], True), ("${HOME}", False), (1, False)],
)
def test_it_is_known_whether_a_value_mentions_an_event(value: Any, mentions: bool) -> None:
    assert mentions_event(value) is mentions


class Copy(Operator):
    def __init__(self, name: str, source: str, work: Callable[[], None], **config: Any) -> None:
        super().__init__(name, **config)
        self.source, self.work = source, work

    def start(self, context: TaskContext) -> None:
        self.work()


def test_an_operator_is_made_anew_with_what_the_event_says() -> None:
    def work() -> None: ...

    with Workflow("flow", "space") as workflow:
        copy = Copy("copy", "${event.value.day}", work, retries=3)
        other = Copy("other", source="here", work=work)

    filled = copy.filled((ORDERS,))

    assert (filled.source, filled.work) == ("monday", work)
    assert filled.workflow is workflow
    assert filled.config.retries == 3
    assert workflow.tasks["copy"] is copy
    assert other.filled(()) is other


def test_a_process_of_a_task_finds_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "events.jsonl"
    write_events(file, (OLDER, ORDERS))
    key = AttemptKey(workflow_execution_id=1, task_name="copy", sequence_number=2)
    task = RunningTask("space", "flow", key, "127.0.0.1:1", str(file))
    for name, value in task.to_environment().items():
        monkeypatch.setenv(name, value)

    context = current_context()

    assert context.events == (OLDER, ORDERS)
    assert (context.key, context.workflow_name) == (key, "flow")
    assert len(file.read_text().splitlines()) == 2


def test_an_executor_that_hands_over_no_events_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = AttemptKey(workflow_execution_id=1, task_name="copy", sequence_number=2)
    environment = RunningTask("space", "flow", key, "").to_environment()
    assert "AIFLOW_EVENTS_FILE" not in environment
    monkeypatch.setenv("AIFLOW_TASK", environment["AIFLOW_TASK"])

    assert current_context().events == ()


def test_outside_of_a_task_there_is_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIFLOW_TASK", raising=False)

    with pytest.raises(UsageError, match="belongs to no task"):
        current_context()
