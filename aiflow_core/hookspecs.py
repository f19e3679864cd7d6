"""What a plugin may be told: every moment at which an observer can listen.

An observer is an entry point of the group `aiflow.hooks`: a module, which listens once it is
installed, or `module:Class`, which is made when `project.yaml` has settings for its name under
`hooks`, with these as keywords. It defines functions with the names below, decorated with
`aiflow_core.hookspecs.hook`, and takes the arguments that it needs.

Each observer is called in a thread of its own, one call after the other, in the order in which
things happened; so it needs no locks, and nobody waits for it. What it is told is durable already.
It is told once, or not at all: not what became durable in the moment of a crash, and not what it is
too slow for. What it raises is logged with its name.

The moments named `before_...` are asked: whoever is about to act waits, for as long as the setting
`observers.time_limit` says. `Veto` is the way to refuse.

To add commands to `aiflow`, no hook is needed: they are entry points of the group
`aiflow.commands`, which are listed without being imported.
"""

from collections.abc import Mapping
from pathlib import Path

import pluggy

from aiflow_core.model.decision import Decision
from aiflow_core.model.event import Event
from aiflow_core.model.execution import (
    AttemptKey,
    AttemptRequest,
    TaskExecution,
    WorkflowExecution,
    WorkflowInfo,
)
from aiflow_core.model.figures import ObserverFigures, SchedulerFigures
from aiflow_core.model.workflow import WorkflowDefinition

PROJECT = "aiflow"

spec = pluggy.HookspecMarker(PROJECT)
hook = pluggy.HookimplMarker(PROJECT)


# --- the scheduler: told by the server that schedules, after the commit --------------------------


@spec
def event_appended(event: Event, begun_ms: int, decided_ms: int) -> None:
    """An event of the log has been taken in. Told for every event, of every type, in the order of
    the log; before what it led to.

    `event.create_time` is when the log had it, `begun_ms` when the scheduler took it up, and
    `decided_ms` when what it led to was durable; milliseconds since the epoch.
    """


@spec
def decision_made(decision: Decision, offset: int) -> None:
    """A rule was evaluated and it mattered, because of the event at `offset`: what followed
    (`decision.what`) and why. Told before what it changed, and of every decision, also of those of
    which the scheduler keeps one record for many that are alike."""


@spec
def workflow_submitted(workflow: WorkflowInfo, offset: int) -> None:
    """A workflow was uploaded, for the first time or again, by the event at `offset`."""


@spec
def workflow_execution_changed(execution: WorkflowExecution, offset: int) -> None:
    """A workflow execution took another status, because of the event at `offset`."""


@spec
def task_execution_changed(task_execution: TaskExecution, offset: int) -> None:
    """A task execution took another status, because of the event at `offset`."""


@spec
def figures_taken(figures: SchedulerFigures, observers: Mapping[str, ObserverFigures]) -> None:
    """How much there is, and how much waits, every `observers.figures_interval` seconds; on every
    server, also on those that stand by. `observers` by name, of this process."""


# --- executors: by the server that runs the attempt ----------------------------------------------


@spec
def before_task_start(request: AttemptRequest) -> Mapping[str, str] | None:
    """An attempt has everything that it needs, and is to start; asked.

    The answer may be environment variables for its processes. `Veto`: no code of the user runs, and
    the attempt is FAILED for that reason. It may be asked more than once for one attempt, when the
    server was restarted before it started; not for one that has started, and not any more for one
    that was refused.
    """


@spec
def task_log_line(key: AttemptKey, line: str) -> None:
    """A line of a task's log, without its end; it stands in the file. Lines longer than 16 KiB come
    in parts, and what an attempt wrote while no server saw it is in the file only."""


# --- uploads: by the process that uploads --------------------------------------------------------


@spec
def before_upload(workflow_file: Path, definitions: tuple[WorkflowDefinition, ...]) -> None:
    """The workflows of a file are to be uploaded; asked. `Veto`: nothing is."""


@spec
def after_upload(workflow_file: Path, workflows: tuple[WorkflowInfo, ...]) -> None:
    """The server has the workflows of a file."""


# --- servers -------------------------------------------------------------------------------------


@spec
def server_started(name: str, address: str) -> None:
    """A server of this process answers at `address`: `aiflow` or, in `aiflow run`, `notification`.
    The place to open what is to be open for as long as a server runs."""


@spec
def server_stopped(name: str) -> None:
    """It has stopped. The last that is told; the process waits for it a few seconds."""
