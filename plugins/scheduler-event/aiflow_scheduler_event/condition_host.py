"""The condition host: a process in which users' conditions are evaluated, one after the other.

Run as `python -m aiflow_scheduler_event.condition_host MIB`, which is how much memory it may take.
It says that it is ready, reads a `Question` per line from what was its standard input and writes a
`Finding` per line to what was its standard output; what the condition prints goes to standard
error. It ends when its input does.
"""

import base64
import os
import pickle
import resource
import sys
from pathlib import Path
from typing import Any

from aiflow_core.bundle import find_workflow, load_bundle
from aiflow_core.model.condition import Condition
from aiflow_core.model.context import (
    Context,
    ValueState,
    ValueStateDescriptor,
    check_state_name,
    pack,
    unpack,
)
from aiflow_core.model.event import Event
from aiflow_core.model.serialization import Value, decode, encode
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import Workflow

READY = b"ready\n"
"""What a host writes before it reads its first question."""

# Characters of what an exception says of itself.
_LONGEST_ERROR = 4000


class Question(Value, frozen=True):
    """A condition to be evaluated: where it is, for which event, and in which surroundings.

    Either `root`, `entry`, `namespace`, `workflow_name` and `place` say where the code is in a
    bundle, or `code` is the condition itself.
    """

    evaluation_id: int
    event: Event
    states: dict[str, str] = {}
    statuses: dict[str, TaskStatus] = {}
    root: str = ""
    entry: str = ""
    namespace: str = ""
    workflow_name: str = ""
    place: str = ""
    code: str = ""


class Finding(Value, frozen=True):
    """How a condition was found: whether it is met, and the states that it left, by name (None: it
    was cleared). Or `error`, which says why there is no outcome.

    `spent`: the process is not what it was and must not be asked again.
    """

    met: bool = False
    states: dict[str, str | None] = {}
    error: str = ""
    spent: bool = False


class HostContext(Context):
    """The surroundings of a user's condition; keeps which states it has touched."""

    def __init__(self, question: Question) -> None:
        self._statuses = question.statuses
        self._packed = question.states
        self._states: dict[str, ValueState] = {}

    def get_state(self, state_descriptor: ValueStateDescriptor) -> ValueState:
        name = state_descriptor.name
        check_state_name(name)
        if name not in self._states:
            self._states[name] = ValueState(unpack(self._packed.get(name)))
        return self._states[name]

    def get_task_status(self, task_name: str) -> TaskStatus | None:
        return self._statuses.get(task_name)

    def packed(self) -> dict[str, str | None]:
        """Every state that was asked for, as text; None: it has no value."""
        return {name: pack(state.value()) for name, state in self._states.items()}


class Host:
    """Finds conditions and evaluates them; what was loaded once stays loaded."""

    def __init__(self, memory_limit: int = 0) -> None:
        self._memory_limit = memory_limit
        self._bundles: dict[tuple[str, str], list[Workflow]] = {}
        self._pickled: dict[str, Condition] = {}

    def find(self, question: Question) -> Finding:
        """Evaluate; what goes wrong is part of the finding."""
        try:
            context = HostContext(question)
            met = bool(self.condition(question).is_met(question.event, context))
            return Finding(met, context.packed())
        except MemoryError:
            pass  # told below, when the exception has let go of what the condition holds
        except Exception as error:
            return Finding(error=_said(error))
        return Finding(error=f"it needed more than {self._memory_limit} MiB of memory", spent=True)

    def condition(self, question: Question) -> Any:
        """The condition that is asked about."""
        if question.code:
            if question.code not in self._pickled:
                self._pickled[question.code] = pickle.loads(base64.b64decode(question.code))
            return self._pickled[question.code]
        where = (question.root, question.entry)
        if where not in self._bundles:
            self._bundles[where] = load_bundle(Path(question.root), question.entry)
        workflow = find_workflow(self._bundles[where], question.namespace, question.workflow_name)
        task_name, _, number = question.place.rpartition("/")
        _, condition = workflow.rules[task_name][int(number)]
        return condition


def _said(error: Exception) -> str:
    """What an exception says, as text that can travel."""
    text = f"{type(error).__name__}: {error}".encode(errors="replace").decode()
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]} [...]"


def limit_memory(mebibytes: int) -> None:
    """Let this process, and each that it starts, have no more memory of its own than that.

    Only Linux counts what a process maps for itself; elsewhere there is no limit.
    """
    if sys.platform == "linux":
        most = mebibytes * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _taken(fd: int, instead: int) -> int:
    """The file behind a descriptor, under a number that nobody knows; `instead` takes its place."""
    taken = os.dup(fd)
    os.dup2(instead, fd)
    return taken


def main() -> None:
    """Answer questions until there are no more."""
    pid = os.getpid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    questions, answers = _taken(0, nothing), _taken(1, 2)

    def forget() -> None:
        os.close(questions)
        os.close(answers)

    # A process that a condition forks must neither answer nor take the next question.
    os.register_at_fork(after_in_child=forget)
    memory_limit = int(sys.argv[1])
    limit_memory(memory_limit)
    host = Host(memory_limit)
    os.write(answers, READY)
    with open(questions, "rb") as lines, open(answers, "wb", buffering=0) as said:
        for line in lines:
            finding = host.find(decode(line, Question))
            if os.getpid() != pid:
                os._exit(0)
            said.write(encode(finding) + b"\n")


if __name__ == "__main__":
    main()
