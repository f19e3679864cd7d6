"""The composition root: from settings to plugins that run together.

Nothing else chooses plugins. There are three ways to run:

* `App.serve`: the AIFlow server, beside a notification server;
* `App.embedded`: everything in this process, for `aiflow run`;
* `App.client`: only a client of an AIFlow server, for the command line and `aiflow_core.ops`.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from aiflow_core import config
from aiflow_core.clock import Clock, to_ms
from aiflow_core.config import ClientSettings, Driver, ProjectSettings, ServerSettings
from aiflow_core.daemon import Daemon, held
from aiflow_core.deployment import DEPLOYMENT_VARIABLE, Deployment, deployment_id
from aiflow_core.errors import ConflictError, UsageError
from aiflow_core.hooks import Hooks
from aiflow_core.plugins import driver_class, make
from aiflow_core.remote import server
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.endpoint import Endpoint
from aiflow_core.specs.event_store import EventStore
from aiflow_core.specs.executor import Executor
from aiflow_core.specs.scheduler import Scheduler
from aiflow_core.specs.simulation import Simulated, Simulation

log = logging.getLogger(__name__)

INIT_COMMAND = "aiflow db init"


@runtime_checkable
class KeepsTables(Protocol):
    """What a plugin that keeps tables in a database offers beside its contract."""

    def initialize(self, revision: str = "head") -> None:
        """Make the tables, or bring them up to a revision."""

    def downgrade(self, revision: str) -> None:
        """Take the tables back to a revision; `base` removes them."""

    def revision(self) -> str | None:
        """The revision of the tables; None when there are none."""

    def sql(self, *revisions: str) -> str:
        """The SQL that would take the tables to each of the revisions, one after the other."""

    def check(self, init_command: str) -> None:
        """Raise `ConfigError` naming `init_command` unless the tables are up to date."""

    def close(self) -> None:
        """Close the database."""


class Takes(Protocol):
    """A table: its name, how many rows it has, and how many bytes it takes."""

    @property
    def table(self) -> str: ...

    @property
    def rows(self) -> int: ...

    @property
    def bytes(self) -> int: ...


@runtime_checkable
class ShowsUsage(Protocol):
    """What a plugin that keeps tables may offer besides."""

    def usage(self) -> Sequence[Takes]:
        """How much its tables take."""


@runtime_checkable
class KeepsFilesHere(Protocol):
    """What a blob manager offers that keeps files on this machine."""

    @property
    def directory(self) -> Path:
        """Where they are."""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """A deployment inside this process."""

    events: EventStore
    scheduler: Scheduler
    executor: Executor
    blobs: BlobManager
    deployment: Deployment


@dataclass(frozen=True, kw_only=True)
class App:
    """A deployment as the settings describe it.

    Attributes:
        notices: what is to be said of the settings before they are used.
    """

    home: Path
    server: ServerSettings
    clients: ClientSettings
    project: ProjectSettings = field(default_factory=ProjectSettings)
    clock: Clock = field(default_factory=Clock)
    notices: tuple[str, ...] = ()

    @classmethod
    def configured(cls) -> "App":
        """As the files of `AIFLOW_HOME`, `project.yaml` and the environment say."""
        server, clients = config.read_server(), config.read_client()
        return cls(
            home=config.home(),
            server=server.settings,
            clients=clients.settings,
            project=config.project_settings(),
            notices=(*server.notices, *clients.notices),
        )

    # --- one by one ----------------------------------------------------------------------------

    @contextmanager
    def client(self) -> Iterator[Scheduler]:
        """The scheduler of the running AIFlow server."""
        with server(self.clients) as scheduler:
            yield scheduler

    def drivers(self) -> dict[str, Driver]:
        """The plugin that does each job in the server, by kind, and its settings: as `project.yaml`
        says, and else as the other files imply."""
        return {
            "event_store": self.project.event_store or self._event_store(),
            "scheduler": self.project.scheduler or self._scheduler(),
            "executor": self.project.executor or self._executor(),
            "blob_manager": self.project.blob or self.clients.blob_manager,
        }

    def blob_manager(self) -> BlobManager:
        """Where the code of workflows is kept."""
        blobs: BlobManager = self._made("blob_manager")
        return blobs

    def scheduler(self) -> Scheduler:
        """The scheduler of the server, not started."""
        scheduler: Scheduler = self._made("scheduler")
        return scheduler

    @contextmanager
    def tables(self) -> Iterator[KeepsTables]:
        """The tables of the server's scheduler; `UsageError` when it keeps none of its own."""
        scheduler = self.scheduler()
        if not isinstance(scheduler, KeepsTables):
            raise UsageError(f"The scheduler {type(scheduler).__name__} keeps no tables.")
        with closing(scheduler):
            yield scheduler

    @contextmanager
    def event_log(self, server_uri: str = "") -> Iterator[EventStore]:
        """The event log of the deployment, or of the notification server at that address."""
        driver = self._event_store(server_uri) if server_uri else self.drivers()["event_store"]
        events: EventStore = make("aiflow.event_store", driver.type, driver.config)
        with closing(events):
            yield events

    def daemon(self) -> Daemon:
        """The AIFlow server as a process."""
        return Daemon(
            name="AIFlow server",
            pid_file=self.home / "aiflow_server.pid",
            command="aiflow server",
            clock=self.clock,
        )

    # --- all together --------------------------------------------------------------------------

    def hooks(self, stack: ExitStack) -> Hooks:
        """What tells the installed observers until the stack unwinds; `PluginError` when settings
        ask for one that cannot be had."""
        hooks = Hooks(self.project.observers, self.clock)
        stack.callback(hooks.close)
        hooks.register_installed(self.project.hooks)
        return hooks

    def serve(self, stack: ExitStack) -> str:
        """Run the AIFlow server on `stack`; returns the address at which it answers."""
        stack.enter_context(_told_to_children(self.home))
        for notice in self.notices:
            log.warning("%s", notice)
        hooks = self.hooks(stack)
        with _told(stack, hooks, "aiflow") as parts:
            events: EventStore = self._made("event_store")
            parts.callback(events.close)
            scheduler = self.scheduler()
            if isinstance(scheduler, KeepsTables):
                parts.callback(scheduler.close)  # also when what follows fails before its start
                scheduler.check(INIT_COMMAND)
            deployment = self._deployment(
                self.home, Path(self.server.log_dir), self.server.notification_server_uri, hooks
            )
            executor: Executor = self._made("executor")
            scheduler.start(parts, deployment, events, executor, self.blob_manager())
            endpoint: Endpoint = make(
                "aiflow.endpoint",
                "rpc",
                {"host": self.server.rpc_host, "port": self.server.rpc_port},
            )
            address = endpoint.start(parts, events, scheduler)
        hooks.server_started(name="aiflow", address=address)
        return address

    def embedded(self, stack: ExitStack) -> Embedded:
        """Run everything in this process on `stack`, with a database of its own.

        Its files are under `<home>/embedded`: the servers of the same home count their events and
        executions on their own, and neither may take the other's for its own. Events and metadata
        are in one database, so that a step and what it publishes are one transaction.
        `ConflictError` when another process is embedded there. Tasks that still run are stopped
        with the stack.
        """
        home = self.home / "embedded"
        conflict = ConflictError(
            f"Another `aiflow run` is at work in {home}.",
            next_step="Wait for it, or set AIFLOW_HOME to another directory.",
        )
        stack.enter_context(held(home / "aiflow_run.pid", conflict, self.clock))
        stack.enter_context(_told_to_children(home))
        database = f"sqlite:///{home / 'deployment.db'}"
        events: EventStore = make("aiflow.event_store", "sql", {"uri": database})
        stack.callback(events.close)
        if isinstance(events, KeepsTables):
            events.initialize()
        hooks = self.hooks(stack)
        with _told(stack, hooks, "notification") as parts:
            notification: Endpoint = make("aiflow.endpoint", "notification", {"port": 0})
            notification_uri = notification.start(parts, events, None)
        hooks.server_started(name="notification", address=notification_uri)
        scheduler: Scheduler = make(
            "aiflow.scheduler",
            "event",
            {"uri": database, "history_retention": self.server.history_retention},
        )
        if isinstance(scheduler, KeepsTables):
            stack.callback(scheduler.close)
            scheduler.initialize()
        executor: Executor = make(
            "aiflow.executor",
            "local",
            {"parallelism": self.server.local_executor_parallelism, "orphans": "stop"},
        )
        blobs = self.blob_manager()
        # Before the scheduler starts: nobody but the tasks that it will start knows the address.
        address = make("aiflow.endpoint", "rpc", {"port": 0}).start(stack, events, scheduler)
        deployment = self._deployment(home, home / "logs", notification_uri, hooks, address)
        scheduler.start(stack, deployment, events, executor, blobs)
        return Embedded(
            events=events,
            scheduler=scheduler,
            executor=executor,
            blobs=blobs,
            deployment=deployment,
        )

    def _deployment(
        self,
        home: Path,
        log_dir: Path,
        notification_uri: str,
        hooks: Hooks,
        server_address: str = "",
    ) -> Deployment:
        return Deployment(
            home=home,
            log_dir=log_dir,
            notification_uri=notification_uri,
            server_address=server_address,
            clock=self.clock,
            hooks=hooks,
        )

    def _made(self, kind: str) -> Any:
        driver = self.drivers()[kind]
        return make(f"aiflow.{kind}", driver.type, driver.config)

    def _event_store(self, server_uri: str = "") -> Driver:
        address = server_uri or self.server.notification_server_uri
        return Driver(type="notification-server", config={"server_uri": address})

    def _scheduler(self) -> Driver:
        return Driver(
            type="event",
            config={
                "uri": self.server.metadata_backend_uri,
                "pool_enabled": self.server.sql_alchemy_pool_enabled,
                "pool_size": self.server.sql_alchemy_pool_size,
                "max_overflow": self.server.sql_alchemy_max_overflow,
                "ha": self.server.enable_ha,
                "ha_ttl": self.server.ha_ttl_ms / 1000,
                "heartbeat_timeout": self.server.task_heartbeat_timeout,
                "heartbeat_interval": self.server.task_heartbeat_interval,
                "heartbeat_check_interval": self.server.task_executor_heartbeat_check_interval,
                "history_retention": self.server.history_retention,
            },
        )

    def _executor(self) -> Driver:
        name = self.server.task_executor
        match name.lower():
            case "local":
                settings = {"parallelism": self.server.local_executor_parallelism}
                return Driver(type="local", config=settings)
            case "kubernetes":
                given = self.server.k8s_executor_config.items()
                return Driver(
                    type="kubernetes", config={key: v for key, v in given if v is not None}
                )
            case _:
                return Driver(type=name)


def simulation(start: datetime, scheduler: str = "event") -> Simulation:
    """The decisions of the scheduler of that name, to be tried out from `start` on.

    `UsageError` when that scheduler cannot be simulated.
    """
    cls = driver_class("aiflow.scheduler", scheduler)
    if not issubclass(cls, Simulated):
        raise UsageError(f"The scheduler {scheduler!r} cannot be simulated.")
    return cls.simulation(to_ms(start))


@contextmanager
def _told_to_children(home: Path) -> Iterator[None]:
    """Let the processes that are started inside the block find the `project.yaml` of this one,
    wherever they work, and know to which deployment they belong."""
    told = {
        config.PROJECT_VARIABLE: str(config.project_file()),
        DEPLOYMENT_VARIABLE: deployment_id(home),
    }
    before = {name: os.environ.get(name) for name in told}
    os.environ.update(told)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _told(stack: ExitStack, hooks: Hooks, server: str) -> Iterator[ExitStack]:
    """The stack for the parts of a server that starts within the block. Once it has started, it
    unwinds with `stack`, and then observers are told that the server has stopped."""
    with ExitStack() as parts:
        yield parts
        stack.callback(lambda: hooks.server_stopped(name=server))
        stack.push(parts.pop_all())
