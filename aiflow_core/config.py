"""Settings: YAML files, read into checked structs, with the environment on top.

A plugin with a settings file of its own (the notification server has one) derives a struct from
`Settings` and reads it with `load`.

In strings, `${NAME}`, `{NAME}` and `{{NAME}}` stand for the variables that `load` is given,
`${NAME}` and `$NAME` also for environment variables, and a leading `~` for the user's home. An
unknown name is left as it is.

An environment variable `AIFLOW__<SECTION>__<KEY>` overrides the key of a file, and
`AIFLOW__<SECTION>__<KEY>__<INNER KEY>` a key inside it; the value is read as if it stood in the
file. Example: `AIFLOW__SERVER__RPC_PORT=50061`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
import yaml

from aiflow_core.errors import ConfigError, did_you_mean

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
"""A TCP port; 0 is any free one."""

Seconds = Annotated[int, msgspec.Meta(gt=0)]

OVERRIDE_PREFIX = "AIFLOW__"

PROJECT_VARIABLE = "AIFLOW_PROJECT"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings. Every field has a default; an empty value in a file means it.

    `aliases` are further names under which a file may set a field.
    """

    aliases: ClassVar[dict[str, str]] = {}


class Driver(Settings, frozen=True, kw_only=True):
    """Which plugin does a job (entry-point name or dotted class), and its own settings."""

    aliases: ClassVar[dict[str, str]] = {
        "blob_manager_class": "type",
        "blob_manager_config": "config",
        "scheduler_class_name": "type",
        "scheduler_config": "config",
    }

    type: str
    config: dict[str, Any] = {}


class ServerSettings(Settings, frozen=True, kw_only=True):
    """`aiflow_server.yaml`; `SERVER_FILE` says what each key is for."""

    # The manual's page on MySQL calls it so.
    aliases: ClassVar[dict[str, str]] = {"db_uri": "metadata_backend_uri"}

    log_dir: str = "${AIFLOW_HOME}/logs"
    rpc_host: str = "127.0.0.1"
    rpc_port: Port = 50051
    metadata_backend_uri: str = "sqlite:///${AIFLOW_HOME}/aiflow.db"
    sql_alchemy_pool_size: Annotated[int, msgspec.Meta(ge=0)] = 5
    sql_alchemy_max_overflow: Annotated[int, msgspec.Meta(ge=-1)] = 10
    notification_server_uri: str = "127.0.0.1:50052"
    enable_ha: bool = False
    ha_ttl_ms: Annotated[int, msgspec.Meta(ge=100)] = 10_000
    task_executor: str = "Local"
    local_executor_parallelism: Annotated[int, msgspec.Meta(gt=0)] = 10
    k8s_executor_config: dict[str, Any] = {}
    # What follows may stand in a file of 0.4 and has no effect: there is nothing left to set.
    internal_rpc_port: Port = 50000
    rest_port: Port = 8000
    state_backend_uri: str = "sqlite:///${AIFLOW_HOME}/aiflow.db"
    history_retention: str = "30d"
    sql_alchemy_pool_enabled: bool = True
    task_executor_heartbeat_check_interval: Seconds = 10
    task_heartbeat_timeout: Seconds = 60
    task_heartbeat_interval: Seconds = 10
    db_type: str = ""


class ClientSettings(Settings, frozen=True, kw_only=True):
    """`aiflow_client.yaml`; `CLIENT_FILE` says what each key is for."""

    aliases: ClassVar[dict[str, str]] = {"server_uris": "server_address"}

    server_address: str = "localhost:50051"
    blob_manager: Driver = Driver(type="local", config={"root_directory": "${AIFLOW_HOME}/blob"})


class PluginSettings(Settings, frozen=True, kw_only=True):
    """Which plugins may be used: those that `allow` names, all when it is empty, and of these none
    that `deny` names. See `aiflow_core.catalog.matches` for what may stand there."""

    allow: list[str] = []
    deny: list[str] = []


