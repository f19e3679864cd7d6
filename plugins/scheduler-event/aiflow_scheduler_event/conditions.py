"""Gets users' conditions evaluated outside of this process, with a limit on the time they take."""

import logging
import os
import queue
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from aiflow_core.bundle import fetch
from aiflow_core.errors import AIFlowError, UsageError
from aiflow_core.model.condition import CustomCondition
from aiflow_core.model.event import Event, EventType, derived_event_id
from aiflow_core.model.execution import BundleRef
from aiflow_core.model.serialization import decode, encode
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.event_store import check_event
from aiflow_scheduler_event.condition_host import Question
from aiflow_scheduler_event.state import Evaluation, State
from aiflow_scheduler_event.step import Answer

log = logging.getLogger(__name__)

Reply = Callable[[Event], None]

# A process that exits closes its pipe before it has an exit code.
_TIME_TO_EXIT = 1.0


class ConditionHosts:
    """One host process per bundle, started when first needed.

    A condition that raises, hangs beyond `time_limit` seconds or takes its process down gets an
    answer that says so; the next one finds a new process.
    """

    def __init__(
        self, blobs: BlobManager, home: Path, python: str, time_limit: float, reply: Reply
    ) -> None:
        self._blobs = blobs
        self._home = home
        self._python = python
        self._time_limit = time_limit
        self._reply = reply
        self._hosts: dict[str, _Host] = {}

    def evaluate(self, evaluation: Evaluation, state: State) -> None:
        """Have it evaluated; the answer comes as an event. One thread at a time."""
        if evaluation.id not in state.evaluations:
            return  # its execution was stopped by the same step
        question, bundle = self._question(evaluation, state)
        name = bundle.sha256 if bundle else ""
        if name not in self._hosts:
            self._hosts[name] = _Host(self)
        self._hosts[name].questions.put((question, bundle))

    def close(self) -> None:
        """End all hosts."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()

    def _question(self, evaluation: Evaluation, state: State) -> tuple[Question, BundleRef | None]:
        states = {n: s.value for n, s in state.states.get(evaluation.scope, {}).items()}
        if evaluation.trigger_id:
            trigger = state.triggers.get(evaluation.trigger_id)
            code = (
                trigger.rule.code if trigger and isinstance(trigger.rule, CustomCondition) else ""
            )
            return Question(evaluation.id, evaluation.event, states, code=code), None
        run = state.runs[evaluation.scope.id]
        definition, bundle = run.plan.snapshot.definition, run.plan.snapshot.bundle
        condition = run.plan.tasks[evaluation.task_name].rules[evaluation.rule].condition
        assert isinstance(condition, CustomCondition)
        question = Question(
            evaluation.id,
            evaluation.event,
            states,
            statuses={name: task.status for name, task in run.tasks.items()},
            entry=bundle.entry if bundle else "",
            namespace=definition.namespace,
            workflow_name=definition.name,
            place=condition.place,
            code=condition.code,
        )
        return question, bundle

    def ask(self, host: "_Host", question: Question, bundle: BundleRef | None) -> None:
        """Let a host answer one question; whatever happens there is an answer."""
        try:
            if bundle is not None:
                root = fetch(self._home, bundle, self._blobs)
                question = msgspec.structs.replace(question, root=str(root))
            elif not question.code:
                raise UsageError("the workflow was uploaded without its code")
            answer = host.ask(question, self._python, self._time_limit)
        except AIFlowError as error:
            answer = Answer(question.evaluation_id, error=str(error))
        try:
            event = _answer_event(answer)
            check_event(event)
        except UsageError as error:
            answer = Answer(question.evaluation_id, error=f"its states cannot be kept: {error}")
            event = _answer_event(answer)
        if answer.error:
            log.warning("A condition could not be evaluated: %s", answer.error)
        self._reply(event)


def _answer_event(answer: Answer) -> Event:
    return Event(
        key="answer",
        value=encode(answer).decode(),
        type=EventType.ANSWER,
        id=derived_event_id("answer", answer.evaluation_id),
    )


class _Host:
    """One process and the thread that talks to it."""

    def __init__(self, hosts: ConditionHosts) -> None:
        self.questions: queue.SimpleQueue[tuple[Question, BundleRef | None] | None] = (
            queue.SimpleQueue()
        )
        self._hosts = hosts
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, name="condition-host", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.questions.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (asked := self.questions.get()) is not None:
            self._hosts.ask(self, *asked)
        self._end()

    def ask(self, question: Question, python: str, time_limit: float) -> Answer:
        """The process's answer, or one that says why there is none."""
        fresh = self._process is None
        try:
            process = self._process or self._start(python)
        except OSError as error:
            return Answer(question.evaluation_id, error=f"no condition host: {error}")
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(encode(question) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self._end()
            if not fresh:  # it had died while idle; that says nothing about this condition
                return self.ask(question, python, time_limit)
            return Answer(question.evaluation_id, error="the condition host does not start")
        line = _read_line(process.stdout.fileno(), time_limit)
        if line:
            return decode(line, Answer)
        returned = self._end(0 if line is None else _TIME_TO_EXIT)
        problem = (
            f"it took longer than {time_limit:g} s"
            if line is None
            else f"its process ended {_ending(returned)}"
        )
        return Answer(question.evaluation_id, error=problem)

    def _start(self, python: str) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen(
            [python, "-m", "aiflow_scheduler_event.condition_host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        return self._process

    def _end(self, grace: float = 0) -> int:
        """End the process with all that it has started, unless it exits of itself within `grace`
        seconds; its return code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            returned = process.wait(grace)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            returned = process.wait()
        process.stdout.close()
        try:
            process.stdin.close()
        except BrokenPipeError:
            log.debug("A condition host was gone before its last question was sent")
        return returned


def _read_line(fd: int, time_limit: float) -> bytes | None:
    """A line from the pipe; empty when it is closed, None when the time is up.

    There is never more than one line on its way: a question is asked when the last is answered.
    """
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(time_limit):
                return None
            part = os.read(fd, 65536)
            if not part:
                return b""
            line += part
    return line


def _ending(returned: int) -> str:
    if returned < 0:
        return f"by signal {-returned} ({signal.Signals(-returned).name})"
    return f"with exit code {returned}"
