"""Every block of the manual is executed: by a test of its own, or here, page after page.

A page is gone through from its top, as a reader does it, in a directory and a home of its own:
shell blocks by bash, Python blocks in one namespace, settings are held against the schemas, and a
`text` block is what the shell block before it printed.
"""

import io
import json
import os
import sqlite3
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aiflow_core import Workflow, config, event, gt, ops
from aiflow_core.catalog import GROUPS
from aiflow_core.config import ClientSettings, ProjectSettings, ServerSettings
from aiflow_notification_server.settings import NotificationSettings
from aiflow_operator_bash.operator import BashOperator

from .blocks import PAGES, ROOT, Block, blocks, name_of
from .served import served
from .servers import PROGRAMS, free_port, kill, processes_below, until
from .test_cli_examples import FAULTY

# Who executes the first so many blocks of a page in a language; further ones are executed here.
ELSEWHERE: dict[tuple[str, str], tuple[int, str]] = {
    ("README.md", "python"): (1, "test_docs.py"),
    ("how-to/blob-managers.md", "python"): (4, "test_blob_stores.py"),
    ("how-to/event-algebra.md", "python"): (3, "test_event_algebra_guide.py"),
    ("how-to/explain.md", "bash"): (4, "test_explain.py"),
    ("how-to/explain.md", "python"): (2, "test_explain.py"),
    ("how-to/from-0.3-plugins.md", "python"): (3, "test_old_plugins.py"),
    ("how-to/test-a-workflow.md", "bash"): (1, "test_simulate.py"),
    ("how-to/test-a-workflow.md", "json"): (1, "test_simulate.py"),
    ("how-to/test-a-workflow.md", "python"): (2, "test_simulate.py"),
    ("how-to/test-a-workflow.md", "text"): (1, "test_simulate.py"),
    ("how-to/write-a-plugin.md", "console"): (6, "test_newcomers_hour.py"),
    ("how-to/write-a-plugin.md", "python"): (3, "test_newcomers_hour.py"),
    ("reference/hooks.md", "python"): (1, "test_docs_of_hooks.py"),
    ("tutorial/online-ml.md", "bash"): (1, "test_examples.py"),
    ("tutorial/online-ml.md", "python"): (3, "test_docs.py"),
    ("tutorial/quickstart.md", "bash"): (1, "test_examples.py"),
    ("tutorial/quickstart.md", "python"): (2, "test_docs.py"),
}
LANGUAGES = ("bash", "json", "python", "text", "toml", "yaml")
SCHEMAS = [
    jsonschema.Draft202012Validator(config.json_schema(settings))
    for settings in (ServerSettings, ClientSettings, ProjectSettings, NotificationSettings)
]


# --- nothing is left out -----------------------------------------------------------------------


def executed_elsewhere(page: str) -> list[Block]:
    """The blocks of the page that a test of their own executes."""
    counted: Counter[str] = Counter()
    found = []
    for block in blocks(page):
        if not block.reason:
            counted[block.language] += 1
            count, _ = ELSEWHERE.get((page, block.language), (0, ""))
            if counted[block.language] <= count:
                found.append(block)
    return found


def executed_here(page: str) -> list[Block]:
    elsewhere = executed_elsewhere(page)
    return [b for b in blocks(page) if not b.reason and b not in elsewhere]


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES if "```" in page.read_text()])
def test_every_block_is_executed_or_says_why_not(page: str) -> None:
    """One that is neither needs a language of `LANGUAGES`, a test of its own, or a reason: see
    `tests/blocks.py`."""
    assert not [str(b) for b in executed_here(page) if b.language not in LANGUAGES]


@pytest.mark.parametrize(("page", "language"), ELSEWHERE)
def test_what_is_executed_elsewhere_is(page: str, language: str) -> None:
    count, test = ELSEWHERE[page, language]

    assert sum(b.language == language for b in executed_elsewhere(page)) == count
    source = (ROOT / "tests" / test).read_text()
    assert page in source or Path(page).name in source or Path(page).parts[0] == "tutorial"


def test_a_block_is_found_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.blocks.DOCS", tmp_path)
    (tmp_path / "page.md").write_text(PAGE_OF_BLOCKS)

    found = [(b.line, b.language, b.code, b.reason) for b in blocks("page.md")]

    assert found == [
        (3, "bash", "one\n\n  two\n", ""),
        (11, "python", "three\n", "it needs a cloud"),
        (15, "", "four\n", ""),
    ]


PAGE_OF_BLOCKS = """\
1. First

    ```bash
    one

      two
    ```

<!-- not executed: it needs a cloud -->

```python title="three.py"
three
```

```
four
```
"""