class ObserverSettings(Settings, frozen=True, kw_only=True):
    """How observers are treated, see `aiflow_core.hookspecs`.

    Attributes:
        queue: calls that may wait for one observer; what comes then is dropped.
        time_limit: seconds after which an answer is not waited for any more, and after which who
            does not return from a call is left out.
        unanswered: what it means when an observer that is asked gives no answer.
        figures_interval: seconds from one telling of figures to the next.
    """

    queue: Annotated[int, msgspec.Meta(gt=0)] = 10_000
    time_limit: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    unanswered: Literal["consent", "refuse"] = "consent"
    figures_interval: Annotated[float, msgspec.Meta(gt=0)] = 5.0


class ProjectSettings(Settings, frozen=True, kw_only=True):
    """`project.yaml`: which plugins a deployment uses and how; those that it does not name are
    implied by the other files. Observers stand there by name, with their settings."""

    aliases: ClassVar[dict[str, str]] = {"blob_manager": "blob"}

    event_store: Driver | None = None
    scheduler: Driver | None = None
    executor: Driver | None = None
    blob: Driver | None = None
    plugins: PluginSettings = PluginSettings()
    hooks: dict[str, dict[str, Any] | None] = {}
    observers: ObserverSettings = ObserverSettings()


S = TypeVar("S", bound=Settings)


def home(variable: str = "AIFLOW_HOME", default: str = "~/aiflow") -> Path:
    """The directory of a deployment's own files: absolute, and not necessarily there yet."""
    return Path(os.path.expandvars(os.environ.get(variable) or default)).expanduser().absolute()


def server_settings() -> ServerSettings:
    """The settings of the server."""
    return load(
        home() / "aiflow_server.yaml", ServerSettings, section="SERVER", variables=_variables()
    )


def client_settings() -> ClientSettings:
    """The settings of clients: the command line, `aiflow_core.ops`, and where code is kept."""
    return load(
        home() / "aiflow_client.yaml", ClientSettings, section="CLIENT", variables=_variables()
    )


def project_settings() -> ProjectSettings:
    """The settings that choose plugins, for clients, servers and tasks alike."""
    return load(project_file(), ProjectSettings, section="PROJECT", variables=_variables())


def project_file() -> Path:
    """The file that `AIFLOW_PROJECT` names, or the `project.yaml` of the working directory, or else
    that of `AIFLOW_HOME`; it need not exist."""
    named = os.environ.get(PROJECT_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    here = Path("project.yaml").absolute()
    return here if here.exists() else home() / "project.yaml"


def load(path: Path, settings: type[S], *, section: str, variables: Mapping[str, str]) -> S:
    """The settings in the file at `path`, overridden by the environment.

    A file that does not exist is an empty one. `ConfigError` names the file or the environment
    variable, and the key: for what is no YAML, for unknown keys and for values of the wrong type.

    Args:
        section: the part of the names of environment variables that stands for this file.
        variables: what may be substituted in strings, by name.
    """
    overrides = _overrides(section)
    origins = {keys[0]: name for name, keys, _ in overrides}
    data = _read(path)
    for _, keys, value in overrides:
        _set(data, keys, value)
    filled = _fill(data, settings, variables, lambda key: origins.get(key, str(path)))
    try:
        return msgspec.convert(filled, settings)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at ")
        key = place.strip("`").removeprefix("$").lstrip(".")
        origin = origins.get(re.split(r"[.\[]", key)[0], str(path))
        raise ConfigError(f"{origin}: {key or 'the file'}: {_lower_first(problem)}.") from error


def _variables() -> dict[str, str]:
    return {"AIFLOW_HOME": str(home())}


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{path} is not YAML: {' '.join(str(error).split())}.",
            next_step="A value that begins with a brace or holds ': ' is put in quotes.",
        ) from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} does not consist of `key: value` lines.")
    return data


def _overrides(section: str) -> list[tuple[str, list[str], Any]]:
    """Name, keys and value of each environment variable that overrides something of a section."""
    prefix = f"{OVERRIDE_PREFIX}{section}__"
    return [
        (name, name.removeprefix(prefix).lower().split("__"), _scalar(text))
        for name, text in sorted(os.environ.items())
        if name.startswith(prefix)
    ]


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str | int | float | bool | list) else text


