"""Operations on workflow schedules."""

from datetime import datetime

from aiflow_core.model.execution import WorkflowSchedule
from aiflow_core.model.schedule import CatchUp, schedule_options
from aiflow_core.model.workflow import DEFAULT_NAMESPACE
from aiflow_core.ops.client import server


def add_workflow_schedule(
    expression: str,
    workflow_name: str,
    namespace: str = DEFAULT_NAMESPACE,
    *,
    time_zone: str = "UTC",
    start: datetime | str | None = None,
    end: datetime | str | None = None,
    catch_up: str = CatchUp.ONCE,
    max_active_runs: int | None = None,
) -> WorkflowSchedule:
    """Start executions by the clock, at the times of `expression` (`aiflow_core.model.timing`).

    Args:
        time_zone: whose clock a cron expression reads, as `Europe/Berlin`.
        start: no tick before; `end`: none after. A datetime, or text as in ISO 8601; in `time_zone`
            unless it says another.
        catch_up: `none`, `once` or `all` of the ticks that were missed.
        max_active_runs: so many executions by schedules may run when one is started.
    """
    options = schedule_options(
        time_zone=time_zone,
        start=start,
        end=end,
        catch_up=catch_up,
        max_active_runs=max_active_runs,
    )
    with server() as client:
        return client.add_workflow_schedule(expression, workflow_name, namespace, options)


def get_workflow_schedule(schedule_id: int) -> WorkflowSchedule:
    """The schedule of this id."""
    with server() as client:
        return client.get_workflow_schedule(schedule_id)


def list_workflow_schedules(
    workflow_name: str,
    namespace: str = DEFAULT_NAMESPACE,
    limit: int | None = None,
    offset: int | None = None,
) -> list[WorkflowSchedule]:
    """All schedules of a workflow, or `limit` of them after the first `offset`."""
    with server() as client:
        return client.list_workflow_schedules(workflow_name, namespace, limit, offset or 0)


def delete_workflow_schedule(schedule_id: int) -> None:
    """Delete a schedule."""
    with server() as client:
        client.delete_workflow_schedule(schedule_id)


def delete_workflow_schedules(workflow_name: str, namespace: str = DEFAULT_NAMESPACE) -> None:
    """Delete all schedules of a workflow."""
    with server() as client:
        client.delete_workflow_schedules(workflow_name, namespace)


def pause_workflow_schedule(schedule_id: int) -> WorkflowSchedule:
    """Let a schedule start no executions."""
    with server() as client:
        return client.pause_workflow_schedule(schedule_id)


def resume_workflow_schedule(schedule_id: int) -> WorkflowSchedule:
    """Let a schedule start executions again, from now on."""
    with server() as client:
        return client.resume_workflow_schedule(schedule_id)
