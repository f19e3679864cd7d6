"""What the command line does, as Python functions.

Each function asks the AIFlow server that `aiflow_client.yaml` names, and raises the errors of
`aiflow_core.errors`: `NotFoundError`, `ConflictError`, `UnavailableError` and so on. A list is a
list, empty when there is nothing.
"""

from aiflow_core.ops.event_ops import (
    drop_dead_letter,
    drop_dead_letters,
    get_dead_letter,
    list_dead_letters,
    redrive_dead_letter,
    redrive_dead_letters,
)
from aiflow_core.ops.explain_ops import (
    explain_event,
    explain_task,
    explain_task_execution,
    explain_workflow,
)
from aiflow_core.ops.namespace_ops import (
    add_namespace,
    delete_namespace,
    get_namespace,
    list_namespace,
    update_namespace,
)
from aiflow_core.ops.task_execution_ops import (
    get_task_execution,
    list_task_executions,
    read_task_log,
    start_task_execution,
    stop_task_execution,
)
from aiflow_core.ops.workflow_execution_ops import (
    delete_workflow_execution,
    get_workflow_execution,
    list_workflow_executions,
    start_workflow_execution,
    stop_workflow_execution,
    stop_workflow_executions,
)
from aiflow_core.ops.workflow_ops import (
    delete_workflow,
    disable_workflow,
    enable_workflow,
    get_workflow,
    list_workflows,
    upload_workflows,
)
from aiflow_core.ops.workflow_schedule_ops import (
    add_workflow_schedule,
    delete_workflow_schedule,
    delete_workflow_schedules,
    get_workflow_schedule,
    list_workflow_schedules,
    pause_workflow_schedule,
    resume_workflow_schedule,
)
from aiflow_core.ops.workflow_snapshot_ops import (
    delete_workflow_snapshot,
    delete_workflow_snapshots,
    get_workflow_snapshot,
    list_workflow_snapshots,
)
from aiflow_core.ops.workflow_trigger_ops import (
    add_workflow_trigger,
    delete_workflow_trigger,
    delete_workflow_triggers,
    get_workflow_trigger,
    list_workflow_triggers,
    pause_workflow_trigger,
    resume_workflow_trigger,
)

__all__ = [
    "add_namespace",
    "add_workflow_schedule",
    "add_workflow_trigger",
    "delete_namespace",
    "delete_workflow",
    "delete_workflow_execution",
    "delete_workflow_schedule",
    "delete_workflow_schedules",
    "delete_workflow_snapshot",
    "delete_workflow_snapshots",
    "delete_workflow_trigger",
    "delete_workflow_triggers",
    "disable_workflow",
    "drop_dead_letter",
    "drop_dead_letters",
    "enable_workflow",
    "explain_event",
    "explain_task",
    "explain_task_execution",
    "explain_workflow",
    "get_dead_letter",
    "get_namespace",
    "get_task_execution",
    "get_workflow",
    "get_workflow_execution",
    "get_workflow_schedule",
    "get_workflow_snapshot",
    "get_workflow_trigger",
    "list_dead_letters",
    "list_namespace",
    "list_task_executions",
    "list_workflow_executions",
    "list_workflow_schedules",
    "list_workflow_snapshots",
    "list_workflow_triggers",
    "list_workflows",
    "pause_workflow_schedule",
    "pause_workflow_trigger",
    "read_task_log",
    "redrive_dead_letter",
    "redrive_dead_letters",
    "resume_workflow_schedule",
    "resume_workflow_trigger",
    "start_task_execution",
    "start_workflow_execution",
    "stop_task_execution",
    "stop_workflow_execution",
    "stop_workflow_executions",
    "update_namespace",
    "upload_workflows",
]
