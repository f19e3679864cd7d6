"""The keys of `aiflow_server.yaml`, `aiflow_client.yaml` and `project.yaml`.

Keys that are retired stand at the end of their class: they were keys of AIFlow 0.4.
"""

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from aiflow_core.config.settings import Driver, Port, Seconds, Settings, key
from aiflow_core.model.timing import check_retention


class ServerSettings(Settings, frozen=True, kw_only=True):
    """`aiflow_server.yaml`."""

    # What the manual calls it on its page on MySQL, and what it calls it in the table of keys.
    aliases: ClassVar[dict[str, str]] = {
        "db_uri": "metadata_backend_uri",
        "meta-data_backend_uri": "metadata_backend_uri",
    }

    log_dir: Annotated[str, key("directory of the logs: of tasks, and of the server")] = (
        "${AIFLOW_HOME}/logs"
    )
    rpc_host: Annotated[
        str, key("address at which it listens; other machines reach it at `0.0.0.0`")
    ] = "127.0.0.1"
    rpc_port: Annotated[Port, key("port at which the server listens")] = 50051
    metadata_backend_uri: Annotated[
        str,
        key(
            "database of the scheduler: `sqlite:////path`, `postgresql://user@host/name` or "
            "`mysql://user@host/name`; `db_uri` is another name for it"
        ),
    ] = "sqlite:///${AIFLOW_HOME}/aiflow.db"
    sql_alchemy_pool_enabled: Annotated[
        bool,
        key(
            "whether connections to the database are kept open; without, each transaction opens "
            "one of its own. SQLite needs no pool"
        ),
    ] = True
    sql_alchemy_pool_size: Annotated[
        int, msgspec.Meta(ge=0), key("how many connections are kept open; 0 is no limit")
    ] = 5
    sql_alchemy_max_overflow: Annotated[
        int, msgspec.Meta(ge=-1), key("how many more may be opened; -1 is no limit")
    ] = 10
    history_retention: Annotated[
        str,
        key(
            "how long executions that have ended, their logs, events, dead letters and uploads "
            "that nothing needs any more are kept: a number with `s`, `m`, `h`, `d` or `w` behind "
            "it, or `forever`",
            check=check_retention,
        ),
    ] = "30d"
    notification_server_uri: Annotated[
        str,
        key(
            "the notification server, as tasks reach it, too; several are separated by commas",
        ),
    ] = "127.0.0.1:50052"
    enable_ha: Annotated[
        bool,
        key(
            "whether other AIFlow servers use the same database: one schedules, the others stand "
            "by, and one of them goes on when it dies"
        ),
    ] = False
    ha_ttl_ms: Annotated[
        int,
        msgspec.Meta(ge=100),
        key(
            "milliseconds after which the server that schedules counts as dead when it was not "
            "heard of"
        ),
    ] = 10_000
    task_executor: Annotated[
        str, key("what runs the tasks: local, kubernetes, or another installed executor")
    ] = "Local"
    task_executor_heartbeat_check_interval: Annotated[
        Seconds,
        key(
            "seconds between two looks for servers whose tasks were not heard of; for this and "
            "the next two see `enable_ha`"
        ),
    ] = 10
    task_heartbeat_timeout: Annotated[
        Seconds,
        key(
            "seconds after which the tasks of a server that was not heard of count as lost; the "
            "server ends them itself after two thirds of that"
        ),
    ] = 60
    task_heartbeat_interval: Annotated[
        Seconds,
        key(
            "seconds between two signs of life of a server for its tasks; a third of the time-out "
            "at most"
        ),
    ] = 10
    local_executor_parallelism: Annotated[
        int, msgspec.Meta(gt=0), key("how many tasks the local executor runs at once")
    ] = 10
    k8s_executor_config: Annotated[
        dict[str, Any],
        key(
            "settings of the kubernetes executor",
            example={
                "pod_template_file": None,
                "image_repository": None,
                "image_tag": None,
                "namespace": None,
                "in_cluster": False,
                "kube_config_file": None,
            },
        ),
    ] = {}

    state_backend_uri: Annotated[
        str,
        key(
            "database of the states of conditions",
            retired="these states change in one transaction with the statuses of tasks, and stand "
            "in `metadata_backend_uri`",
        ),
    ] = "sqlite:///${AIFLOW_HOME}/aiflow.db"
    internal_rpc_port: Annotated[
        Port,
        key(
            "port for the heartbeats of tasks",
            retired="the server sees by itself when a task ends, and needs no port for it",
        ),
    ] = 50000
    rest_port: Annotated[
        Port,
        key("port of the REST server", retired="all clients use `rpc_port`"),
    ] = 8000
    db_type: Annotated[
        str, key("kind of the database", retired="`metadata_backend_uri` says it")
    ] = ""
    server_worker_number: Annotated[
        int, key("threads that schedule", retired="one thread decides, and waits for nothing")
    ] = 5
    server_worker_queue_size: Annotated[
        int,
        key("events that wait for each of them", retired="how many wait follows from their size"),
    ] = 20
    server_start_timeout: Annotated[
        float,
        key(
            "seconds that the start may take",
            retired="`aiflow server start` returns when the server is ready, or says why it is not",
        ),
    ] = 60
    local_registry_path: Annotated[
        str,
        key(
            "directory of the process ids of tasks",
            retired="each attempt has a run directory in `${AIFLOW_HOME}/run`",
        ),
    ] = "${AIFLOW_HOME}/.local_registry"