def _set(data: dict[str, Any], keys: list[str], value: Any) -> None:
    *outer, last = keys
    for key in outer:
        inner = data.get(key)
        data[key] = dict(inner) if isinstance(inner, dict) else {}
        data = data[key]
    data[last] = value


def _fill(
    data: dict[str, Any], settings: type[Settings], variables: Mapping[str, str], origin: Any
) -> dict[str, Any]:
    """The data with its aliases resolved, its defaults filled in, and its strings expanded."""
    fields = {field.name: field for field in msgspec.structs.fields(settings)}
    filled: dict[str, Any] = {}
    for written, value in data.items():
        name = settings.aliases.get(written, written)
        if name not in fields:
            raise ConfigError(
                f"{origin(written)}: there is no setting {written!r}.",
                next_step=did_you_mean(str(written), list(fields)),
            )
        if value is None:
            continue
        inner = _settings_in(fields[name].type)
        if inner is not None and isinstance(value, dict):
            filled[name] = _fill(value, inner, variables, lambda _, key=written: origin(key))
        else:
            filled[name] = _expand(value, variables)
    for name, field in fields.items():
        if name not in filled and not field.required:
            default = (
                field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            )
            filled[name] = _expand(msgspec.to_builtins(default), variables)
    return filled


def _settings_in(annotation: Any) -> type[Settings] | None:
    """The settings class in an annotation such as `Driver` or `Driver | None`."""
    for choice in getattr(annotation, "__args__", (annotation,)):
        if isinstance(choice, type) and issubclass(choice, Settings):
            return choice
    return None


def _expand(value: Any, variables: Mapping[str, str]) -> Any:
    match value:
        case str():
            for name, text in variables.items():
                for form in (f"${{{name}}}", f"{{{{{name}}}}}", f"{{{name}}}"):
                    value = value.replace(form, text)
            value = os.path.expandvars(value)
            # Also behind the slashes of a database URI.
            return re.sub(r"(^|:///)~(?=/|$)", lambda m: m[1] + str(Path.home()), value)
        case dict():
            return {key: _expand(inner, variables) for key, inner in value.items()}
        case list():
            return [_expand(inner, variables) for inner in value]
        case _:
            return value


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


SERVER_FILE = """\
# Settings of the AIFlow server. ${AIFLOW_HOME} is the directory of this file.

# directory of the task logs
log_dir: ${AIFLOW_HOME}/logs

# address at which the server listens; others than this machine reach it at 0.0.0.0
rpc_host: 127.0.0.1
rpc_port: 50051

# database of the scheduler: sqlite:////path, postgresql://user@host/name or mysql://user@host/name
metadata_backend_uri: sqlite:///${AIFLOW_HOME}/aiflow.db

# connections to the database that are kept open (0: no limit), and how many more may be opened
# (-1: no limit); SQLite needs neither
sql_alchemy_pool_size: 5
sql_alchemy_max_overflow: 10

# address of the notification server, as tasks reach it, too; of several, with commas between
notification_server_uri: 127.0.0.1:50052

# whether other AIFlow servers use the same database: one schedules, the others stand by, and one of
# them goes on when it was not heard of for so many milliseconds
enable_ha: False
ha_ttl_ms: 10000

# what runs the tasks: local, kubernetes, or another installed executor
task_executor: Local

# how many tasks the local executor runs at once
local_executor_parallelism: 10

# settings of the kubernetes executor
k8s_executor_config:
  pod_template_file:
  image_repository:
  image_tag:
  namespace:
  in_cluster: False
  kube_config_file:
"""

CLIENT_FILE = """\
# Settings of AIFlow's clients. ${AIFLOW_HOME} is the directory of this file.

# address of the AIFlow server; of several, with commas between
server_address: localhost:50051

# where the code of workflows is kept; clients, server and tasks need the same
blob_manager:
  blob_manager_class: local
  blob_manager_config:
    root_directory: ${AIFLOW_HOME}/blob
"""
