"""Every hook is told when the whole runs, and tells what really happened."""

import dataclasses
import inspect
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from aiflow_core import hookspecs, ops
from aiflow_core.app import App
from aiflow_core.cli.running import Goal, Session
from aiflow_core.config import Driver, ObserverSettings
from aiflow_core.errors import ConfigError, PluginError, Veto
from aiflow_core.hooks import Hooks
from aiflow_core.hookspecs import hook
from aiflow_core.model.execution import AttemptKey, AttemptRequest
from aiflow_core.model.status import TaskStatus
from aiflow_core.model.workflow import TaskDefinition
from aiflow_core.ops import workflow_ops
from aiflow_core.plugins import make

SPECS = {name: spec for name, spec in vars(hookspecs).items() if hasattr(spec, "aiflow_spec")}

WORKFLOW = """
from aiflow_core import Workflow
from aiflow_operator_bash.operator import BashOperator

with Workflow(name="wf") as workflow:
    first = BashOperator(name="first", bash_command="echo from $FROM")
    second = BashOperator(name="second", bash_command="touch {ran}")
    second.start_after(first)
"""


Call = Callable[[str, dict[str, Any]], object]


def observer_of_everything(call: Call) -> ModuleType:
    """One that listens at every moment, takes all facts, and passes them to `call`."""
    observer = ModuleType("observer")
    for name in SPECS:
        setattr(observer, name, listening(name, call))
    return observer


def listening(name: str, call: Call) -> Any:
    # Written out: what an observer takes is read off its code.
    names = [*inspect.signature(SPECS[name]).parameters]
    facts = ", ".join(f"{name}={name}" for name in names)
    return hook(eval(f"lambda {', '.join(names)}: call({name!r}, dict({facts}))", {"call": call}))