# --- a reader who does what he reads -----------------------------------------------------------


@dataclass
class Reader:
    """Goes through a page.

    Attributes:
        stack: what is undone when he has read the page.
        replaces: what he types instead of some words of the page.
        names: of the Python blocks.
        said: what the last block printed.
    """

    stack: ExitStack
    replaces: dict[str, str] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    said: str | None = None

    def takes(self, block: Block) -> None:
        code = block.code
        for printed, typed in self.replaces.items():
            code = code.replace(printed, typed)
        getattr(self, f"_{block.language}")(block, code)

    def types(self, command: str) -> str:
        """What the shell prints; each command must succeed."""
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def _bash(self, block: Block, code: str) -> None:
        self.said = self.types(code)

    def _python(self, block: Block, code: str) -> None:
        if block.file:
            Path(block.file).write_text(code)
            rest = [b for b in executed_here(block.page) if b.line > block.line]
            assert any(block.file in b.code for b in rest), f"nobody executes {block.file}"
            return
        with io.StringIO() as printed, redirect_stdout(printed):
            exec(compile(code, str(block), "exec"), self.names)
            self.said = printed.getvalue()

    def _text(self, block: Block, code: str) -> None:
        """What was printed, without the lines for which there are three dots."""
        assert self.said is not None, "nothing was executed before"
        printed = squeezed(self.said)
        for line in code.splitlines():
            assert line == "..." or squeezed(line) in printed, self.said

    def _yaml(self, block: Block, code: str) -> None:
        settings = yaml.safe_load(code)
        assert any(schema.is_valid(settings) for schema in SCHEMAS), f"no file has these: {code}"

    def _json(self, block: Block, code: str) -> None:
        json.loads(code)

    def _toml(self, block: Block, code: str) -> None:
        for group in tomllib.loads(code)["project"]["entry-points"]:
            assert group in GROUPS


def squeezed(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True)
class Scene:
    """What a page takes for granted.

    Attributes:
        served: that two servers run, whose files are in the reader's folder.
        before: what was done.
    """

    served: bool = False
    before: Callable[[Reader], None] = lambda reader: None


def inside_a_workflow(reader: Reader) -> None:
    """What is a part of a workflow on the page becomes one."""
    reader.stack.enter_context(Workflow("page"))
    reader.names.update(
        BashOperator=BashOperator, event=event, gt=gt, report=BashOperator("report", "true")
    )


def given(**names: Any) -> Callable[[Reader], None]:
    return lambda reader: reader.names.update(names)


def a_workflow(reader: Reader) -> None:
    """The files that go with the page on two servers."""
    Path("dataset").mkdir()
    Path("helpers.py").touch()
    Path("workflow.py").write_text((ROOT / "examples/quickstart/workflow.py").read_text())


def a_dead_letter(reader: Reader) -> None:
    Path("faulty.py").write_text(FAULTY)
    reader.types("aiflow workflow upload faulty.py && aiflow workflow-execution start faulty")
    # The events that tell of its start are in the log by then.
    until(lambda: reader.types("aiflow event count 'workflow_status.*'") == "1\n")
    reader.types("aiflow event send poison x && aiflow event send poison y")
    until(lambda: len(ops.list_dead_letters()) == 2)
    first, second = ops.list_dead_letters()
    reader.replaces = {"drop 42": f"drop {second.offset}", "42": str(first.offset)}


def an_upload(page: str, name: str) -> Callable[[Reader], None]:
    """The first workflow of the page is uploaded as one of that name."""

    def upload(reader: Reader) -> None:
        Path("workflow.py").write_text(blocks(page, "python")[0].code)
        reader.types(f"aiflow workflow upload workflow.py && aiflow workflow show {name}")

    return upload


def two_servers_started(reader: Reader) -> None:
    reader.types("notification db init && notification server start -d")
    reader.types("aiflow config init && aiflow db init && aiflow server start -d")


def homes_of_0_4(reader: Reader) -> None:
    """As 0.4 leaves them: its settings with what they were by default, databases, an upload."""
    home, notification_home = (Path(os.environ[name]) for name in HOMES)
    home.mkdir()
    notification_home.mkdir()
    (home / "aiflow_server.yaml").write_text(SERVER_OF_0_4)
    (home / "aiflow_client.yaml").write_text(CLIENT_OF_0_4)
    (notification_home / "notification_server.yaml").write_text(NOTIFICATION_OF_0_4)
    (home / "blob").mkdir()
    (home / "blob" / "nightly.zip").touch()
    for database, names in (
        (home / "aiflow.db", ("namespace", "workflow", "workflow_execution")),
        (notification_home / "ns.db", ("event_model",)),
    ):
        with closing(sqlite3.connect(database)) as connection:
            for name in names:
                connection.execute(f"CREATE TABLE {name} (name VARCHAR(256))")
    address = os.environ["AIFLOW__SERVER__NOTIFICATION_SERVER_URI"]
    reader.replaces = {"localhost:50052": address}


