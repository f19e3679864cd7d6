"""What becomes of tasks, as `docs/reference/rules.md` says it, in as few lines as that takes."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiflow_core.model.execution import AttemptKey

ALIVE = ("QUEUED", "RUNNING", "STOPPING", "RETRYING")


@dataclass(frozen=True)
class Spec:
    """A task. A rule is an action with the key or with the statuses that it waits for."""

    rules: tuple[tuple[str, str | Mapping[str, str]], ...] = ()
    retries: int = 0
    retry_delay: float = 0
    retry_backoff: float = 1
    timeout: float | None = None
    period: int = 0

    @property
    def starts_with_the_execution(self) -> bool:
        return bool(self.period) or all(action != "START" for action, _ in self.rules)


@dataclass
class Task:
    """The latest execution of a task."""

    sequence: int
    attempt: int = 1
    status: str = ""
    wish: str = ""


@dataclass
class Execution:
    id: int
    workflow: str
    status: str = "RUNNING"
    stopping: bool = False
    tasks: dict[str, Task] = field(default_factory=dict)
    earlier: list[tuple[str, int, int, str]] = field(default_factory=list)


class TaskModel:
    """Executions, tasks and timers, and what executors are told.

    Attributes:
        executions: by id.
        timers: moment by kind, execution and task.
        submitted: attempts that were handed to an executor, in order.
        stopped: attempts that were asked to end, in order.
    """

    def __init__(self, workflows: Mapping[str, Mapping[str, Spec]]) -> None:
        self.workflows = workflows
        self.executions: dict[int, Execution] = {}
        self.timers: dict[tuple[str, int, str], int] = {}
        self.submitted: list[AttemptKey] = []
        self.stopped: list[AttemptKey] = []
        self.now = 0
        self._news: deque[tuple[Execution, str, str]] = deque()

    def reach(self, now: int) -> None:
        """Time passes; it never goes back."""
        self.now = max(self.now, now)

    # --- what happens ---

    def start(self, workflow: str) -> None:
        execution = Execution(len(self.executions) + 1, workflow)
        self.executions[execution.id] = execution
        for name, spec in self.workflows[workflow].items():
            if spec.period:
                self._set("PERIOD", execution, name, spec.period)
            if spec.starts_with_the_execution:
                self._begin(execution, name)

    def stop(self, id: int) -> None:
        execution = self._running(id)
        if execution and not execution.stopping:
            execution.stopping = True
            for name, task in execution.tasks.items():
                if task.status in ALIVE:
                    self._end(execution, name, "STOP")
            for name in self.workflows[execution.workflow]:
                self.timers.pop(("PERIOD", id, name), None)

    def act(self, id: int, name: str, action: str) -> None:
        execution = self._running(id)
        if not execution or name not in self.workflows[execution.workflow]:
            return
        if action == "STOP" or not execution.stopping:
            self._act(execution, name, action)

    def hear(self, key: str) -> None:
        for execution in self._all_running():
            for name, spec in self.workflows[execution.workflow].items():
                self._first(execution, name, spec, lambda condition: condition == key)

    def report(self, key: AttemptKey, status: str) -> None:
        execution = self._running(key.workflow_execution_id)
        task = execution.tasks.get(key.task_name) if execution else None
        if not execution or not task or self._key(execution, key.task_name) != key:
            return
        name, spec = key.task_name, self.workflows[execution.workflow][key.task_name]
        if status == "RUNNING":
            if task.status == "QUEUED":
                self._become(execution, name, "RUNNING")
                if spec.timeout:
                    self._set("TIMEOUT", execution, name, spec.timeout)
            return
        if task.status not in ("QUEUED", "RUNNING", "STOPPING"):
            return
        self.timers.pop(("TIMEOUT", execution.id, name), None)
        if status != "SUCCESS":
            status = "STOPPED" if task.wish in ("STOP", "RESTART") else "FAILED"
        if status == "FAILED" and task.attempt <= spec.retries and not execution.stopping:
            task.wish = ""
            self._become(execution, name, "RETRYING")
            delay = spec.retry_delay * spec.retry_backoff ** (task.attempt - 1)
            self._set("RETRY", execution, name, delay)
        else:
            self._finish(execution, name, status)

    def ring(self, kind: str, id: int, name: str, moment: int) -> None:
        """A timer is due."""
        if self.timers.get((kind, id, name)) != moment:
            return
        del self.timers[kind, id, name]
        execution = self.executions[id]
        if kind == "PERIOD":
            self._set(kind, execution, name, self.workflows[execution.workflow][name].period)
            self._act(execution, name, "RESTART")
        elif kind == "RETRY":
            execution.tasks[name].attempt += 1
            self._submit(execution, name)
        else:
            self._end(execution, name, "FAIL")

    def settle(self) -> None:
        """Carry the statuses that tasks have taken to the rules, in their order, until none is
        left; then end what is over."""
        while self._news:
            execution, changed, status = self._news.popleft()
            for name, spec in self.workflows[execution.workflow].items():

                def met(
                    condition: str | Mapping[str, str],
                    execution: Execution = execution,
                    news: tuple[str, str] = (changed, status),
                ) -> bool:
                    return (
                        not isinstance(condition, str)
                        and news in condition.items()
                        and all(
                            t in execution.tasks and execution.tasks[t].status == s
                            for t, s in condition.items()
                        )
                    )

                self._first(execution, name, spec, met)
        for execution in self._all_running():
            statuses = {task.status for task in execution.tasks.values()}
            specs = self.workflows[execution.workflow].values()
            goes_on = any(s.period for s in specs) and not execution.stopping
            if statuses.isdisjoint(ALIVE) and not goes_on:
                stopped = execution.stopping or "STOPPED" in statuses
                execution.status = (
                    "FAILED" if "FAILED" in statuses else "STOPPED" if stopped else "SUCCESS"
                )

    # --- what can be seen ---

    def rows(self) -> set[tuple[int, str, int, int, str]]:
        """Execution, name, sequence number, attempt and status of every task execution."""
        latest = {
            (e.id, name, t.sequence, t.attempt, t.status)
            for e in self.executions.values()
            for name, t in e.tasks.items()
        }
        return latest | {(e.id, *row) for e in self.executions.values() for row in e.earlier}

    def attempts(self) -> list[AttemptKey]:
        """Those that have not ended."""
        return [
            self._key(e, name)
            for e in self._all_running()
            for name, task in e.tasks.items()
            if task.status in ("QUEUED", "RUNNING", "STOPPING")
        ]

    # --- what follows ---

    def _first(
        self,
        execution: Execution,
        name: str,
        spec: Spec,
        met: Callable[[str | Mapping[str, str]], bool],
    ) -> None:
        if not execution.stopping:
            for action, condition in spec.rules:
                if met(condition):
                    self._act(execution, name, action)
                    return

    def _act(self, execution: Execution, name: str, action: str) -> None:
        task = execution.tasks.get(name)
        if task and task.status in ALIVE:
            if action != "START":
                self._end(execution, name, action)
        elif action != "STOP":
            self._begin(execution, name)

    def _end(self, execution: Execution, name: str, wish: str) -> None:
        task = execution.tasks[name]
        task.wish = wish
        if task.status == "RETRYING":
            self.timers.pop(("RETRY", execution.id, name))
            self._finish(execution, name, "STOPPED")
        elif task.status != "STOPPING":
            self.timers.pop(("TIMEOUT", execution.id, name), None)
            self._become(execution, name, "STOPPING")
            self.stopped.append(self._key(execution, name))

    def _finish(self, execution: Execution, name: str, status: str) -> None:
        again = execution.tasks[name].wish == "RESTART" and not execution.stopping
        self._become(execution, name, status)
        if again:
            self._begin(execution, name)

    def _begin(self, execution: Execution, name: str) -> None:
        before = execution.tasks.get(name)
        if before:
            execution.earlier.append((name, before.sequence, before.attempt, before.status))
        execution.tasks[name] = Task(before.sequence + 1 if before else 1)
        self._submit(execution, name)

    def _submit(self, execution: Execution, name: str) -> None:
        self._become(execution, name, "QUEUED")
        self.submitted.append(self._key(execution, name))

    def _become(self, execution: Execution, name: str, status: str) -> None:
        execution.tasks[name].status = status
        self._news.append((execution, name, status))

    def _set(self, kind: str, execution: Execution, name: str, seconds: float) -> None:
        self.timers[kind, execution.id, name] = self.now + max(round(seconds * 1000), 1)

    def _key(self, execution: Execution, name: str) -> AttemptKey:
        task = execution.tasks[name]
        return AttemptKey(execution.id, name, task.sequence, task.attempt)

    def _running(self, id: int) -> Execution | None:
        found = self.executions.get(id)
        return found if found and found.status == "RUNNING" else None

    def _all_running(self) -> list[Execution]:
        return [e for e in self.executions.values() if e.status == "RUNNING"]
