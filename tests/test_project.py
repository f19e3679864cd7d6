"""`project.yaml`: which plugins a deployment uses, and `aiflow project`, which writes and checks
it."""

import json
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aiflow_core import config
from aiflow_core.app import App
from aiflow_core.cli import aiflow
from aiflow_core.errors import ConfigError, PluginError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIFLOW_HOME", str(tmp_path))
    monkeypatch.delenv("AIFLOW_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(code: int = 0) -> dict[str, dict[str, Any]]:
    done = CliRunner().invoke(aiflow, ["project", "check", "-o", "json"])
    assert done.exit_code == code, done.output
    return {row["part"]: row for row in json.loads(done.stdout)}


def test_what_init_writes_says_the_defaults(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = App.configured().drivers()
    (home / "project").mkdir()

    done = CliRunner().invoke(aiflow, ["project", "init", "project"])

    assert done.output == "Creating new AIFlow project file in: project/project.yaml\n"
    monkeypatch.chdir(home / "project")
    assert App.configured().drivers() == before


def test_every_part_of_the_file_that_is_a_comment_can_be_used(home: Path) -> None:
    CliRunner().invoke(aiflow, ["project", "init"])
    file = home / "project.yaml"
    # A key that is a comment follows the # at once, or the two blanks of its indentation.
    file.write_text(re.sub(r"^#(?=\w|  )", "", file.read_text(), flags=re.MULTILINE))

    settings = config.project_settings()

    assert settings.executor == config.Driver(type="local", config={"parallelism": 10})
    assert settings.event_store is not None
    assert settings.scheduler is not None
    assert settings.plugins == config.PluginSettings()
    assert {row["state"] for row in check().values()} == {"ok"}


def test_what_stands_there_is_not_overwritten(home: Path) -> None:
    (home / "project.yaml").write_text("executor: {type: local}\n")

    done = CliRunner().invoke(aiflow, ["project", "init"])

    assert done.stderr == "The AIFlow project file exists already: project.yaml\n"
    assert (home / "project.yaml").read_text() == "executor: {type: local}\n"


@pytest.mark.parametrize("section", ["blob", "blob_manager"])
@pytest.mark.parametrize(
    "keys", [("type", "config"), ("blob_manager_class", "blob_manager_config")]
)
def test_the_blob_section_may_be_written_as_in_each_manual(
    home: Path, section: str, keys: tuple[str, str]
) -> None:
    where = home / "blobs"
    (home / "project.yaml").write_text(
        f"{section}:\n  {keys[0]}: local\n  {keys[1]}:\n    root_directory: {where}\n"
    )

    blobs = App.configured().blob_manager()

    (home / "file").write_text("content")
    assert str(where) in blobs.upload(home / "file")


def test_a_scheduler_may_be_written_as_in_the_plugin_manual(home: Path) -> None:
    (home / "project.yaml").write_text(
        "scheduler:\n"
        "  scheduler_class_name: aiflow_scheduler_event.scheduler.EventScheduler\n"
        "  scheduler_config:\n    uri: sqlite:///there.db\n"
    )

    scheduler = App.configured().drivers()["scheduler"]

    assert scheduler.config == {"uri": "sqlite:///there.db"}
    assert type(App.configured().scheduler()).__name__ == "EventScheduler"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "blob: {type: nowhere}\n"
            "executor: {type: local, config: {paralelism: 3}}\n"
            "scheduler: {type: no.such.Class}\n",
            {
                "blob_manager": "No plugin is the blob-manager 'nowhere'",
                "executor": "no setting 'paralelism'",
                "scheduler": "No module named 'no'",
            },
        ),
        (
            "blob: {type: local}\n"
            "executor: {type: local, config: {parallelism: many}}\n"
            "scheduler: {type: pathlib.Path}\n",
            {
                "blob_manager": "needs the setting 'root_directory'",
                "executor": "The setting 'parallelism' of the executor 'local' is wrong: "
                "expected `int`, got `str`",
                "scheduler": "is not a subclass of Scheduler",
            },
        ),
        (
            "plugins: {allow: ['executor:*', 'scheduler:*'], deny: ['executor:local']}\n",
            {
                "executor": "denied by 'executor:local'",
                "blob_manager": "not among those that are allowed",
            },
        ),
    ],
    ids=["unknown", "wrong", "disabled"],
)
def test_check_says_what_cannot_be_used(home: Path, text: str, problems: dict[str, str]) -> None:
    (home / "project.yaml").write_text(text)

    rows = check(code=1)

    for part, problem in problems.items():
        assert rows[part]["state"] == "broken"
        assert problem in rows[part]["problem"]
        assert "many" not in rows[part]["problem"], "values may be secrets"


