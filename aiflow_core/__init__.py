"""AIFlow: event-driven orchestration of workflows that mix streaming and batch tasks.

The names below are what workflow authors and plugin authors import. Inside the package one
imports from the module that owns a name, never from here.
"""

from typing import TYPE_CHECKING

__version__ = "0.5.0"

# Names are resolved on first use: `aiflow --help` must not pay for the whole model. Type checkers
# read the imports below, which `tests/test_public_names.py` compares with the table.
if TYPE_CHECKING:
    from aiflow_core.current import current_context as current_context
    from aiflow_core.errors import AIFlowError as AIFlowError
    from aiflow_core.model.algebra import (
        absent as absent,
    )
    from aiflow_core.model.algebra import (
        all_of as all_of,
    )
    from aiflow_core.model.algebra import (
        any_of as any_of,
    )
    from aiflow_core.model.algebra import (
        batch as batch,
    )
    from aiflow_core.model.algebra import (
        count as count,
    )
    from aiflow_core.model.algebra import (
        debounce as debounce,
    )
    from aiflow_core.model.algebra import (
        each as each,
    )
    from aiflow_core.model.algebra import (
        event as event,
    )
    from aiflow_core.model.algebra import (
        sequence as sequence,
    )
    from aiflow_core.model.algebra import (
        throttle as throttle,
    )
    from aiflow_core.model.condition import (
        Condition as Condition,
    )
    from aiflow_core.model.condition import (
        MeetAllCondition as MeetAllCondition,
    )
    from aiflow_core.model.condition import (
        MeetAnyCondition as MeetAnyCondition,
    )
    from aiflow_core.model.condition import (
        SingleEventCondition as SingleEventCondition,
    )
    from aiflow_core.model.context import (
        Context as Context,
    )
    from aiflow_core.model.context import (
        ValueState as ValueState,
    )
    from aiflow_core.model.context import (
        ValueStateDescriptor as ValueStateDescriptor,
    )
    from aiflow_core.model.event import Event as Event
    from aiflow_core.model.event import EventFilter as EventFilter
    from aiflow_core.model.payload import (
        ge as ge,
    )
    from aiflow_core.model.payload import (
        gt as gt,
    )
    from aiflow_core.model.payload import (
        le as le,
    )
    from aiflow_core.model.payload import (
        lt as lt,
    )
    from aiflow_core.model.payload import (
        ne as ne,
    )
    from aiflow_core.model.payload import (
        one_of as one_of,
    )
    from aiflow_core.model.payload import (
        present as present,
    )
    from aiflow_core.model.rule import (
        TaskAction as TaskAction,
    )
    from aiflow_core.model.rule import (
        TaskRule as TaskRule,
    )
    from aiflow_core.model.rule import (
        WorkflowRule as WorkflowRule,
    )
    from aiflow_core.model.status import (
        ExecutionType as ExecutionType,
    )
    from aiflow_core.model.status import (
        TaskStatus as TaskStatus,
    )
    from aiflow_core.model.status import (
        WorkflowStatus as WorkflowStatus,
    )
    from aiflow_core.model.workflow import Workflow as Workflow
    from aiflow_core.specs.blob_manager import BlobManager as BlobManager
    from aiflow_core.specs.event_store import EventStore as EventStore
    from aiflow_core.specs.executor import Executor as Executor
    from aiflow_core.specs.operator import Operator as Operator
    from aiflow_core.specs.scheduler import Scheduler as Scheduler

_PUBLIC = {
    # writing a workflow
    "Workflow": "aiflow_core.model.workflow",
    "TaskAction": "aiflow_core.model.rule",
    "TaskRule": "aiflow_core.model.rule",
    "WorkflowRule": "aiflow_core.model.rule",
    "TaskStatus": "aiflow_core.model.status",
    "WorkflowStatus": "aiflow_core.model.status",
    "ExecutionType": "aiflow_core.model.status",
    # conditions and their state
    "Condition": "aiflow_core.model.condition",
    "SingleEventCondition": "aiflow_core.model.condition",
    "MeetAllCondition": "aiflow_core.model.condition",
    "MeetAnyCondition": "aiflow_core.model.condition",
    "Context": "aiflow_core.model.context",
    "ValueState": "aiflow_core.model.context",
    "ValueStateDescriptor": "aiflow_core.model.context",
    # the event algebra
    "event": "aiflow_core.model.algebra",
    "all_of": "aiflow_core.model.algebra",
    "any_of": "aiflow_core.model.algebra",
    "sequence": "aiflow_core.model.algebra",
    "count": "aiflow_core.model.algebra",
    "absent": "aiflow_core.model.algebra",
    "debounce": "aiflow_core.model.algebra",
    "throttle": "aiflow_core.model.algebra",
    "batch": "aiflow_core.model.algebra",
    "each": "aiflow_core.model.algebra",
    "gt": "aiflow_core.model.payload",
    "ge": "aiflow_core.model.payload",
    "lt": "aiflow_core.model.payload",
    "le": "aiflow_core.model.payload",
    "ne": "aiflow_core.model.payload",
    "one_of": "aiflow_core.model.payload",
    "present": "aiflow_core.model.payload",
    # events
    "Event": "aiflow_core.model.event",
    "EventFilter": "aiflow_core.model.event",
    # in a running task
    "current_context": "aiflow_core.current",
    # writing a plugin
    "BlobManager": "aiflow_core.specs.blob_manager",
    "EventStore": "aiflow_core.specs.event_store",
    "Executor": "aiflow_core.specs.executor",
    "Operator": "aiflow_core.specs.operator",
    "Scheduler": "aiflow_core.specs.scheduler",
    # errors
    "AIFlowError": "aiflow_core.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'aiflow_core' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
