"""What can be asked for: workflows, executions, namespaces, schedules, triggers, snapshots, and
that dead letters go."""

from typing import Any

from aiflow_core.clock import to_datetime
from aiflow_core.errors import AIFlowError, ConflictError, DefinitionError, NotFoundError
from aiflow_core.model.algebra import Pattern, check_pattern
from aiflow_core.model.decision import Cause
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    Namespace,
    WorkflowInfo,
    WorkflowSnapshot,
    WorkflowTrigger,
)
from aiflow_core.model.rule import TaskAction
from aiflow_core.model.serialization import decode, to_plain
from aiflow_core.model.status import (
    TASK_ALIVE,
    ExecutionType,
)
from aiflow_core.model.workflow import check_definition, check_name
from aiflow_scheduler_event.commands import (
    ActOnTask,
    AddSchedule,
    AddTrigger,
    Command,
    DeleteExecution,
    DeleteNamespace,
    DeleteSchedules,
    DeleteSnapshots,
    DeleteTriggers,
    DeleteWorkflow,
    DropDeadLetters,
    EnableWorkflow,
    PauseSchedule,
    PauseTrigger,
    PutNamespace,
    PutState,
    StartExecution,
    StopExecution,
    StopExecutions,
    SubmitWorkflow,
)
from aiflow_scheduler_event.executions import Listener
from aiflow_scheduler_event.rules import Plan
from aiflow_scheduler_event.schedules import Schedules
from aiflow_scheduler_event.state import (
    Reply,
    Run,
    Scope,
    ScopeKind,
    as_seen,
)
from aiflow_scheduler_event.step import Why, replace

_REQUEST = Why("a request", Cause.REQUEST)


