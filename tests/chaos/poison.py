"""Poison events of a thousand kinds, through a real pair of servers.

    python -m tests.chaos.poison [--kinds N] [--rate PER_SECOND]

Each kind is an event, a request or a condition that does something nobody should do. Meanwhile
other executions are probed: how long it takes from an event to the first line of the task that it
starts. It fails, with exit code 1, unless

* each kind is refused with a code, becomes a dead letter, or is taken for the harmless thing it is,
  whichever of these may be expected of it;
* the scheduler takes in the whole log, and evaluates every condition to its end;
* both servers are the processes that they were;
* the 99th percentile of the latency of others is at most twice that without poison.

Everything is on loopback and under a temporary directory, and ends with this process.
"""

import argparse
import itertools
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import grpc
import yaml

from aiflow_core import ops
from aiflow_core.errors import AIFlowError
from aiflow_core.model.event import Event, EventType
from aiflow_core.plugins import make
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_server.rpc import METHODS

from ..servers import TwoServers, kill, prepared, processes_of, until

SECONDS_PER_TRY = 1.0
TRIES = 2
MEBIBYTES = 192
EXECUTIONS = 8
PORTIONS = 5
PATIENCE = 300.0
"""Seconds after which what was sent and is not dealt with is a violation."""

SEED = 20260726

REFUSED, LETTER, TAKEN = "refused", "dead letter", "taken"
ANY = (REFUSED, LETTER, TAKEN)

NOTIFICATION = "/notification_service.NotificationService"


