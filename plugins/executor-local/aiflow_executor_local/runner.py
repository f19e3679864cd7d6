"""Runs one attempt, in a process that does nothing else: a zygote's child, or, for a task with
`isolation: fresh`, an interpreter of its own (`python -m aiflow_executor_local.runner`)."""

import atexit
import contextlib
import functools
import logging
import os
import select
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from aiflow_core.bundle import find_workflow, load_bundle
from aiflow_core.crash import crash_point
from aiflow_core.current import server
from aiflow_core.deployment import log_file
from aiflow_core.errors import AIFlowError, DefinitionError
from aiflow_core.model.execution import (
    AttemptKey,
    AttemptReport,
    AttemptRequest,
    RunningTask,
    write_events,
)
from aiflow_core.model.serialization import decode, encode
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import Workflow
from aiflow_core.specs.operator import AttemptStopped, Operator, TaskContext
from aiflow_executor_local import groups
from aiflow_executor_local.lease import Deadline
from aiflow_executor_local.messages import DONE, RUNNING, TAKEN, Job, needs_bundle
from aiflow_executor_local.run_directory import Draft, RunDirectory
from aiflow_executor_local.workspace import working_copy

LOG_FORMAT = "[%(asctime)s - %(filename)s:%(lineno)d [%(threadName)s] - %(levelname)s: %(message)s]"
_REASON_LENGTH = 2000
_REHEARSAL = Path(__file__).with_name("rehearsal.py")
_NO_ATTEMPT = AttemptKey(workflow_execution_id=0, task_name="rehearsal", sequence_number=0)

log = logging.getLogger("aiflow.task")


def serve(zygote: socket.socket, deadline: Deadline, home: Path) -> NoReturn:
    """Wait for a job, run it, and end the process. Ends at once when the zygote does not want it
    any more; does not begin with the user's code when the deadline has passed. `home` is that of
    the jobs to come."""
    groups.inherit_orphans()
    atexit._clear()  # what the zygote registered is the zygote's to run
    crash_point("runner.job.before")
    draft = None
    # Without a draft the attempt makes its directory itself, and says why it cannot.
    with contextlib.suppress(OSError):
        draft = Draft(home)
        if not select.select([zygote], [], [], 0)[0]:
            _rehearse(draft)
    data = b""
    while not data.endswith(b"\n"):
        received = zygote.recv(65536)
        if not received:
            if draft is not None:
                draft.discard()
            os._exit(0)
        data += received
    crash_point("runner.job.after")
    _run(decode(data, Job), draft, zygote, deadline)


def _rehearse(draft: Draft) -> None:
    """Go through the motions of an attempt. The first time takes a forked process four times as
    long as the second, because it must copy every page of memory that it touches; better now than
    when a task waits."""
    _open_log(Path(os.devnull))
    load_bundle(_REHEARSAL.parent, _REHEARSAL.name)
    # Not `forget`: looking at every module that is loaded touches what no task needs.
    del sys.modules[_REHEARSAL.stem]
    sys.path.remove(str(_REHEARSAL.parent))
    write_events(draft.events_file, ())
    encode(AttemptReport(key=_NO_ATTEMPT, status=TaskStatus.SUCCESS))


@functools.cache
def operator_class(name: str) -> type[Operator]:
    """The operator that an installed plugin registered under that name."""
    # Late: what comes from a bundle needs no plugins.
    from aiflow_core.plugins import driver_class

    return driver_class("aiflow.operator", name)


def _run(job: Job, draft: Draft | None, zygote: socket.socket, deadline: Deadline) -> NoReturn:
    leader = os.getpid()
    run = RunDirectory(job.home, job.request.key)
    # The descriptor stays open, and so the lock held, for as long as this process lives.
    crash_point("runner.claim.before")
    lock = run.claim(draft)
    crash_point("runner.claim.after")
    if lock is None:
        zygote.sendall(TAKEN)
        os._exit(0)
    crash_point("runner.running.before")
    _tell(zygote, RUNNING)
    crash_point("runner.running.after")
    try:
        report = _attempt(job, run, deadline)
    finally:
        # User code may fork, and its child may come back here by an exception or by returning.
        if os.getpid() != leader:
            os._exit(1)
    crash_point("runner.result.before")
    run.finish(report)
    crash_point("runner.result.after")
    if report.status is TaskStatus.SUCCESS and groups.is_childless():
        # Nothing of the task is left but this process, whose teardown takes a while. After any
        # other end the zygote cleans up first.
        crash_point("runner.done.before")
        _tell(zygote, DONE)
        crash_point("runner.done.after")
    os._exit(0)


def _tell(zygote: socket.socket, message: bytes) -> None:
    # A zygote that has died does not matter: the result is found all the same.
    with contextlib.suppress(OSError):
        zygote.sendall(message)


