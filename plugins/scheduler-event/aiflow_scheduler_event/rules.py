"""Who listens to which event: looking it up costs what matches, not what waits."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from aiflow_core.model.algebra import Pattern
from aiflow_core.model.condition import TaskStatusCondition
from aiflow_core.model.event import ANY_KEY, Event, hears
from aiflow_core.model.execution import WorkflowSnapshot
from aiflow_core.model.workflow import TaskDefinition

L = TypeVar("L")


class Index(Generic[L]):
    """Listeners by namespace and key. A key with `*` is tried on each event of its namespace."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], dict[L, None]] = defaultdict(dict)
        self._patterns: dict[str, dict[tuple[str, L], None]] = defaultdict(dict)

    def add(self, namespace: str, keys: Iterable[str], listener: L) -> None:
        """Let `listener` hear the events of the namespace with one of these keys."""
        for key in keys:
            if ANY_KEY in key:
                self._patterns[namespace][key, listener] = None
            else:
                self._exact[namespace, key][listener] = None

    def remove(self, namespace: str, keys: Iterable[str], listener: L) -> None:
        """Undo `add`."""
        for key in keys:
            if ANY_KEY in key:
                self._patterns[namespace].pop((key, listener), None)
            else:
                self._exact[namespace, key].pop(listener, None)
                if not self._exact[namespace, key]:
                    del self._exact[namespace, key]

    def matching(self, event: Event) -> Iterator[L]:
        """Who listens to this event, each once, in the order in which they were added."""
        found = dict(self._exact.get((event.namespace, event.key), {}))
        for pattern, listener in self._patterns.get(event.namespace, {}):
            if hears(pattern, event):
                found[listener] = None
        return iter(found)


class Plan:
    """A snapshot, prepared for look-ups. Shared by all executions that run on it.

    Attributes:
        tasks: definitions by name, in the order of the workflow.
        places: of the tasks in the workflow, from 0.
        after: task name -> names of the tasks with a rule on its status.
        listeners: event keys that a task's rules listen to, by task name.
        patterns: the rules of the event algebra: task and number of the rule, by `rule_name`.
        reactive: no task starts by itself, so that only events make the executions do anything.
    """

    def __init__(self, snapshot: WorkflowSnapshot) -> None:
        self.snapshot = snapshot
        self.tasks = {task.name: task for task in snapshot.definition.tasks}
        self.reactive = not any(task.starts_by_itself for task in self.tasks.values())
        self.after: dict[str, list[str]] = defaultdict(list)
        self.listeners: dict[str, list[str]] = {}
        self.places = {name: place for place, name in enumerate(self.tasks)}
        self.patterns: dict[str, tuple[TaskDefinition, int]] = {
            self.rule_name(task.name, number): (task, number)
            for task in self.tasks.values()
            for number, rule in enumerate(task.rules)
            if isinstance(rule.condition, Pattern)
        }
        for task in self.tasks.values():
            keys: dict[str, None] = {}
            for rule in task.rules:
                if isinstance(rule.condition, TaskStatusCondition):
                    for upstream in rule.condition.statuses:
                        if task.name not in self.after[upstream]:
                            self.after[upstream].append(task.name)
                else:
                    keys.update(dict.fromkeys(rule.condition.expect_event_keys))
            if keys:
                self.listeners[task.name] = list(keys)

    def rule_name(self, task_name: str, number: int) -> str:
        """A short name for a rule: the task's may be as long as a name can be."""
        return f"{self.places[task_name]}.{number}"