# --- kinds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One kind of poison: how it is sent, and what may become of it.

    `send` returns the offset of the event; None: there is none, and nobody refused it. It raises
    what it is refused with.
    """

    name: str
    send: Callable[["Target"], int | None]
    may_become: tuple[str, ...]


@dataclass
class Target:
    """Where poison is sent to."""

    notification: grpc.Channel
    aiflow: grpc.Channel
    executions: list[int]
    turn: Iterator[int] = field(default_factory=itertools.count)

    def call(self, channel: grpc.Channel, path: str, body: bytes) -> bytes:
        answer: bytes = channel.unary_unary(path)(body, timeout=30)
        return answer

    def send_event(self, body: bytes) -> int | None:
        """By the original protocol, whose refusals are answers."""
        answer = pb.SendEventsResponse.FromString(
            self.call(self.notification, f"{NOTIFICATION}/sendEvent", body)
        )
        if answer.return_code == pb.ERROR:
            raise AIFlowError(answer.return_msg)
        return answer.event.offset

    def append(self, event: pb.EventProto) -> int | None:
        """By the extension, over which the parts of a deployment speak with one another."""
        body = pb.AppendEventsRequest(events=[event]).SerializeToString()
        answer = self.call(self.notification, f"{NOTIFICATION}/appendEvents", body)
        return pb.EventList.FromString(answer).events[0].offset

    def request(self, method: str, body: bytes) -> None:
        """To the AIFlow server, whose refusals are answers."""
        answer = json.loads(self.call(self.aiflow, f"/aiflow.Scheduler/{method}", body))
        if "error" in answer:
            raise AIFlowError.from_wire(answer["error"])

    def poison(self, code: str) -> int | None:
        """To the condition of one of the executions, in turn."""
        execution = self.executions[next(self.turn) % len(self.executions)]
        context = json.dumps({"workflow_execution_id": execution})
        return self.append(
            pb.EventProto(key="poison", value=code, namespace="default", context=context)
        )


def all_kinds() -> list[Kind]:
    """Every kind there is, family by family."""
    families = (texts(), bad_bytes(), wrong_types(), forgeries(), requests(), conditions(), hangs())
    return [kind for family in families for kind in family]


def chosen_kinds(count: int) -> list[Kind]:
    """So many of them, each family in proportion, well shuffled."""
    kinds = all_kinds()
    chosen = [kinds[n * len(kinds) // count] for n in range(min(count, len(kinds)))]
    random.Random(SEED).shuffle(chosen)
    return chosen


TEXTS = {
    **{
        f"{size} characters": "x" * size for size in (1025, 65_536, 1_048_000, 1_048_577, 3_900_000)
    },
    **{f"[ nested {depth} deep": "[" * depth + "]" * depth for depth in (100, 1001, 100_000)},
    **{f"{{ nested {d} deep": '{"a":' * d + "1" + "}" * d for d in (100, 1001, 100_000)},
    "NUL": "a\0b",
    "only NUL": "\0",
    "control characters": "".join(map(chr, range(1, 32))),
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "right to left": "\u202e\u2066 abc",
    "combining": "e" + "\u0301" * 5000,
    "four bytes each": "\U0001f9e1" * 1000,
    "stars": "*" * 1000,
    "SQL": "'; DROP TABLE event; --",
    "format": "%s%n{0}{{",
    "not closed": '{"workflow_execution_id": ',
    **{
        f"execution {shown}": f'{{"workflow_execution_id": {text}}}'
        for shown, text in {
            **{t: t for t in ("-1", "0", "1e999", "Infinity", "NaN", '"x"', "[]", "{}", "true")},
            "of 5000 digits": "9" * 5000,
            "nested": "[" * 50_000,
        }.items()
    },
}


def texts() -> Iterator[Kind]:
    """Texts in every field of an event, heard by a rule where the field allows it."""
    for name in ("key", "value", "context", "namespace", "sender"):
        for what, text in TEXTS.items():
            event = {"key": "heard", "value": "x", "namespace": "default", name: text}
            body = pb.SendEventRequest(event=pb.EventProto(**event)).SerializeToString()
            must = "NUL" in what or len(text) > 1_048_576
            yield Kind(f"{name}: {what}", _sender(body), (REFUSED,) if must else ANY)


def _sender(body: bytes) -> Callable[[Target], int | None]:
    return lambda target: target.send_event(body)


def _field(number: int, wire_type: int, content: bytes) -> bytes:
    """A field of a protobuf message; its number is below 16."""
    return bytes([number << 3 | wire_type]) + content


def _bytes(number: int, content: bytes) -> bytes:
    return _field(number, 2, bytes([len(content)]) + content)


def bad_bytes() -> Iterator[Kind]:
    """Messages that no library would write."""
    for number in (1, 2, 3, 4, 7, 8, 9):
        for text in (b"\xed\xa0\x80", b"\xff\xfe", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\xe2\x82"):
            body = _bytes(1, _bytes(number, text))
            yield Kind(f"field {number} is {text!r}", _sender(body), (REFUSED,))
        for wire_type, content in (
            (0, b"\x07"),
            (1, b"\0" * 8),
            (5, b"\0" * 4),
            (3, b""),
            (7, b""),
        ):
            body = _bytes(1, _field(number, wire_type, content))
            yield Kind(f"field {number} of wire type {wire_type}", _sender(body), ANY)
    whole = pb.SendEventRequest(
        event=pb.EventProto(key="heard", value="x" * 50)
    ).SerializeToString()
    for length in range(1, len(whole), 4):
        yield Kind(f"cut after {length} bytes", _sender(whole[:length]), ANY)
    for seed in range(100):
        body = random.Random(seed).randbytes(seed + 1)
        yield Kind(f"random bytes {seed}", _sender(body), ANY)


def wrong_types() -> Iterator[Kind]:
    """Event types that do not exist."""
    for name in ("NOPE", "user", "USER ", "COMMAND\n", "*", "0", "x" * 1000, "Üser", "ANSWER,USER"):
        event = pb.EventProto(key="heard", value="x", namespace="default", type=name)
        yield Kind(f"type {name[:20]!r}", _appender(event), (REFUSED,))


def _appender(event: pb.EventProto) -> Callable[[Target], int | None]:
    return lambda target: target.append(event)


FORGED = {
    "nothing": "",
    "no JSON": "?",
    "a list": "[]",
    "a number": "1e999",
    "no known tag": '{"type": "Nothing"}',
    "wrong fields": '{"type": "StopExecution", "workflow_execution_id": "all"}',
    "too many fields": '{"type": "DeleteNamespace", "name": "x", "and": 1}',
    "no such evaluation": '{"evaluation_id": 987654321, "met": true}',
    "no evaluation": '{"evaluation_id": "x"}',
    "no such timer": '{"key": {"kind": "RETRY", "owner": 987654, "task_name": "x"}, "fire_at": 1}',
    "no kind of timer": '{"key": {"kind": "NEVER", "owner": 1}, "fire_at": 1}',
    "a huge id": '{"evaluation_id": 99999999999999999999999999}',
    "deep": "[" * 50_000,
}


def forgeries() -> Iterator[Kind]:
    """Events that only the parts of a deployment send. By the original protocol, they are those of
    a user, whatever they call themselves."""
    internal = [t for t in EventType if t is not EventType.USER]
    for type, (what, text) in itertools.product(internal, FORGED.items()):
        event = pb.EventProto(
            key="task_status.poisoned.x", value=text, context=text, namespace="default", type=type
        )
        body = pb.SendEventRequest(event=event).SerializeToString()
        yield Kind(f"forged {type}: {what}", _sender(body), (TAKEN,))
        yield Kind(f"{type} from within: {what}", _appender(event), (LETTER, TAKEN))


BODIES = {
    "nothing": b"",
    "no JSON": b"?",
    "a list": b"[]",
    "an unknown argument": b'{"no such argument": 1}',
    "invalid UTF-8": b'{"workflow_name": "\xff"}',
    "a lone surrogate": b'{"no such argument \\ud83e": 1}',
    "deep": b"[" * 100_000,
    "large": b'{"no such argument": "' + b"x" * 1_000_000 + b'"}',
}


def requests() -> Iterator[Kind]:
    """Requests whose arguments make no sense."""
    for method, (what, body) in itertools.product(METHODS, BODIES.items()):
        yield Kind(f"{method}: {what}", _requester(method, body), (REFUSED,))


def _requester(method: str, body: bytes) -> Callable[[Target], None]:
    return lambda target: target.request(method, body)


# What the condition of the poisoned workflow does: the event's value is its code. These fail.
FATAL = (
    *(
        f"raise {error}"
        for error in (
            *("ValueError('no')", "KeyError()", "Exception", "ExceptionGroup('g', [ValueError()])"),
            *("ValueError('\\ud83e \\0')", "ValueError('x' * 10**6)", "KeyboardInterrupt"),
            *("GeneratorExit", "BaseException", "StopIteration", "MemoryError", "RecursionError"),
            *("SystemExit", "OSError(28, 'full')", "UnicodeDecodeError('utf8', b'', 0, 1, 'x')"),
            *("type('E', (BaseException,), {})", "type('E', (Exception,), {'__str__': None})()"),
        )
    ),
    *(f"os._exit({code})" for code in range(0, 256, 15)),
    *(f"sys.exit({code!r})" for code in (0, 1, 255, 4711, None, "text")),
    *(
        f"os.kill(os.getpid(), signal.{name})"
        for name in ("SIGTERM", "SIGKILL", "SIGABRT", "SIGSEGV", "SIGBUS", "SIGHUP", "SIGXCPU")
    ),
    *("os.killpg(0, 9)", "os.abort()", "ctypes.string_at(0)", "signal.raise_signal(15)"),
    # too deep
    "f = lambda: f()\nf()",
    "sys.setrecursionlimit(10)\njson.loads('[' * 50 + ']' * 50)",
    "json.loads('[' * 200_000)",
    "class R:\n def __repr__(self): return repr(self)\nrepr(R())",
    "met = type('M', (), {'__bool__': lambda s: 1 / 0})()",
    "met = type('M', (), {'__bool__': lambda s: None})()",
    # too much
    *(
        f"x = []\nwhile True: x.append({what})"
        for what in (
            "bytearray(10**6)",
            "'x' * 10**6 + str(len(x))",
            "[0] * 10**6",
            "dict(x=[1] * 10**6)",
        )
    ),
    *(f"x = bytearray({size} * 2**20)" for size in (256, 1024, 2**20, 2**34)),
    "x = 'x'\nwhile True: x += x",
    "state('a').update(bytearray(150 * 2**20))",
    # states
    *(f"state({name!r})" for name in ("x" * 201, "a\0b", "\ud83e")),
    *(
        f"state('a').update({value})"
        for value in ("threading.Lock()", "sys.stdin", "(i for i in 'x')", "'x' * 2_000_000")
    ),
    "x = []\nfor _ in range(10**5): x = [x]\nstate('a').update(x)",
    "x = []\nx.append(x)\nstate('a').update(x)",
    # the process itself
    *(
        f"for fd in range({first}, 64):\n try: os.close(fd)\n except OSError: pass"
        for first in (0, 3)
    ),
    "os.execv('/bin/true', ['true'])",
    "import resource as r\nr.setrlimit(r.RLIMIT_DATA, (2**20, 2**20))\nx = bytearray(10**7)",
)

# And these may be taken for harmless, since they answer, unless they disturb their own answer.
HARMLESS = (
    *(f"print({text})" for text in ("'x' * 10**6", "'{}'", r"'\0\ud83e'.encode(errors='replace')")),
    *(f"print('x', file=sys.{stream})" for stream in ("stderr", "stdout", "__stdout__")),
    *(f"os.system({command!r})" for command in ("echo x", "echo x >&2", "exit 3", "kill -9 $$")),
    *(
        f"for fd in range(64):\n try: os.write(fd, {text!r})\n except OSError: pass"
        for text in (
            *(b"x", b"\n", b"{}\n", b"ready\n", b'{"met": true}\n', b"\0" * 100, b"[" * 60_000),
            *(b'{"met": 1}\n{"met": 1}\n', b"\xff\xfe\n", b'{"error": "forged"}\n'),
        )
    ),
    *("sys.stdin.read()", "input", "os.read(0, 100)", "open('/dev/null').read()"),
    *(
        f"if not os.fork(): {what}"
        for what in ("pass", "os._exit(3)", "time.sleep(5)", "raise ValueError")
    ),
    "if not os.fork():\n os.setsid()\n if not os.fork(): time.sleep(3)",
    "[os.fork() or os._exit(0) for _ in range(20)]",
    "subprocess.Popen(['sleep', '5'])",
    "threading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
    "threading.Thread(target=lambda: 1 / 0).start()",
    "signal.setitimer(signal.ITIMER_REAL, 0.05)",
    *(f"sys.{name} = None" for name in ("stdout", "stderr", "stdin", "path", "argv", "excepthook")),
    *(f"os.{name} = None" for name in ("read", "write", "getpid", "close")),
    "json.dumps = json.loads = None",
    "import builtins\nbuiltins.print = None",
    "sys.modules.clear()",
    "os.environ.clear()",
    "os.chdir('/')",
    "os.umask(0o777)",
    "gc.disable()",
    "sys.setswitchinterval(10**6)",
    "import atexit\natexit.register(os._exit, 9)",
    "warnings.warn('x')",
    *(f"met = {value}" for value in ("None", "'no'", "[]", "float('nan')", "object", "context")),
    *(
        f"state('b').update({v})"
        for v in ("None", "[[]] * 1000", "'\\ud83e \\0'", "{'pickle': 'x'}", "1e999")
    ),
    "[state(str(n)).update(n) for n in range(300)]",
    "[state(str(n)).clear() for n in range(300)]",
    "del event, context",
    "event.value",
    "object.__setattr__(context, '_statuses', None)",
    "random.seed(1)",
)

HANGING = (
    "time.sleep(10**6)",
    "while True: pass",
    "while True: time.sleep(0.01)",
    "threading.Event().wait()",
    "threading.Lock().acquire() and 1\nx = threading.Lock()\nx.acquire()\nx.acquire()",
    "os.kill(os.getpid(), signal.SIGSTOP)",
    "signal.pause()",
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass",
    "re.match(r'(a+)+$', 'a' * 60 + 'b')",
    "sum(itertools.count())",
    "9 ** 9 ** 9",
    "os.read(os.pipe()[0], 1)",
    "queue.Queue().get()",
    "while True:\n try: time.sleep(60)\n except BaseException: pass",
    "os.waitid(os.P_PID, os.fork() or time.sleep(99), 4)",
    "while True: os.waitpid(os.fork() or os._exit(0), 0)",
)


def conditions() -> Iterator[Kind]:
    """Code in a condition that ends, one way or the other."""
    for code in FATAL:
        yield Kind(f"condition: {code[:60]}", _poisoner(code), (LETTER,))
    for code in HARMLESS:
        yield Kind(f"condition: {code[:60]}", _poisoner(code), (TAKEN, LETTER))


def hangs() -> Iterator[Kind]:
    """Code in a condition that does not end."""
    for code in HANGING:
        yield Kind(f"condition: {code[:60]}", _poisoner(code), (LETTER,))


def _poisoner(code: str) -> Callable[[Target], int | None]:
    return lambda target: target.poison(code)


# --- the deployment ------------------------------------------------------------------------------

WORKFLOWS = {
    "poisoned": """