class Record:
    """What an observer of everything was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.changed = threading.Condition()

    def note(self, moment: str, facts: dict[str, Any]) -> None:
        with self.changed:
            self.told.append((moment, facts))
            self.changed.notify_all()

    def of(self, moment: str) -> list[dict[str, Any]]:
        return [facts for name, facts in self.told if name == moment]

    def await_figures(self, wanted: Callable[[Any], bool]) -> None:
        def found() -> bool:
            return any(wanted(facts["figures"]) for facts in self.of("figures_taken"))

        with self.changed:
            assert self.changed.wait_for(found, 20), self.of("figures_taken")


def run(session: Session, file: Path) -> None:
    """Run it as `aiflow run` does."""
    session.start(file, (), None, None)
    while not session.is_over:
        for _ in session.changes(10):
            pass


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project.yaml").write_text("observers: {figures_interval: 0.1}")
    return App.configured()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "wf.py"
    file.write_text(WORKFLOW.format(ran=tmp_path / "ran"))
    return file


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Record:
    """Of an observer that is installed."""
    record = Record()
    install(monkeypatch, observer_of_everything(record.note))
    return record


def install(monkeypatch: pytest.MonkeyPatch, observer: object) -> None:
    def register(hooks: Hooks, settings: object) -> None:
        hooks.register(observer, "observer")

    monkeypatch.setattr(Hooks, "register_installed", register)


def test_every_hook_is_told_in_a_run(app: App, file: Path, record: Record) -> None:
    with ExitStack() as stack:
        session = Session(app, stack, Goal())
        run(session, file)
        record.await_figures(lambda figures: figures.taken_in and not figures.executions)

    told = Counter(name for name, _ in record.told)
    assert {name for name in SPECS if not told[name]} == set()
    assert record.told[0][0] == "server_started"
    assert record.told[-1] == ("server_stopped", {"name": "notification"})


def test_what_is_told_is_what_happened_in_the_order_in_which_it_did(
    app: App, file: Path, record: Record
) -> None:
    with ExitStack() as stack:
        session = Session(app, stack, Goal())
        run(session, file)
        log = session._embedded.events.read()

    heard = [facts["event"] for facts in record.of("event_appended")]
    both = min(len(heard), len(log))  # one or the other has more of what comes after the end
    assert heard[:both] == log[:both]
    assert both >= 6
    for facts in record.of("event_appended"):
        assert facts["event"].create_time <= facts["decided_ms"]
        assert facts["begun_ms"] <= facts["decided_ms"]
    statuses = defaultdict(list)
    position = 0
    for name, facts in record.told:
        match name:
            case "event_appended":
                position = facts["event"].offset
            case "decision_made":
                assert facts["offset"] == position
            case "task_execution_changed":
                assert facts["offset"] == position
                statuses[facts["task_execution"].task_name].append(facts["task_execution"].status)
            case "workflow_execution_changed" | "workflow_submitted":
                assert facts["offset"] == position
    for name in ("first", "second"):
        assert [*map(str, statuses[name])] in (
            ["QUEUED", "RUNNING", "SUCCESS"],
            ["QUEUED", "SUCCESS"],
        )
    asked = [facts["request"].key.task_name for facts in record.of("before_task_start")]
    assert asked == ["first", "second"]
    lines = [facts["line"] for facts in record.of("task_log_line")]
    assert "from" in lines
    (upload,) = record.of("before_upload")
    assert [d.name for d in upload["definitions"]] == ["wf"]
    (uploaded,) = record.of("after_upload")
    assert [w.workflow_name for w in uploaded["workflows"]] == ["wf"]
    assert uploaded["workflow_file"] == file


def test_a_task_is_asked_about_after_its_task_was_told_of(
    app: App, file: Path, record: Record
) -> None:
    with ExitStack() as stack:
        run(Session(app, stack, Goal()), file)

    queued = set()
    for name, facts in record.told:
        if name == "task_execution_changed" and facts["task_execution"].status == "QUEUED":
            queued.add(facts["task_execution"].attempt)
        if name == "before_task_start":
            assert facts["request"].key in queued


class Refuses:
    """Refuses one task, and gives another a variable."""

    def __init__(self, task_name: str, reason: str = "the budget is used up") -> None:
        self.task_name = task_name
        self.reason = reason

    @hook
    def before_task_start(self, request: AttemptRequest) -> dict[str, str]:
        if request.key.task_name == self.task_name:
            raise Veto(self.reason)
        return {"FROM": "an observer"}


def test_a_refused_task_has_failed_and_never_ran(
    app: App, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, Refuses("second"))
    with ExitStack() as stack:
        session = Session(app, stack, Goal())
        run(session, file)
        tasks = {task.task_name: task for task in session.tasks.values()}

    assert tasks["first"].status is TaskStatus.SUCCESS
    assert tasks["second"].status is TaskStatus.FAILED
    assert tasks["second"].reason == "Refused by 'observer': the budget is used up."
    (execution,) = session.executions.values()
    assert execution.status == "FAILED"
    assert "the budget is used up" in execution.reason
    assert not (tmp_path / "ran").exists()
    log = session.log_dir / "wf" / str(execution.id) / "first" / "1.log"
    assert "from an observer\n" in log.read_text()


def test_a_refused_attempt_is_tried_again_as_any_that_failed(
    app: App, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class RefusesTheFirstTry:
        @hook
        def before_task_start(self, request: AttemptRequest) -> None:
            if request.key.try_number == 1:
                raise Veto("not at once")

    install(monkeypatch, RefusesTheFirstTry())
    file.write_text(file.read_text().replace('name="first", ', 'name="first", retries=1, '))
    with ExitStack() as stack:
        session = Session(app, stack, Goal())
        run(session, file)
        first = next(t for t in session.tasks.values() if t.task_name == "first")

    assert (first.status, first.try_number) == (TaskStatus.SUCCESS, 2)


def test_a_refused_upload_uploads_nothing(
    app: App, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refuses:
        @hook
        def before_upload(self, definitions: Any) -> None:
            raise Veto(f"{definitions[0].name} has no owner")

    install(monkeypatch, Refuses())
    with ExitStack() as stack:
        session = Session(app, stack, Goal())
        with pytest.raises(Veto, match="Refused by 'observer': wf has no owner"):
            session.start(file, (), None, None)
        assert session._embedded.scheduler.list_workflows() == []


def test_a_client_tells_of_what_it_uploads(
    app: App, file: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        embedded = app.embedded(stack)
        monkeypatch.setattr(workflow_ops, "server", lambda: nullcontext(embedded.scheduler))
        (uploaded,) = ops.upload_workflows(file)

        (before,), (after,) = record.of("before_upload"), record.of("after_upload")
        assert [d.name for d in before["definitions"]] == ["wf"]
        assert after == {"workflow_file": file, "workflows": (uploaded,)}


def test_a_client_whose_upload_is_refused_asks_no_server(
    app: App, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refuses:
        @hook
        def before_upload(self, workflow_file: Path) -> None:
            raise Veto(f"nobody has looked at {workflow_file.name}")

    install(monkeypatch, Refuses())

    with pytest.raises(Veto, match=r"Refused by 'observer': nobody has looked at wf\.py"):
        ops.upload_workflows(file)
    assert not [path for path in (tmp_path / "blob").rglob("*") if path.is_file()]


def test_the_aiflow_server_tells_when_it_starts_and_when_it_has_stopped(
    app: App, record: Record, tmp_path: Path
) -> None:
    log = Driver(type="sql", config={"uri": f"sqlite:///{tmp_path}/events.db"})
    with closing(make("aiflow.event_store", log.type, log.config)) as events:
        events.initialize()
    with app.tables() as tables:
        tables.initialize()
    app = dataclasses.replace(
        app,
        server=msgspec.structs.replace(app.server, rpc_port=0),
        project=msgspec.structs.replace(app.project, event_store=log),
    )

    with ExitStack() as stack:
        address = app.serve(stack)
        record.await_figures(lambda figures: figures.leads)
        assert not record.of("server_stopped")

    assert record.of("server_started") == [{"name": "aiflow", "address": address}]
    assert record.told[-1] == ("server_stopped", {"name": "aiflow"})


def test_a_server_that_does_not_start_is_not_told_of(
    app: App, record: Record, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError), ExitStack() as stack:
        app.serve(stack)  # its database has no tables

    assert record.told == []


@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_an_observer_of_everything_that_is_broken_breaks_nothing(
    app: App, file: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def fail(moment: str, facts: object) -> None:
        if fault == "hangs":
            over.wait(60)
        raise RuntimeError(moment)

    install(monkeypatch, observer_of_everything(fail))
    limits = ObserverSettings(figures_interval=0.1, time_limit=0.2)
    project = msgspec.structs.replace(app.project, observers=limits)
    with ExitStack() as stack:
        session = Session(dataclasses.replace(app, project=project), stack, Goal())
        run(session, file)
        over.set()

    (execution,) = session.executions.values()
    assert execution.status == "SUCCESS"


class TestInstalled:
    """Observers are found by their entry points."""

    @pytest.fixture(autouse=True)
    def _two_observers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        site = tmp_path / "site"
        info = site / "stranger-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(
            "[aiflow.hooks]\n"
            "always = stranger_always\n"
            "gate = stranger_gate:Gate\n"
            "ruin = stranger_ruin:Ruin\n"
        )
        (site / "stranger_always.py").write_text(
            "from aiflow_core.hookspecs import hook\n"
            "@hook\n"
            "def before_task_start(request):\n"
            "    return {'ALWAYS': request.workflow_name}\n"
        )
        (site / "stranger_gate.py").write_text(
            "from aiflow_core.hookspecs import hook\n"
            "class Gate:\n"
            "    def __init__(self, word, times=1):\n"
            "        self.word = word * times\n"
            "    @hook\n"
            "    def before_task_start(self):\n"
            "        return {'GATE': self.word}\n"
        )
        (site / "stranger_ruin.py").write_text("raise RuntimeError('imported')\n")
        monkeypatch.syspath_prepend(site)

    def answers(self, settings: dict[str, dict[str, Any] | None]) -> dict[str, str]:
        hooks = Hooks()
        hooks.register_installed(settings)
        request = AttemptRequest(
            key=AttemptKey(workflow_execution_id=1, task_name="t", sequence_number=1),
            namespace="default",
            workflow_name="wf",
            task=TaskDefinition(name="t"),
        )
        answers: dict[str, str] = hooks.before_task_start(request=request)
        hooks.close()
        return answers

    def test_a_module_listens_and_a_class_only_with_settings(self) -> None:
        assert self.answers({}) == {"ALWAYS": "wf"}
        assert self.answers({"gate": {"word": "a", "times": 2}}) == {"ALWAYS": "wf", "GATE": "aa"}

    @pytest.mark.parametrize(
        ("settings", "problem"),
        [
            ({"gat": None}, r"No plugin is the observer 'gat'\. Did you mean 'gate'"),
            ({"gate": None}, "observer 'gate' needs the setting 'word'"),
            ({"gate": {"word": "a", "time": 2}}, r"no setting 'time'\. Did you mean 'times'"),
            ({"always": {"word": "a"}}, "'always' has no settings"),
            ({"ruin": {}}, "observer 'ruin' does not load: RuntimeError: imported"),
        ],
    )
    def test_settings_that_do_not_fit_are_refused(
        self, settings: dict[str, dict[str, Any] | None], problem: str
    ) -> None:
        with pytest.raises(PluginError, match=problem):
            self.answers(settings)

    def test_they_have_their_settings_from_the_project(self, app: App) -> None:
        (app.home / "project.yaml").write_text("hooks: {gate: {word: b}}")

        with ExitStack() as stack:
            hooks = App.configured().hooks(stack)
            assert [*hooks.figures()] == ["always", "gate"]
