"""What the manual says of hooks, metrics and traces is what there is."""

import inspect
import re
from pathlib import Path

import msgspec
import pytest
import yaml

from aiflow_core import hookspecs
from aiflow_core.config import ObserverSettings, ProjectSettings
from aiflow_core.errors import Veto
from aiflow_core.hooks import Hooks
from aiflow_core.model.execution import AttemptKey, AttemptRequest
from aiflow_core.model.figures import ObserverFigures, SchedulerFigures
from aiflow_core.model.workflow import TaskDefinition
from aiflow_hooks_metrics.hooks import Metrics
from aiflow_hooks_otel.hooks import Traces

from .blocks import codes

DOCS = Path(__file__).parent.parent / "docs"
HOOKS = (DOCS / "reference" / "hooks.md").read_text()
OBSERVE = (DOCS / "how-to" / "observe.md").read_text()


def test_every_hook_is_listed_with_what_it_is_told() -> None:
    listed = {
        name: re.findall(r"`(\w+)`", facts)
        for name, facts in re.findall(r"^\| `(\w+)` \| (`[^|]*`) \|", HOOKS, re.MULTILINE)
    }

    assert listed == {
        name: [*inspect.signature(spec).parameters]
        for name, spec in vars(hookspecs).items()
        if hasattr(spec, "aiflow_spec")
    }


def test_what_is_asked_is_said_to_be() -> None:
    asked = set(re.findall(r"^\| `(\w+)` \| [^|]* \| \*\*asked\*\*", HOOKS, re.MULTILINE))

    assert asked == {name for name in vars(hookspecs) if name.startswith("before_")}


def test_the_observer_of_the_reference_does_what_it_says() -> None:
    (code,) = codes("reference/hooks.md", "python")
    (settings,) = codes("reference/hooks.md", "yaml")
    scope: dict[str, object] = {}
    exec(code, scope)
    configured = msgspec.convert(yaml.safe_load(settings), ProjectSettings).hooks["budget"]
    assert configured == {"starts": 100}
    hooks = Hooks()
    hooks.register(scope["Budget"](starts=1), "budget")  # type: ignore[operator]
    request = AttemptRequest(
        key=AttemptKey(workflow_execution_id=1, task_name="train", sequence_number=1),
        namespace="default",
        workflow_name="wf",
        task=TaskDefinition(name="train"),
    )

    assert hooks.before_task_start(request=request) == {"BUDGET_LEFT": "0"}
    with pytest.raises(Veto, match="by 'budget': the budget is used up, train was not in it"):
        hooks.before_task_start(request=request)
    hooks.close()


def test_every_setting_is_in_the_reference() -> None:
    text = (DOCS / "reference" / "configuration.md").read_text()
    for field in msgspec.structs.fields(ObserverSettings):
        assert f"| `{field.name}` | `{field.default}` |" in text


def test_the_settings_that_the_pages_show_are_some() -> None:
    pages = ["how-to/observe.md", "reference/configuration.md"]
    shown = [yaml.safe_load(code) for page in pages for code in codes(page, "yaml")]
    projects = [
        msgspec.convert(settings, ProjectSettings) for settings in shown if "hooks" in settings
    ]
    assert len(projects) >= 3
    for project in projects:
        hooks = Hooks(project.observers)
        hooks.register_installed(project.hooks)
        assert set(hooks.figures()) == set(project.hooks)
        hooks.close()


def test_every_metric_is_explained_and_nothing_else_is() -> None:
    explained = set(re.findall(r"^\| `(aiflow_\w+)` \|", OBSERVE, re.MULTILINE))

    metrics = Metrics()
    metrics.figures_taken(SchedulerFigures(leads=True), {"some": ObserverFigures()})
    assert explained == {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in metrics.registry.collect()
        if metric.name.startswith("aiflow_")
    }


def test_the_readme_of_an_observer_lists_its_settings_with_their_defaults() -> None:
    root = DOCS.parent / "plugins"
    for cls, folder in ((Metrics, "hooks-metrics"), (Traces, "hooks-otel")):
        text = (root / folder / "README.md").read_text()
        for name, parameter in inspect.signature(cls).parameters.items():
            if name == "exporter":
                continue  # cannot stand in a file
            default = "" if parameter.default is None else f"`{parameter.default}`"
            assert f"| `{name}` | {default}".rstrip() in text, (folder, name)