import ctypes, gc, itertools, json, os, queue, random, re, signal, subprocess, sys, threading
import time, warnings
from aiflow_core import Condition, TaskAction, Workflow
from aiflow_core.model.context import ValueStateDescriptor
from aiflow_operator_bash.operator import BashOperator

class Poisoned(Condition):
    def is_met(self, event, context):
        names = dict(globals(), event=event, context=context, met=False)
        names["state"] = lambda name: context.get_state(ValueStateDescriptor(name))
        exec(event.value, names)
        return names["met"]

with Workflow("poisoned") as workflow:
    task = BashOperator("task", bash_command="true")
    task.action_on_condition(TaskAction.START, Poisoned(["poison"]))
""",
    "hearing": """
from aiflow_core import TaskAction, Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow("hearing") as workflow:
    task = BashOperator("task", bash_command="true")
    task.action_on_event_received(TaskAction.START, "heard")
""",
    "plain": """
import os, time
from pathlib import Path
from aiflow_core import TaskAction, Workflow
from aiflow_operator_python.operator import PythonOperator

def note():
    Path(os.environ["POISON_MARK"]).write_text(str(time.time_ns()))

with Workflow("plain") as workflow:
    noted = PythonOperator("noted", note)
    noted.action_on_event_received(TaskAction.START, "go plain")
