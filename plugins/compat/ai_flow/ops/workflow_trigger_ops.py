"""Operations on workflow triggers."""

from ai_flow.ops.absent import none_if_absent
from aiflow_core.ops import workflow_trigger_ops
from aiflow_core.ops.workflow_trigger_ops import (
    add_workflow_trigger,
    delete_workflow_trigger,
    delete_workflow_triggers,
    list_workflow_triggers,
    pause_workflow_trigger,
    resume_workflow_trigger,
)

get_workflow_trigger = none_if_absent(workflow_trigger_ops.get_workflow_trigger)

__all__ = [
    "add_workflow_trigger",
    "delete_workflow_trigger",
    "delete_workflow_triggers",
    "get_workflow_trigger",
    "list_workflow_triggers",
    "pause_workflow_trigger",
    "resume_workflow_trigger",
]
