"""Looking up who listens to an event."""

from hypothesis import given
from hypothesis import strategies as st

from aiflow_core.clock import to_datetime
from aiflow_core.model.event import Event, EventType, key_matches
from aiflow_core.model.execution import WorkflowSnapshot
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import WorkflowDefinition
from aiflow_scheduler_event.rules import Index, Plan

from .play import CAST, START, after, on, task, when

KEYS = st.text("ab.*", max_size=4)


def found(index: Index[str], key: str, namespace: str = "default") -> list[str]:
    return list(index.matching(Event(key, namespace=namespace)))


class TestIndex:
    def test_a_listener_is_found_by_each_of_its_keys(self) -> None:
        index: Index[str] = Index()
        index.add("default", ["a", "b"], "one")
        index.add("default", ["b"], "other")

        assert found(index, "a") == ["one"]
        assert found(index, "b") == ["one", "other"]
        assert found(index, "c") == []

    def test_a_listener_that_matches_twice_is_found_once(self) -> None:
        index: Index[str] = Index()
        index.add("default", ["a", "a", "a*", "*"], "one")

        assert found(index, "a") == ["one"]

    def test_a_pattern_hears_statuses_only_when_it_asks_for_them(self) -> None:
        index: Index[str] = Index()
        index.add("default", ["*"], "all")
        index.add("default", ["task_status.*"], "statuses")
        status = Event("task_status.w.t", namespace="default", type=EventType.TASK_STATUS)

        assert list(index.matching(status)) == ["statuses"]

    def test_namespaces_are_apart(self) -> None:
        index: Index[str] = Index()
        index.add("default", ["a", "*"], "one")

        assert found(index, "a", "elsewhere") == []

    def test_one_listener_leaves_without_the_others(self) -> None:
        index: Index[str] = Index()
        for listener in ("one", "other"):
            index.add("default", ["a", "b*"], listener)

        index.remove("default", ["a", "b*"], "one")

        assert found(index, "a") == found(index, "bb") == ["other"]

    def test_one_who_never_listened_may_leave(self) -> None:
        index: Index[str] = Index()

        index.remove("default", ["a", "b*"], "nobody")

        assert found(index, "a") == []

    @given(
        listeners=st.dictionaries(st.text("xyz", min_size=1), st.lists(KEYS, max_size=4)),
        gone=st.sets(st.text("xyz", min_size=1)),
        key=st.text("ab.", max_size=5),
    )
    def test_it_finds_whom_a_search_through_all_would_find(
        self, listeners: dict[str, list[str]], gone: set[str], key: str
    ) -> None:
        index: Index[str] = Index()
        for listener, keys in listeners.items():
            index.add("default", keys, listener)
        for listener in gone & listeners.keys():
            index.remove("default", listeners[listener], listener)

        expected = {
            listener
            for listener, keys in listeners.items()
            if listener not in gone and any(key_matches(k, key) for k in keys)
        }
        assert set(found(index, key)) == expected
        assert len(found(index, key)) == len(expected)


class TestPlan:
    def plan(self, *tasks: object) -> Plan:
        definition = WorkflowDefinition(name="flow", tasks=tasks)  # type: ignore[arg-type]
        return Plan(WorkflowSnapshot(1, 1, to_datetime(0), definition))

    def test_it_knows_who_waits_for_whose_status(self) -> None:
        plan = self.plan(
            task("a"),
            task("b", after("a"), when(START, a=TaskStatus.FAILED)),
            task("c", after("a", "b")),
        )

        assert dict(plan.after) == {"a": ["b", "c"], "b": ["c"]}

    def test_it_knows_who_listens_to_which_keys(self) -> None:
        plan = self.plan(*CAST)

        assert plan.listeners == {
            "c": ["number", "enough", "other"],
            "d": ["x", "y", "*again"],
            "gathers": ["x", "number", "go", "*again"],
            "busy": ["number"],
            "periodic": ["enough"],
        }

    def test_it_is_reactive_when_no_task_starts_by_itself(self) -> None:
        assert self.plan(task("a", on(START, "x"))).reactive
        assert not self.plan(task("a", on(START, "x")), task("b")).reactive