""",
    "asking": """
import os, time
from pathlib import Path
from aiflow_core import Condition, TaskAction, Workflow
from aiflow_operator_python.operator import PythonOperator

class Healthy(Condition):
    def is_met(self, event, context):
        return True

def note():
    Path(os.environ["POISON_MARK"]).write_text(str(time.time_ns()))

with Workflow("asking") as workflow:
    noted = PythonOperator("noted", note)
    noted.action_on_condition(TaskAction.START, Healthy(["go asking"]))
""",
}


@contextmanager
def deployment(root: Path) -> Iterator[TwoServers]:
    """Two servers, in which conditions may take little time and memory."""
    servers = prepared(root)
    servers.environment["POISON_MARK"] = str(root / "mark")
    scheduler = {
        "uri": f"sqlite:///{servers.home / 'aiflow.db'}",
        "condition_time_limit": SECONDS_PER_TRY,
        "condition_tries": TRIES,
        "condition_memory_limit": MEBIBYTES,
    }
    project = {"scheduler": {"type": "event", "config": scheduler}}
    (servers.home / "project.yaml").write_text(yaml.safe_dump(project))
    try:
        servers.run("notification server start -d")
        servers.run("aiflow server start -d")
        for name, text in WORKFLOWS.items():
            (root / f"{name}.py").write_text(text)
            servers.upload(root / f"{name}.py")
        with mock.patch.dict(os.environ, servers.environment):
            yield servers
        servers.run("aiflow server stop")
        servers.run("notification server stop")
    finally:
        kill(processes_of(servers.home))


class Probe:
    """Measures, one after the other, how long others wait for the task that an event starts."""

    def __init__(self, servers: TwoServers) -> None:
        self._mark = Path(servers.environment["POISON_MARK"])
        uri = yaml.safe_load((servers.home / "aiflow_server.yaml").read_text())
        settings = {"server_uri": uri["notification_server_uri"]}
        self._events = make("aiflow.event_store", "notification-server", settings)
        self._executions = {
            name: ops.start_workflow_execution(name) for name in ("plain", "asking")
        }

    def close(self) -> None:
        self._events.close()

    def look(self, name: str) -> float:
        """Milliseconds from the call that sends the event to the first line of the task."""
        execution = self._executions[name]
        self._mark.unlink(missing_ok=True)
        began = time.time_ns()
        self._events.append([Event(f"go {name}", namespace="default")])
        deadline = time.monotonic() + 60
        while not self._mark.exists() or not (text := self._mark.read_text()):
            assert time.monotonic() < deadline, f"{name}: no task within 60 s"
            time.sleep(0.001)
        until(lambda: ops.list_task_executions(execution)[-1].end_date is not None)
        return (int(text) - began) / 1e6

    def look_while(self, goes_on: Callable[[], bool], figures: dict[str, list[float]]) -> None:
        """Look at all of them in turns, and add what was seen to the figures."""
        while goes_on():
            for name, seen in figures.items():
                seen.append(self.look(name))


@dataclass
class Outcome:
    """What has become of the kinds, and how long others waited meanwhile."""

    became: dict[str, str]
    wrong: list[str]
    quiet: dict[str, list[float]]
    poisoned: dict[str, list[float]]
    seconds: float
    trouble: list[str]

    def violations(self, most: float = 2.0) -> list[str]:
        """In what the promises were broken; others may wait `most` times as long."""
        slow = []
        for name, figures in self.poisoned.items():
            ratio = p99(figures) / p99(self.quiet[name])
            if ratio > most:
                slow.append(f"{name}: the 99th percentile is {ratio:.2f} times that without poison")
        return [*self.broken(), *slow]

    def broken(self) -> list[str]:
        """The promises that do not depend on how fast the machine is: what became of each kind, and
        that nobody else has waited until one that hangs was given up."""
        given_up_ms = 1000 * SECONDS_PER_TRY * TRIES
        waited = [
            f"{name}: the 99th percentile is {p99(figures):.0f} ms, as if it had waited for poison"
            for name, figures in self.poisoned.items()
            if p99(figures) >= given_up_ms
        ]
        return [*self.wrong, *self.trouble, *waited]

    def report(self) -> str:
        lines = [
            f"{len(self.became)} kinds in {self.seconds:.0f} s: "
            + ", ".join(f"{n} {what}" for what, n in sorted(Counter(self.became.values()).items()))
        ]
        for name, figures in self.poisoned.items():
            quiet = self.quiet[name]
            lines.append(
                f"event to task, {name}: "
                f"p50 {statistics.median(quiet):.1f} -> {statistics.median(figures):.1f} ms, "
                f"p99 {p99(quiet):.1f} -> {p99(figures):.1f} ms "
                f"({len(quiet)} -> {len(figures)} events)"
            )
        return "\n".join(lines)


def p99(figures: list[float]) -> float:
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]


def run(root: Path, count: int, rate: float) -> Outcome:
    """Send so many kinds, `rate` a second, in portions; look at the others meanwhile, and between
    the portions, so that whatever else the machine does falls on both."""
    kinds = chosen_kinds(count)
    sent: dict[str, int | str | None] = {}
    quiet: dict[str, list[float]] = {"plain": [], "asking": []}
    poisoned: dict[str, list[float]] = {"plain": [], "asking": []}
    seconds = 0.0
    with deployment(root) as servers, closing(Probe(servers)) as probe, channels(servers) as target:
        pids = [servers.pid(program) for program in ("notification", "aiflow")]
        probe.look_while(_times(5), {"plain": [], "asking": []})
        portion = -(-len(kinds) // PORTIONS)
        for first in range(0, len(kinds), portion):
            probe.look_while(_times(max(8, count // 10)), quiet)
            seconds += _poison(
                kinds[first : first + portion], rate, sent, servers, target, probe, poisoned
            )
        letters = {letter.offset for letter in ops.list_dead_letters()}
        trouble = [f"{kind.name}: was not sent" for kind in kinds if kind.name not in sent]
        if pids != [servers.pid(program) for program in ("notification", "aiflow")]:
            trouble.append("a server is another process")
        if not is_settled(servers, sent):
            trouble.append("the scheduler has not dealt with everything")
        return _judged(kinds, sent, letters, quiet, poisoned, seconds, trouble)


def _times(count: int) -> Callable[[], bool]:
    turns = iter(range(count))
    return lambda: next(turns, None) is not None


def _poison(
    kinds: list[Kind],
    rate: float,
    sent: dict[str, int | str | None],
    servers: TwoServers,
    target: Target,
    probe: Probe,
    poisoned: dict[str, list[float]],
) -> float:
    """Send these and look at the others until all is dealt with; how many seconds that took."""
    sender = threading.Thread(target=_send_all, args=(kinds, target, rate, sent), daemon=True)
    began = time.monotonic()
    sender.start()
    deadline = began + len(kinds) / rate + PATIENCE

    def goes_on() -> bool:
        unfinished = sender.is_alive() or not is_settled(servers, sent)
        return unfinished and time.monotonic() < deadline

    probe.look_while(goes_on, poisoned)
    return time.monotonic() - began


def _send_all(
    kinds: list[Kind], target: Target, rate: float, sent: dict[str, int | str | None]
) -> None:
    """What each was answered: an offset, None, or the code with which it was refused."""
    began = time.monotonic()
    for number, kind in enumerate(kinds):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        try:
            sent[kind.name] = kind.send(target)
        except AIFlowError as error:
            sent[kind.name] = error.code
        except grpc.RpcError as error:
            sent[kind.name] = error.code().name  # type: ignore[attr-defined]


def _judged(
    kinds: list[Kind],
    sent: dict[str, int | str | None],
    letters: set[int],
    quiet: dict[str, list[float]],
    poisoned: dict[str, list[float]],
    seconds: float,
    trouble: list[str],
) -> Outcome:
    became, wrong = {}, []
    for kind in kinds:
        answer = sent.get(kind.name)
        if isinstance(answer, str):
            became[kind.name] = REFUSED
            # A server that is away, or that forgot to say what is wrong, has not refused.
            if answer in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "unavailable"):
                wrong.append(f"{kind.name}: {answer}")
        else:
            became[kind.name] = LETTER if answer in letters else TAKEN
        if became[kind.name] not in kind.may_become:
            wrong.append(f"{kind.name}: {became[kind.name]} ({answer})")
    return Outcome(became, wrong, quiet, poisoned, seconds, trouble)


@contextmanager
def channels(servers: TwoServers) -> Iterator[Target]:
    """Bare connections to both servers, which take any bytes."""
    server = yaml.safe_load((servers.home / "aiflow_server.yaml").read_text())
    client = yaml.safe_load((servers.home / "aiflow_client.yaml").read_text())
    unlimited = [("grpc.max_send_message_length", -1)]
    executions = [ops.start_workflow_execution("poisoned") for _ in range(EXECUTIONS)]
    ops.start_workflow_execution("hearing")
    with (
        grpc.insecure_channel(server["notification_server_uri"], unlimited) as notification,
        grpc.insecure_channel(client["server_address"], unlimited) as aiflow,
    ):
        yield Target(notification, aiflow, executions)


def is_settled(servers: TwoServers, sent: dict[str, int | str | None]) -> bool:
    """Whether the scheduler has taken in all that was sent, and no condition is being evaluated."""
    newest = max((answer for answer in sent.values() if isinstance(answer, int)), default=0)
    file = f"file:{servers.home / 'aiflow.db'}?mode=ro"
    with closing(sqlite3.connect(file, uri=True)) as database:
        (position,) = database.execute("SELECT last_seq FROM consumer").fetchone()
        (under_way,) = database.execute("SELECT COUNT(*) FROM evaluation").fetchone()
    return bool(position >= newest and not under_way)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kinds", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=10.0, help="kinds per second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        outcome = run(Path(name), arguments.kinds, arguments.rate)
    print(outcome.report())
    violations = outcome.violations()
    for violation in violations:
        print(f"VIOLATED: {violation}")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
