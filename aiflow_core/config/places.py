"""Where the settings of a deployment stand, and what they are."""

import os
from pathlib import Path

from aiflow_core.config.keys import ClientSettings, ProjectSettings, ServerSettings
from aiflow_core.config.reading import Loaded, read

PROJECT_VARIABLE = "AIFLOW_PROJECT"


def home(variable: str = "AIFLOW_HOME", default: str = "~/aiflow") -> Path:
    """The directory of a deployment's own files: absolute, and not necessarily there yet."""
    return Path(os.path.expandvars(os.environ.get(variable) or default)).expanduser().absolute()


def read_server() -> Loaded[ServerSettings]:
    """The settings of the server, and where each comes from."""
    return read(
        home() / "aiflow_server.yaml", ServerSettings, section="SERVER", variables=_variables()
    )


def read_client() -> Loaded[ClientSettings]:
    """The settings of clients (the command line, `aiflow_core.ops`, and where code is kept), and
    where each comes from."""
    return read(
        home() / "aiflow_client.yaml", ClientSettings, section="CLIENT", variables=_variables()
    )


def read_project() -> Loaded[ProjectSettings]:
    """The settings that choose plugins, for clients, servers and tasks alike, and where each comes
    from."""
    return read(project_file(), ProjectSettings, section="PROJECT", variables=_variables())


def project_file() -> Path:
    """The file that `AIFLOW_PROJECT` names, or the `project.yaml` of the working directory, or else
    that of `AIFLOW_HOME`; it need not exist."""
    named = os.environ.get(PROJECT_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    here = Path("project.yaml").absolute()
    return here if here.exists() else home() / "project.yaml"


def server_settings() -> ServerSettings:
    """The settings of the server."""
    return read_server().settings


def client_settings() -> ClientSettings:
    """The settings of clients."""
    return read_client().settings


def project_settings() -> ProjectSettings:
    """The settings that choose plugins."""
    return read_project().settings


def _variables() -> dict[str, str]:
    return {"AIFLOW_HOME": str(home())}