def _attempt(job: Job, run: RunDirectory, deadline: Deadline) -> AttemptReport:
    key = job.request.key
    try:
        status, reason = _outcome(job, run, deadline)
    except AttemptStopped:
        status, reason = TaskStatus.STOPPED, ""
    except SystemExit as exit:
        status, reason = _exit_outcome(exit)
    except BaseException as error:
        log.exception("The task failed")
        status, reason = TaskStatus.FAILED, describe(error)
    logging.shutdown()
    return AttemptReport(key=key, status=status, reason=reason)


def _outcome(job: Job, run: RunDirectory, deadline: Deadline) -> tuple[TaskStatus, str]:
    request = job.request
    _open_log(log_file(Path(job.log_dir), request.workflow_name, request.key))
    signal.signal(signal.SIGTERM, _interrupt)
    write_events(run.events_file, request.events)
    os.environ.update(job.environment)
    os.environ.update(
        RunningTask(
            namespace=request.namespace,
            workflow_name=request.workflow_name,
            key=request.key,
            notification_uri=job.notification_uri,
            events_file=str(run.events_file),
            server_address=job.server_address,
        ).to_environment()
    )
    directory = _enter_directory(job, run)
    deadline.check()
    operator = _operator(request, directory).filled(request.events)
    context = TaskContext(
        key=request.key,
        namespace=request.namespace,
        workflow_name=request.workflow_name,
        workflow=operator.workflow,
        events=request.events,
        server=server,
    )
    try:
        crash_point("runner.code.before")
        operator.start(context)
        operator.await_termination(context)
        crash_point("runner.code.after")
        _end_of_program()
        signal.signal(signal.SIGTERM, _ignore)
        return TaskStatus.SUCCESS, ""
    except AttemptStopped:
        return _stop(operator, context)


def _stop(operator: Operator, context: TaskContext) -> tuple[TaskStatus, str]:
    log.info("The task is asked to stop")
    try:
        operator.stop(context)
    except Exception as error:
        log.exception("The task did not stop cleanly")
        return TaskStatus.STOPPED, f"Stopped, but not cleanly: {describe(error)}"
    return TaskStatus.STOPPED, ""


def _enter_directory(job: Job, run: RunDirectory) -> Path:
    """The current directory of the task from now on."""
    request = job.request
    directory = run.path
    if job.snapshot and request.bundle is not None:
        directory = working_copy(
            Path(job.home),
            request.workflow_name,
            request.key.workflow_execution_id,
            Path(job.snapshot),
            Path(request.bundle.entry).stem,
        )
    os.chdir(directory)
    return directory


def _operator(request: AttemptRequest, directory: Path) -> Operator:
    if needs_bundle(request):
        assert request.bundle is not None
        return _find(load_bundle(directory, request.bundle.entry), request)
    cls = operator_class(request.task.operator)
    with Workflow(request.workflow_name, request.namespace):
        operator = cls(request.task.name, **(request.task.params or {}))
    operator.config = request.task.config
    return operator


def _find(workflows: list[Workflow], request: AttemptRequest) -> Operator:
    workflow = find_workflow(workflows, request.namespace, request.workflow_name)
    task = workflow.tasks.get(request.task.name)
    if not isinstance(task, Operator):
        raise DefinitionError(
            f"Workflow {workflow.name!r} of this bundle has no operator {request.task.name!r}.",
            next_step="Do not make the tasks of a workflow depend on where it is loaded.",
        )
    return task


def _open_log(path: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    for name, number in (("stdout", 1), ("stderr", 2)):
        # New objects: the zygote's may have been replaced by what it imported.
        stream = open(  # noqa: SIM115  (open as long as the process)
            number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=LOG_FORMAT, force=True)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, _ignore)
    raise AttemptStopped


def _ignore(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN: that one would be inherited by the programs which `stop` may start."""


def _end_of_program() -> None:
    """What an interpreter does when the main program ends: wait for threads and child processes,
    and call the exit functions."""
    # Private, but the only way to release idle thread pools too; multiprocessing uses it as well.
    threading._shutdown()  # type: ignore[attr-defined]
    if util := sys.modules.get("multiprocessing.util"):
        util._exit_function()
    atexit._run_exitfuncs()


def _exit_outcome(exit: SystemExit) -> tuple[TaskStatus, str]:
    if exit.code in (None, 0):
        return TaskStatus.SUCCESS, ""
    if isinstance(exit.code, int):
        return TaskStatus.FAILED, f"exit code {exit.code}"
    return TaskStatus.FAILED, _clean(str(exit.code))


def describe(error: BaseException) -> str:
    """The error in a line: what it says, and, unless it is one of AIFlow's own, where it arose."""
    if isinstance(error, AIFlowError):
        return _clean(str(error))
    said = traceback.format_exception_only(error)[-1].strip()
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename.startswith(os.getcwd() + os.sep)] or frames[-1:]
    where = f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno})" if theirs else ""
    return _clean(said[: _REASON_LENGTH - len(where)] + where)


def _clean(text: str) -> str:
    return text[:_REASON_LENGTH].encode("utf-8", "backslashreplace").decode()


if __name__ == "__main__":
    _, channel, time_limit, place = sys.argv
    serve(socket.socket(fileno=int(channel)), Deadline(int(time_limit)), Path(place))
