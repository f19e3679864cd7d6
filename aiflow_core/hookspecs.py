"""What a plugin may be told: every moment at which an observer can listen.

A module that an entry point of the group `aiflow.hooks` names defines functions with these names,
decorated with `aiflow_core.hookspecs.hook`, and takes the arguments that it needs. An observer
cannot break what it observes: what it raises is logged with its name, and the work goes on. All of
these are told after the fact is durable, in the order in which it happened.
"""

from typing import Any

import pluggy

from aiflow_core.model.execution import TaskExecution, WorkflowExecution, WorkflowInfo

PROJECT = "aiflow"

spec = pluggy.HookspecMarker(PROJECT)
hook = pluggy.HookimplMarker(PROJECT)


# --- scheduler ---------------------------------------------------------------------------------


@spec
def workflow_submitted(workflow: WorkflowInfo) -> None:
    """A workflow was uploaded, for the first time or again."""


@spec
def workflow_execution_changed(execution: WorkflowExecution) -> None:
    """A workflow execution took another status."""


@spec
def task_execution_changed(task_execution: TaskExecution) -> None:
    """A task execution took another status."""


@spec
def decision_made(decision: Any) -> None:
    """A rule was evaluated and it mattered: the scheduler's own record of what and why."""


# --- servers -----------------------------------------------------------------------------------


@spec
def server_started(name: str, address: str) -> None:
    """A server of this process listens at `address`."""


@spec
def server_stopped(name: str) -> None:
    """A server of this process has stopped."""