HOMES = ("AIFLOW_HOME", "NOTIFICATION_HOME")
SERVER_OF_0_4 = """
log_dir : ${AIFLOW_HOME}/logs
rpc_port: 50051
internal_rpc_port: 50000
rest_port: 8000
metadata_backend_uri: sqlite:///{{AIFLOW_HOME}}/aiflow.db
history_retention: 30d
state_backend_uri: sqlite:///{{AIFLOW_HOME}}/aiflow.db
sql_alchemy_pool_enabled: True
sql_alchemy_pool_size: 5
sql_alchemy_max_overflow: 10
notification_server_uri: 127.0.0.1:50052
task_executor: Local
task_executor_heartbeat_check_interval: 10
task_heartbeat_timeout: 60
task_heartbeat_interval: 10
local_executor_parallelism: 10
k8s_executor_config:
  pod_template_file:
  image_repository:
  image_tag:
  namespace:
  in_cluster: False
  kube_config_file:
"""
CLIENT_OF_0_4 = """
server_address: localhost:50051
blob_manager:
  blob_manager_class: ai_flow.blob_manager.impl.local_blob_manager.LocalBlobManager
  blob_manager_config:
    root_directory: ${AIFLOW_HOME}/blob
"""
NOTIFICATION_OF_0_4 = """
server_port: 50052
db_uri: sqlite:///{{NOTIFICATION_HOME}}/ns.db
enable_ha: False
ha_ttl_ms: 10000
advertised_uri: 127.0.0.1:50052
wait_for_server_started_timeout: 5.0
"""


def two_notification_servers(reader: Reader) -> None:
    address = os.environ["AIFLOW__SERVER__NOTIFICATION_SERVER_URI"]
    reader.replaces = {"host1:50052": address, "host2:50052": address}


SCENES = {
    "how-to/dead-letters.md": Scene(served=True, before=a_dead_letter),
    "how-to/event-algebra.md": Scene(
        served=True, before=an_upload("how-to/event-algebra.md", "hourly")
    ),
    "how-to/from-0.4.md": Scene(before=homes_of_0_4),
    "how-to/from-airflow.md": Scene(before=two_servers_started),
    "how-to/observe.md": Scene(served=True),
    "how-to/retention.md": Scene(served=True),
    "how-to/several-servers.md": Scene(served=True, before=two_notification_servers),
    "how-to/test-a-workflow.md": Scene(
        served=True, before=an_upload("how-to/test-a-workflow.md", "training")
    ),
    "how-to/two-servers.md": Scene(before=a_workflow),
    "index.md": Scene(before=given(train=print, validate=print)),
    "reference/event-algebra.md": Scene(before=inside_a_workflow),
    "reference/events.md": Scene(served=True),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The home of a reader who has a checkout in which AIFlow is installed, and free ports."""
    rpc, notification = free_port(), free_port()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, line in SHIMS.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (programs / name).chmod(0o755)
    for variable, value in {
        "HOME": tmp_path,
        "PATH": f"{programs}:{PROGRAMS}:{os.environ['PATH']}",
        "AIFLOW_HOME": tmp_path / "aiflow",
        "NOTIFICATION_HOME": tmp_path / "notification_service",
        "MPLCONFIGDIR": tmp_path / "matplotlib",
        "AIFLOW__SERVER__RPC_PORT": rpc,
        "AIFLOW__CLIENT__SERVER_ADDRESS": f"127.0.0.1:{rpc}",
        "AIFLOW__NOTIFICATION__SERVER_PORT": notification,
        "AIFLOW__SERVER__NOTIFICATION_SERVER_URI": f"127.0.0.1:{notification}",
    }.items():
        monkeypatch.setenv(variable, str(value))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    yield tmp_path
    kill(processes_below(tmp_path))


# The environment is there already.
SHIMS = {
    "pip": '[ "$*" = "install uv" ]',
    "uv": '[ "$1 $2" = "run --all-packages" ] && shift 2 && exec "$@"',
}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", [p for p in map(name_of, PAGES) if executed_here(p)])
def test_a_page_does_what_it_says(page: str, folder: Path) -> None:
    scene = SCENES.get(page, Scene())
    with ExitStack() as stack:
        reader = Reader(stack)
        if scene.served:
            stack.enter_context(served(folder))
        scene.before(reader)
        for block in executed_here(page):
            reader.takes(block)
