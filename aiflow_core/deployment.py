"""What a part of a running deployment is told about the whole."""

import contextlib
import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiflow_core.clock import Clock
from aiflow_core.model.execution import AttemptKey
from aiflow_core.model.workflow import check_name

DEPLOYMENT_VARIABLE = "AIFLOW_DEPLOYMENT"
"""The environment variable that tells this deployment from others, see `deployment_id`."""

_ID_FILE = "deployment_id"


class Silence:
    """Hooks to which nobody listens."""

    heard: frozenset[str] = frozenset()

    def __getattr__(self, moment: str) -> Any:
        return lambda **facts: {}


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Handed to each plugin at `start`.

    Attributes:
        home: directory for the deployment's own files (`AIFLOW_HOME`).
        log_dir: directory under which task logs are written.
        notification_uri: `host:port` at which tasks reach the notification server.
        server_address: `host:port` at which tasks reach the AIFlow server; empty: where the
            settings of clients say.
        clock: the time.
        hooks: `hooks.<moment>(**facts)` tells every observer, see `aiflow_core.hookspecs`, and
            waits for none; the moments `before_...` ask, wait a limited time, and raise `Veto`.
            `hooks.heard` are the moments to which anybody listens.
    """

    home: Path
    log_dir: Path
    notification_uri: str
    server_address: str = ""
    clock: Clock = field(default_factory=Clock)
    hooks: Any = field(default_factory=Silence)


def deployment_id(home: Path) -> str:
    """What tells this deployment from others that use the same systems: the environment variable
    `AIFLOW_DEPLOYMENT`, or else what was made up for this home when it was first asked for."""
    given = os.environ.get(DEPLOYMENT_VARIABLE)
    if given:
        return given
    file = home / _ID_FILE
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f".{uuid.uuid4().hex}"
        draft.write_text(uuid.uuid4().hex)
        # Of several that begin at once, one is first; nobody reads half a name.
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(draft)
        draft.unlink()
    return file.read_text()


def forget_deployment(home: Path) -> None:
    """Let what follows in this home be another deployment, which counts from the beginning."""
    (home / _ID_FILE).unlink(missing_ok=True)


def log_file(log_dir: Path, workflow_name: str, key: AttemptKey) -> Path:
    """`<log_dir>/<workflow>/<execution>/<task>/<sequence number>[.<try number>].log`; the first
    attempt's file has no try number."""
    check_name("workflow", workflow_name)
    check_name("task", key.task_name)
    attempt = f".{key.try_number}" if key.try_number > 1 else ""
    name = f"{key.sequence_number}{attempt}.log"
    return log_dir / workflow_name / str(key.workflow_execution_id) / key.task_name / name