class Administration(Schedules):
    """Carries out commands, see `engine`."""

    def _command(self, event: Event) -> None:
        """Do what was asked for, and keep the answer for whoever asks for it again."""
        try:
            result = self._do(decode(event.value or "", Command))  # type: ignore[arg-type]
        except AIFlowError as error:
            reply = Reply(event.id, event.offset, error=error.to_wire())
        else:
            reply = Reply(event.id, event.offset, result=to_plain(result))
        self._changes.replies.append(reply)

    def _do(self, command: Command) -> Any:
        match command:
            case SubmitWorkflow():
                return self._submit(command)
            case StartExecution():
                workflow = self._workflow(command.namespace, command.workflow_name)
                if not workflow.is_enabled:
                    raise ConflictError(
                        f"Workflow {workflow.namespace}.{workflow.workflow_name} is disabled.",
                        next_step=f"Run `aiflow workflow enable {workflow.workflow_name}` first.",
                    )
                run = self._start_execution(workflow, ExecutionType.MANUAL, _REQUEST)
                return as_seen(run.execution)
            case StopExecution():
                run = self._run(command.workflow_execution_id)
                self._stop_execution(run)
                return as_seen(run.execution)
            case StopExecutions():
                runs = self._runs_of(self._workflow(command.namespace, command.workflow_name))
                for run in runs:
                    self._stop_execution(run)
                return [as_seen(run.execution) for run in runs]
            case DeleteExecution():
                self._delete_execution(command.workflow_execution_id)
            case ActOnTask():
                return self._act_on_task(command)
            case PutState():
                scope = self._run(command.workflow_execution_id).scope
                self._keep_state(scope, command.name, command.value)
            case EnableWorkflow():
                workflow = self._workflow(command.namespace, command.workflow_name)
                return self._keep(self._updated(workflow, is_enabled=command.enabled))
            case DeleteWorkflow():
                self._delete_workflow(self._workflow(command.namespace, command.workflow_name))
            case PutNamespace():
                return self._put_namespace(command)
            case DeleteNamespace():
                self._delete_namespace(command.name)
            case AddSchedule() | PauseSchedule() | DeleteSchedules():
                return self._do_schedule(command)
            case AddTrigger() | PauseTrigger() | DeleteTriggers():
                return self._do_trigger(command)
            case DeleteSnapshots():
                self._delete_snapshots(command)
            case DropDeadLetters():
                self._changes.dropped_letters += command.keys
        return None

    def _submit(self, command: SubmitWorkflow) -> WorkflowInfo:
        definition = command.definition
        check_definition(definition)
        if definition.namespace not in self.state.namespaces:
            raise NotFoundError(
                "namespace",
                definition.namespace,
                next_step=f"Run `aiflow namespace add {definition.namespace}` first.",
            )
        now = to_datetime(self._now)
        known = self._by_name.get((definition.namespace, definition.name))
        if known is None:
            self.state.counters.workflow += 1
            known = self.state.counters.workflow
            found = WorkflowInfo(known, definition.name, definition.namespace, now, now)
            self._by_name[definition.namespace, definition.name] = known
        else:
            found = self.state.workflows[known]
        workflow = self._keep(self._updated(found, is_enabled=True))
        self.state.counters.snapshot += 1
        snapshot = WorkflowSnapshot(
            self.state.counters.snapshot, workflow.id, now, definition, command.bundle
        )
        self._changes.put(snapshot)
        before = self.state.current.get(workflow.id)
        if before is not None and before not in self._running_on:
            del self.state.plans[before]
        self.state.plans[snapshot.id] = Plan(snapshot)
        self.state.current[workflow.id] = snapshot.id
        self._tell(workflow)
        return workflow

    def _updated(self, workflow: WorkflowInfo, is_enabled: bool) -> WorkflowInfo:
        return replace(
            workflow,
            is_enabled=is_enabled,
            update_time=to_datetime(self._now),
            event_offset=self._event.offset,
        )

    def _keep(self, workflow: WorkflowInfo) -> WorkflowInfo:
        self.state.workflows[workflow.id] = workflow
        self._changes.put(workflow)
        return workflow

    def _act_on_task(self, command: ActOnTask) -> Any:
        run = self._run(command.workflow_execution_id)
        task = run.plan.tasks.get(command.task_name)
        if task is None:
            raise NotFoundError(
                "task",
                command.task_name,
                next_step=f"The tasks are {', '.join(run.plan.tasks)}.",
            )
        action = TaskAction(command.action)
        live = run.tasks.get(task.name)
        alive = live is not None and live.status in TASK_ALIVE
        if action is TaskAction.STOP and not alive:
            raise ConflictError(
                f"Task {task.name!r} of workflow execution {run.execution.id} does not run."
            )
        if action is not TaskAction.STOP and run.execution.stopping:
            raise ConflictError(f"Workflow execution {run.execution.id} is being stopped.")
        self._act(run, task, action, _REQUEST)
        return as_seen(run.tasks[task.name])

    def _delete_execution(self, execution_id: int) -> None:
        if execution_id in self.state.runs:
            raise ConflictError(
                f"Workflow execution {execution_id} is running.",
                next_step=f"Run `aiflow workflow-execution stop {execution_id}` first.",
            )
        self._changes.erased_executions.append(execution_id)

    def _delete_workflow(self, workflow: WorkflowInfo) -> None:
        running = self._runs_of(workflow)
        if running:
            ids = ", ".join(str(run.execution.id) for run in running)
            raise ConflictError(
                f"Workflow {workflow.namespace}.{workflow.workflow_name} has running executions: "
                f"{ids}.",
                next_step=f"Run `aiflow workflow-execution stop-all {workflow.workflow_name}` "
                "first.",
            )
        schedules, triggers = self.state.schedules.values(), self.state.triggers.values()
        self._remove_schedules([s for s in schedules if s.workflow_id == workflow.id])
        self._remove_triggers([t for t in triggers if t.workflow_id == workflow.id])
        self.state.states.pop(Scope(ScopeKind.WORKFLOW, workflow.id), None)
        del self._by_name[workflow.namespace, workflow.workflow_name]
        del self.state.plans[self.state.current.pop(workflow.id)]
        del self.state.workflows[workflow.id]
        # The store deletes with the workflow what belongs to it and is not in memory.
        self._changes.delete(WorkflowInfo, workflow.id)

    def _put_namespace(self, command: PutNamespace) -> Namespace:
        exists = command.name in self.state.namespaces
        if command.must_exist and not exists:
            raise NotFoundError("namespace", command.name)
        if exists and not command.must_exist:
            raise ConflictError(f"Namespace: {command.name} already exists.")
        check_name("namespace", command.name)
        namespace = Namespace(command.name, command.properties)
        self.state.namespaces[namespace.name] = namespace
        self._changes.put(namespace)
        return namespace

    def _delete_namespace(self, name: str) -> None:
        if name not in self.state.namespaces:
            raise NotFoundError("namespace", name)
        workflows = [w.workflow_name for w in self.state.workflows.values() if w.namespace == name]
        if workflows:
            raise ConflictError(
                f"Namespace {name} has workflows: {', '.join(workflows)}.",
                next_step="Delete them first.",
            )
        del self.state.namespaces[name]
        self._changes.delete(Namespace, name)

    def _do_trigger(
        self, command: AddTrigger | PauseTrigger | DeleteTriggers
    ) -> WorkflowTrigger | None:
        match command:
            case AddTrigger():
                workflow = self._workflow(command.namespace, command.workflow_name)
                if isinstance(command.rule, Pattern):
                    check_pattern(command.rule)
                if not command.rule.expect_event_keys:
                    raise DefinitionError(
                        "This condition waits for no event, and a trigger has nothing else.",
                        next_step="Use a condition on event keys; the statuses of tasks are told "
                        "by WorkflowTaskStatusCondition.",
                    )
                self.state.counters.trigger += 1
                trigger = WorkflowTrigger(
                    self.state.counters.trigger,
                    workflow.id,
                    command.rule,
                    to_datetime(self._now),
                )
                self.state.triggers[trigger.id] = trigger
                self._listen_trigger(trigger)
            case PauseTrigger():
                if command.trigger_id not in self.state.triggers:
                    raise NotFoundError("workflow trigger", command.trigger_id)
                trigger = replace(self.state.triggers[command.trigger_id], is_paused=command.paused)
                self.state.triggers[trigger.id] = trigger
            case DeleteTriggers():
                self._remove_triggers(self._chosen(self.state.triggers, command.ids))
                return None
        self._changes.put(trigger)
        return trigger

    def _remove_triggers(self, triggers: list[WorkflowTrigger]) -> None:
        ids = {trigger.id for trigger in triggers}
        self._drop_evaluations(lambda evaluation: evaluation.trigger_id in ids)
        for trigger in triggers:
            self._forget_trigger(trigger.id)
            namespace = self.state.workflows[trigger.workflow_id].namespace
            self._index.remove(
                namespace, trigger.rule.expect_event_keys, Listener(True, trigger.id)
            )
            del self.state.triggers[trigger.id]
            self._changes.delete(WorkflowTrigger, trigger.id)
        left = {trigger.workflow_id for trigger in self.state.triggers.values()}
        for workflow_id in {trigger.workflow_id for trigger in triggers} - left:
            scope = Scope(ScopeKind.WORKFLOW, workflow_id)
            for name in list(self.state.states.get(scope, ())):
                self._keep_state(scope, name, None)

    def _delete_snapshots(self, command: DeleteSnapshots) -> None:
        for snapshot_id in command.ids:
            if snapshot_id in self.state.plans:
                if command.strict:
                    raise ConflictError(
                        f"Workflow snapshot {snapshot_id} is in use: it is the current one of its "
                        "workflow, or an execution runs on it."
                    )
                continue
            self._changes.delete(WorkflowSnapshot, snapshot_id)

    def _run(self, execution_id: int) -> Run:
        found = self.state.runs.get(execution_id)
        if found is None:
            raise ConflictError(f"Workflow execution {execution_id} is not running.")
        return found
