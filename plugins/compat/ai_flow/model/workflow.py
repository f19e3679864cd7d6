"""Workflows."""

from aiflow_core.model.workflow import Workflow


class WorkflowContextManager:
    """The current workflow, entered and left without a `with` block."""

    @classmethod
    def push_context_managed_workflow(cls, workflow: Workflow) -> None:
        """Let operators that are created from now on belong to `workflow`."""
        workflow.__enter__()

    @classmethod
    def pop_context_managed_workflow(cls) -> Workflow | None:
        """End what `push_context_managed_workflow` began."""
        workflow = Workflow.current()
        if workflow is not None:
            workflow.__exit__(None, None, None)
        return workflow

    @classmethod
    def get_current_workflow(cls) -> Workflow | None:
        """The workflow to which operators belong that are created now."""
        return Workflow.current()


__all__ = ["Workflow", "WorkflowContextManager"]
