"""The condition host: a process in which users' conditions are evaluated, one after the other.

Run as `python -m aiflow_scheduler_event.condition_host`. It reads a `Question` per line from
standard input and writes an `Answer` per line to what was its standard output; what the condition
prints goes to standard error. It ends when its input does.
"""

import base64
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import cloudpickle

from aiflow_core.bundle import find_workflow, load_bundle
from aiflow_core.errors import UsageError
from aiflow_core.model.condition import Condition
from aiflow_core.model.context import Context, ValueState, ValueStateDescriptor
from aiflow_core.model.event import Event
from aiflow_core.model.serialization import Value, decode, encode, is_plain
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import Workflow
from aiflow_scheduler_event.step import Answer

LONGEST_NAME = 200
"""Characters in the name of a state."""


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


class HostContext(Context):
    """The surroundings of a user's condition; keeps which states it has touched."""

    def __init__(self, question: Question) -> None:
        self._statuses = question.statuses
        self._packed = question.states
        self._states: dict[str, ValueState] = {}

    def get_state(self, descriptor: ValueStateDescriptor) -> ValueState:
        name = descriptor.name
        if len(name) > LONGEST_NAME or "\0" in name:
            raise UsageError(
                f"{name[:80]!r} is not a name for a state.",
                next_step=f"Use at most {LONGEST_NAME} characters, and no NUL.",
            )
        if name not in self._states:
            text = self._packed.get(name)
            self._states[name] = ValueState() if text is None else ValueState(unpack(text))
        return self._states[name]

    def get_task_status(self, task_name: str) -> TaskStatus | None:
        return self._statuses.get(task_name)

    def packed(self) -> dict[str, str | None]:
        """Every state that was asked for, as text; None: it has no value."""
        return {
            name: None if state.value() is None else pack(state.value())
            for name, state in self._states.items()
        }


def pack(value: Any) -> str:
    """A state's value as text: JSON where that keeps it as it is, a pickle elsewhere."""
    if is_plain(value) and not _is_packed(value):
        return json.dumps(value)
    return json.dumps({"pickle": base64.b64encode(cloudpickle.dumps(value)).decode()})


def unpack(text: str) -> Any:
    """The value that `pack` made a text of. Only here, never in a server."""
    value = json.loads(text)
    return pickle.loads(base64.b64decode(value["pickle"])) if _is_packed(value) else value


def _is_packed(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"pickle"}


class Host:
    """Finds conditions and evaluates them; what was loaded once stays loaded."""

    def __init__(self) -> None:
        self._bundles: dict[tuple[str, str], list[Workflow]] = {}
        self._pickled: dict[str, Condition] = {}

    def answer(self, question: Question) -> Answer:
        """Evaluate; what goes wrong is part of the answer."""
        try:
            context = HostContext(question)
            met = bool(self._condition(question).is_met(question.event, context))
            return Answer(question.evaluation_id, met, context.packed())
        except Exception as error:
            return Answer(question.evaluation_id, error=f"{type(error).__name__}: {error}")

    def _condition(self, question: Question) -> Any:
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


def main() -> None:
    """Answer questions until there are no more."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    host = Host()
    for line in sys.stdin.buffer:
        answers.write(encode(host.answer(decode(line, Question))) + b"\n")


if __name__ == "__main__":
    main()
