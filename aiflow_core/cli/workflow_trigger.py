"""The commands `aiflow workflow-trigger ...`; `ops.add_workflow_trigger` adds one."""

from aiflow_core.cli.starters import starter_commands

COLUMNS = ("id", "workflow_id", "rule", "create_time", "is_paused")

workflow_trigger = starter_commands("trigger", COLUMNS)
workflow_trigger.help = "Manages the event triggers of the workflow."