def test_check_says_what_means_nothing(home: Path) -> None:
    (home / "project.yaml").write_text("plugins: {deny: ['hooks:metrcs']}\n")

    assert check()["plugins.deny"] == {
        "part": "plugins.deny",
        "plugin": "hooks:metrcs",
        "state": "unused",
        "problem": "no installed plugin goes by that name",
    }


def test_a_file_that_is_wrong_is_an_error_of_its_own(home: Path) -> None:
    (home / "project.yaml").write_text("plugins: {denied: []}\n")

    with pytest.raises(ConfigError, match="Did you mean 'deny'"):
        config.project_settings()
    assert CliRunner().invoke(aiflow, ["plugins", "list"]).exit_code == 2


def test_a_command_that_is_denied_is_left_out(home: Path) -> None:
    (home / "project.yaml").write_text("plugins: {deny: ['command:*']}\n")

    own = CliRunner().invoke(aiflow, ["event", "--help"])
    theirs = CliRunner().invoke(aiflow, ["server", "status"])

    assert "dead" in own.output, "what the core has under that name is there"
    assert "listen" not in own.output
    assert theirs.exit_code == 2
    assert "The command 'server' of aiflow-server is left out: denied" in theirs.output


def test_settings_are_checked_before_a_plugin_is_made(home: Path) -> None:
    (home / "project.yaml").write_text("event_store: {type: sql, config: {uri: 3}}\n")

    with (
        pytest.raises(PluginError, match="'uri' of the event-store 'sql' is wrong"),
        ExitStack() as stack,
    ):
        App.configured().serve(stack)


def test_the_processes_of_tasks_have_the_same_file_wherever_they_work(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = home / "project"
    project.mkdir()
    (project / "project.yaml").write_text("plugins: {deny: ['operator:python']}\n")
    monkeypatch.chdir(project)
    look = "from aiflow_core import config; print(config.project_settings().plugins.deny)"

    with ExitStack() as stack:
        App.configured().embedded(stack)
        said = subprocess.run(
            [sys.executable, "-c", look], cwd="/", capture_output=True, text=True, check=True
        )

    assert said.stdout == "['operator:python']\n"
    assert "AIFLOW_PROJECT" not in os.environ
    assert "AIFLOW_DEPLOYMENT" not in os.environ


def test_the_environment_may_name_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "other.yaml").write_text("executor: {type: other}\n")
    (home / "project.yaml").write_text("executor: {type: local}\n")

    monkeypatch.setenv("AIFLOW_PROJECT", str(home / "other.yaml"))

    assert config.project_settings().executor == config.Driver(type="other")


def test_choosing_some_plugins_imports_no_others(home: Path) -> None:
    script = (
        "import sys\n"
        "from aiflow_core.app import App\n"
        "App.configured().blob_manager()\n"
        "from aiflow_core.plugins import driver_class\n"
        "driver_class('aiflow.operator', 'bash')\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'boto3', 'botocore', 'oss2',"
        " 'hdfs', 'fsspec', 'sqlalchemy', 'grpc', 'aiflow_operator_python'}))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