class ClientSettings(Settings, frozen=True, kw_only=True):
    """`aiflow_client.yaml`."""

    aliases: ClassVar[dict[str, str]] = {
        "server_uris": "server_address",
        # As the manual has them in its table; in its example they stand inside `blob_manager`.
        "blob_manager_class": "blob_manager.type",
        "blob_manager_config": "blob_manager.config",
    }

    server_address: Annotated[
        str,
        key(
            "the AIFlow server; several are separated by commas. `server_uris` is another name "
            "for it"
        ),
    ] = "localhost:50051"
    blob_manager: Annotated[
        Driver,
        key(
            "where the code of workflows is kept; the same for clients, server and tasks",
            example={
                "blob_manager_class": "local",
                "blob_manager_config": {"root_directory": "${AIFLOW_HOME}/blob"},
            },
        ),
    ] = Driver(type="local", config={"root_directory": "${AIFLOW_HOME}/blob"})


class ObserverSettings(Settings, frozen=True, kw_only=True):
    """How observers are treated, see `aiflow_core.hookspecs`."""

    queue: Annotated[
        int,
        msgspec.Meta(gt=0),
        key("calls that may wait for one observer; what comes then is dropped"),
    ] = 10_000
    time_limit: Annotated[
        Seconds,
        key(
            "seconds after which an answer is not waited for any more, and after which who does "
            "not return from a call is left out"
        ),
    ] = 10.0
    unanswered: Annotated[
        Literal["consent", "refuse"],
        key("what it means when an observer that is asked gives no answer"),
    ] = "consent"
    figures_interval: Annotated[Seconds, key("seconds from one telling of figures to the next")] = (
        5.0
    )


class PluginSettings(Settings, frozen=True, kw_only=True):
    """Which plugins may be used, see `aiflow_core.catalog.matches` for what may stand there."""

    allow: Annotated[list[str], key("the plugins that may be used; empty: all")] = []
    deny: Annotated[list[str], key("those of them that may not")] = []


class ProjectSettings(Settings, frozen=True, kw_only=True):
    """`project.yaml`: which plugins a deployment uses and how; those that it does not name are
    implied by the other files. Observers stand there by name, with their settings."""

    aliases: ClassVar[dict[str, str]] = {"blob_manager": "blob"}

    event_store: Annotated[Driver | None, key("keeps the log")] = None
    scheduler: Annotated[Driver | None, key("decides what runs")] = None
    executor: Annotated[Driver | None, key("runs the tasks")] = None
    blob: Annotated[Driver | None, key("keeps the code of workflows")] = None
    hooks: Annotated[
        dict[str, dict[str, Any] | None], key("observers by name, with their settings")
    ] = {}
    observers: Annotated[ObserverSettings, key("how observers are treated")] = ObserverSettings()
    plugins: Annotated[PluginSettings, key("which plugins may be used")] = PluginSettings()
