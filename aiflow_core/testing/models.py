"""Machines that do anything in any order: how far they go, and the count of their steps.

A pytest plugin, loaded with `-p aiflow_core.testing.models`. A test with the marker `model` lets a
`Machine` run against what it tests and against a small model of it, which says what must come out.
How many runs that are is a matter of patience: `--models-effort=100` makes a hundred times as many.
What was really done stands at the end of the test run, as a number of steps.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, run_state_machine_as_test

STEPS = 50
"""The most steps of one run."""

_PATIENCE = 600  # seconds

_counted = pytest.StashKey["Counter[str]"]()


class Machine(RuleBasedStateMachine):
    """A state machine that counts its steps, also in other machines of its class.

    Attributes:
        steps: that were taken by all machines since the count was last taken.
    """

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self._started = False

    @invariant()
    def count(self) -> None:
        """Called by the machinery once before the first step and once after each."""
        Machine.steps += self._started
        self._started = True


class Runner:
    """Lets machines run, and keeps account of it."""

    def __init__(self, name: str, effort: float, account: "Counter[str]") -> None:
        self._name = name
        self._effort = effort
        self._account = account

    def __call__(self, machine: Callable[[], Machine], runs: int) -> None:
        """Let `runs` new machines run, times the effort that was asked for. The first error is made
        as small as possible and raised, with the steps that lead to it."""
        self._run(
            machine, max(1, round(runs * self._effort)), phases=(Phase.generate, Phase.shrink)
        )

    def finds(self, machine: Callable[[], Machine], runs: int) -> str:
        """What the first `runs` machines find wrong, which are the same each time; empty when that
        is nothing. To show that a fault which was made on purpose is found."""
        try:
            self._run(machine, runs, phases=(Phase.generate,), derandomize=True)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return ""

    def _run(
        self,
        machine: Callable[[], Machine],
        runs: int,
        phases: tuple[Phase, ...],
        derandomize: bool = False,
    ) -> None:
        Machine.steps = 0
        try:
            run_state_machine_as_test(
                machine,  # type: ignore[arg-type]  # whatever makes one will do
                settings=settings(
                    max_examples=runs,
                    stateful_step_count=STEPS,
                    phases=phases,
                    derandomize=derandomize,
                    database=None,
                    deadline=None,
                    print_blob=True,
                    report_multiple_bugs=False,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                ),
            )
        finally:
            self._account[self._name] += Machine.steps


@pytest.fixture
def run_model(request: pytest.FixtureRequest) -> Runner:
    """Lets machines run as long as `--models-effort` wants it."""
    config = request.config
    return Runner(request.node.name, config.getoption("--models-effort"), config.stash[_counted])


@pytest.fixture
def quick_sqlite_url() -> Iterator[str]:
    """URL of an empty SQLite database, in memory where the machine has a place for files there: a
    machine commits all the time, and what a disk does about it is no matter of the model."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield f"sqlite:///{directory}/test.db"


@pytest.fixture
def quick_database_url(database_url: str, quick_sqlite_url: str) -> str:
    """As `database_url`, but SQLite's is the quick one."""
    return quick_sqlite_url if database_url.startswith("sqlite") else database_url


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--models-effort",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="let state machines run so many times as often as in every test run",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_counted] = Counter()
    config.addinivalue_line("markers", "model: lets a state machine run against a model")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give machines the time that their effort takes, and that to make what they find small."""
    patience = _PATIENCE * max(1.0, config.getoption("--models-effort"))
    for item in items:
        if item.get_closest_marker("model"):
            item.add_marker(pytest.mark.timeout(patience))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many steps were really taken."""
    account = terminalreporter.config.stash[_counted]
    if account:
        terminalreporter.section("MODELS")
        for name, steps in account.items():
            terminalreporter.line(f"{steps:10,} steps  {name}")
        terminalreporter.line(f"{account.total():10,} steps in all")
