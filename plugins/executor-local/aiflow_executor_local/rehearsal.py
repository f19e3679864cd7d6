"""A workflow file that each process of a task loads before there is a task, see `runner`."""

from aiflow_core.model.workflow import Workflow

workflow = Workflow("rehearsal")
