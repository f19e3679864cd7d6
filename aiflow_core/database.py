"""SQL databases, opened so that a commit is durable and a write transaction is alone.

For plugins that keep something in SQL; needs the extra `aiflow-core[sql]`. The core itself touches
no database.

* SQLite: WAL with `synchronous=FULL` (a commit is on disk before it returns), and every
  transaction begins with BEGIN IMMEDIATE, so that none can fail half-way for want of the lock.
* PostgreSQL and MySQL/MariaDB: READ COMMITTED, so that a row lock locks a row and not a gap; and a
  transaction in which nothing happens for seconds is ended, so that a process that was paused, or
  cut off, does not keep the others from what it has locked.
"""

import io
import logging
import os
import sqlite3
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Dialect,
    Engine,
    Select,
    String,
    column,
    create_engine,
    event,
    func,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import NullPool
from sqlalchemy.sql.functions import FunctionElement

from aiflow_core.errors import ConfigError, NoRoomError, NotFoundError, UnavailableError
from aiflow_core.model.event import Event

log = logging.getLogger(__name__)

_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
_EXTRAS = {"psycopg": "postgresql", "pymysql": "mysql", "MySQLdb": "mysqlclient"}

# Longer than any statement of a transaction is thought about, shorter than clients try.
IDLE_SECONDS = 5

# PostgreSQL: disk_full. MariaDB and MySQL: ENOSPC itself, ER_DISK_FULL, ER_RECORD_FILE_FULL.
_FULL = ("53100", 28, 1021, 1114)


class LogTransaction(ABC):
    """A transaction of a log's database, in which others write beside it.

    Attributes:
        connection: to execute statements on; who begins and ends the transaction is the log.
    """

    connection: Connection

    @abstractmethod
    def append(self, events: Sequence[Event]) -> list[Event]:
        """As `EventStore.append`, but durable only when the transaction is."""


class SharesDatabase(ABC):
    """What an event store offers beside its contract when it keeps the log in a SQL database: who
    keeps tables in the same one changes both in one transaction.

    Attributes:
        uri: of the database.
    """

    uri: str

    @abstractmethod
    def transaction(self) -> AbstractContextManager[LogTransaction]:
        """A transaction that is committed at the end of the block, and rolled back when the block
        raises. While it lasts nobody else of this process appends. What was appended reaches
        subscriptions after the commit. Errors of the database are those of `reachable`."""


class database_ms(FunctionElement[int]):
    """The database's own time in SQL, in milliseconds since the epoch: one clock for all servers
    that use it."""

    type = BigInteger()
    inherit_cache = True


@compiles(database_ms, "sqlite")
def _sqlite_ms(element: Any, compiler: Any, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"


@compiles(database_ms, "postgresql")
def _postgresql_ms(element: Any, compiler: Any, **kw: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


@compiles(database_ms, "mysql")
@compiles(database_ms, "mariadb")
def _mysql_ms(element: Any, compiler: Any, **kw: Any) -> str:
    return "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"


def same_database(one: str, other: str) -> bool:
    """Whether the two URIs name the same database."""
    return _url(one) == _url(other)


def open_engine(
    uri: str, *, pool_enabled: bool = True, pool_size: int = 5, max_overflow: int = 10
) -> Engine:
    """The engine of a database URI; `ConfigError` for a URI that is none.

    SQLite ignores the options of the pool.

    Args:
        pool_enabled: without, each use opens a connection of its own.
        pool_size: connections that are kept open (0: no limit); `max_overflow` more may be opened
            (-1: no limit).
    """
    url = _url(uri)
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url)
    pool: dict[str, Any] = {"poolclass": NullPool}
    if pool_enabled:
        pool = {"pool_size": pool_size, "max_overflow": max_overflow, "pool_pre_ping": True}
    try:
        if url.get_dialect().driver == "psycopg":
            pool["connect_args"] = _in_one_message()
        engine = create_engine(url, isolation_level="READ COMMITTED", **pool)
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(str(error.name), str(error.name))
        raise ConfigError(
            f"The driver {error.name!r} of {shown(uri)} is not installed.",
            next_step=f"Run `pip install 'aiflow-event-store-sql[{extra}]'`."
            if extra in ("postgresql", "mysql")
            else f"Run `pip install {extra}`.",
        ) from error

    @event.listens_for(engine, "connect")
    def limit(connection: Any, record: Any) -> None:
        with closing(connection.cursor()) as cursor:
            cursor.execute(_limit_idleness(engine.dialect))
        connection.commit()

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, record: Any, args: Any, keywords: Any) -> Any:
        try:
            return dialect.connect(*args, **keywords)
        except dialect.loaded_dbapi.Error as error:
            _forget_frames(error)
            raise

    return engine


def _in_one_message() -> dict[str, Any]:
    """Arguments for psycopg, with which all that it sends for one call is a single message.

    PostgreSQL counts the seconds of an idle transaction while it waits for the first message of a
    statement. A prepared statement takes several, a pipeline of them more; a process that is
    stopped between two of these would keep its locks for ever.
    """
    import psycopg

    class Cursor(psycopg.ClientCursor[Any]):
        def executemany(self, query: Any, params_seq: Any, *, returning: bool = False) -> None:
            self.execute("; ".join(self.mogrify(query, parameters) for parameters in params_seq))

    return {"cursor_factory": Cursor}


def _forget_frames(error: BaseException | None) -> None:
    """Let go of all that the frames hold in which the error, and what led to it, came about.

    PyMySQL's errors are held by a frame that they hold themselves, with a megabyte of certificates
    beside them; in an outage these would pile up until the next full garbage collection.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _limit_idleness(dialect: Dialect) -> str:
    """The statement after which the server ends a transaction that does nothing, or whose results
    nobody takes."""
    if dialect.name == "postgresql":
        return (
            f"SELECT set_config('idle_in_transaction_session_timeout', '{IDLE_SECONDS}s', false), "
            f"set_config('tcp_user_timeout', '{IDLE_SECONDS}s', false)"
        )
    # MySQL has one only for connections, in a transaction or not; the pool opens new ones.
    is_mariadb = getattr(dialect, "is_mariadb", False)
    idle = "idle_transaction_timeout" if is_mariadb else "wait_timeout"
    return f"SET SESSION {idle} = {IDLE_SECONDS}, net_write_timeout = {IDLE_SECONDS}"


def shown(uri: str) -> str:
    """The URI as it may be printed: without the password."""
    return _url(uri).render_as_string(hide_password=True)


@contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Turn a failure to reach or use the database into what `unusable` makes of it."""
    try:
        yield
    except (DatabaseError, InterfaceError, PoolTimeoutError) as error:
        # SQLite's for a file that is damaged or no database is a DatabaseError of no further kind.
        if (
            isinstance(error, DatabaseError)
            and type(error) not in (DatabaseError, OperationalError)
            and not _is_full(error.orig)
            and not error.connection_invalidated
        ):
            raise
        raise unusable(uri, error) from error


def unusable(uri: str, error: Exception) -> UnavailableError:
    """What to raise for an error of the database or its driver: `UnavailableError` with the reason,
    `NoRoomError` when it is full."""
    if _is_full(error.orig if isinstance(error, DBAPIError) else error):
        return NoRoomError(
            f"The database {shown(uri)} has no room left: {reason(error)}.",
            next_step="Make room on its disk; nothing has to be started anew.",
        )
    return UnavailableError(
        f"The database {shown(uri)} cannot be used: {reason(error)}.",
        next_step="Check that it exists, that it is up, and that its URI is right.",
    )


def reason(error: Exception) -> str:
    """What the database itself said, or SQLAlchemy when it did not get that far."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(str(said).split()).rstrip(".")


def _is_full(said: BaseException | None) -> bool:
    """Whether the driver's error means that a disk, or what a table may take of it, is full."""
    if isinstance(said, sqlite3.Error):
        return _primary_code(said) == sqlite3.SQLITE_FULL
    codes = (getattr(said, "sqlstate", None), *(said.args[:1] if said else ()))
    # With some codes both servers only say that a file could not be written, and add why.
    return any(code in _FULL for code in codes) or "No space left on device" in str(said)


def _primary_code(error: BaseException | None) -> int:
    """SQLite's own code of an error, without the detail in the upper bits; 0 when there is none."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@dataclass(frozen=True)
class TableUsage:
    """How much a table takes, with its indexes; on an SQLite that does not know, its content."""

    table: str
    rows: int
    bytes: int


def table_usage(engine: Engine, uri: str, names: Sequence[str]) -> list[TableUsage]:
    """How much each of these tables takes; those that do not exist are left out."""
    with reachable(uri), engine.connect().execution_options(read_only=True) as connection:
        there = inspect(connection).get_table_names()
        return [
            TableUsage(
                name,
                connection.scalar(select(func.count()).select_from(table(name))) or 0,
                _bytes_of(connection, name),
            )
            for name in names
            if name in there
        ]


def _bytes_of(connection: Connection, name: str) -> int:
    match connection.dialect.name:
        case "postgresql":
            query = "SELECT pg_total_relation_size(quote_ident(:name)::regclass)"
        case "sqlite":
            query = (
                "SELECT sum(pgsize) FROM dbstat WHERE aggregate = TRUE AND name IN "
                "(SELECT name FROM sqlite_master WHERE tbl_name = :name)"
            )
        case _:
            query = (
                "SELECT data_length + index_length FROM information_schema.tables "
                "WHERE table_schema = DATABASE() AND table_name = :name"
            )
    try:
        return int(connection.scalar(text(query), {"name": name}) or 0)
    except OperationalError as error:
        if "no such table: dbstat" not in str(error):
            raise
    # An SQLite that was built without it.
    quote = connection.dialect.identifier_preparer.quote
    names = [quote(column["name"]) for column in inspect(connection).get_columns(name)]
    content = " + ".join(f"coalesce(length(CAST({cell} AS BLOB)), 0)" for cell in names)
    return int(connection.scalar(text(f"SELECT sum({content}) FROM {quote(name)}")) or 0)


def migrate(engine: Engine, package: str, revision: str = "head") -> None:
    """Bring the tables of `package` (its sub-package `migrations` is an Alembic script directory)
    up to `revision`, `head` being the newest; nothing when they are there or beyond."""
    wanted = _step(package, revision)
    if _step(package, found_revision(engine, package)) >= wanted:
        return
    from alembic import command  # takes longer to import than all the rest of a start

    with engine.begin() as connection:
        command.upgrade(_alembic(package, connection), _steps(package)[wanted])


def downgrade(engine: Engine, package: str, revision: str) -> None:
    """Take the tables of `package` back to `revision`; `base` removes them. Nothing when they are
    there or were never beyond."""
    wanted = _step(package, revision)
    if _step(package, found_revision(engine, package)) <= wanted:
        return
    from alembic import command

    with engine.begin() as connection:
        command.downgrade(_alembic(package, connection), _steps(package)[wanted])


def migration_sql(engine: Engine, package: str, *revisions: str) -> str:
    """The SQL that would take the tables of `package` to each of the revisions, one after the
    other. Nothing is changed."""
    from alembic import command

    steps = _steps(package)
    stops = [_step(package, revision) for revision in revisions]
    written = io.StringIO()
    here = _step(package, found_revision(engine, package))
    with ExitStack() as stack:
        if _is_missing(engine):
            engine = create_engine("sqlite://")
            stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        config = _alembic(package, connection, output=written)
        for stop in stops:
            move = command.upgrade if stop > here else command.downgrade
            if stop != here:
                move(config, f"{steps[here]}:{steps[stop]}", sql=True)
            here = stop
    return written.getvalue()


def check_current(engine: Engine, package: str, *, uri: str, init_command: str) -> None:
    """Raise `ConfigError` unless the tables of `package` are at its newest revision."""
    with reachable(uri):
        found = found_revision(engine, package)
    wanted = newest_revision(package)
    if found != wanted:
        state = f"is at revision {found}, not {wanted}" if found else "has no tables yet"
        raise ConfigError(f"The database {shown(uri)} {state}.", next_step=f"Run `{init_command}`.")


def newest_revision(package: str) -> str:
    """The newest revision of the tables of `package`: a script's file is called
    `<revision>_<title>.py`, and revisions are in the order of their names."""
    return _steps(package)[-1]


def _steps(package: str) -> list[str]:
    """The revisions of the tables of `package`, oldest first, behind `base`, which is none."""
    scripts = files(f"{package}.migrations.versions").iterdir()
    return ["base", *sorted(s.name.partition("_")[0] for s in scripts if s.name[0].isdigit())]


def _step(package: str, revision: str | None) -> int:
    """Where a revision stands among all of them; `NotFoundError` when it is none."""
    steps = _steps(package)
    if revision in ("head", "heads"):
        return len(steps) - 1
    if (revision or "base") not in steps:
        raise NotFoundError(
            "version of the database", revision, next_step=f"Known are: {', '.join(steps)}."
        )
    return steps.index(revision or "base")


def found_revision(engine: Engine, package: str) -> str | None:
    """The revision at which the tables of `package` are; None when there are none."""
    if _is_missing(engine):
        return None
    name = version_table(package)
    with engine.connect().execution_options(read_only=True) as connection:
        if not inspect(connection).has_table(name):
            return None
        query: Select[tuple[str]] = select(column("version_num", String)).select_from(table(name))
        found: str | None = connection.scalar(query)
        return found


def version_table(package: str) -> str:
    """Name of the table in which Alembic keeps the revision: two plugins may share a database."""
    return f"{package.removeprefix('aiflow_')}_version"


def _is_missing(engine: Engine) -> bool:
    """Whether it is a file that is not there yet; to connect would make it."""
    file = engine.url.database if engine.dialect.name == "sqlite" else None
    return bool(file) and file != ":memory:" and not os.path.exists(str(file))


def _alembic(package: str, connection: Connection, output: io.StringIO | None = None) -> Any:
    """What Alembic needs to know; `output` is for the SQL that it only writes."""
    from alembic.config import Config

    config = Config(
        output_buffer=output,
        attributes={"connection": connection, "version_table": version_table(package)},
    )
    config.set_main_option("script_location", f"{package}:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _without_secrets(uri: str) -> str:
    """What may be said of a text that should be a URI: neither a password in it nor, where it looks
    like none, the text itself, which may be one."""
    scheme, is_uri, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if is_uri else "What is set"


def _url(uri: str) -> URL:
    try:
        url = make_url(uri)
        if url.drivername in _DRIVERS:
            url = url.set(drivername=_DRIVERS[url.drivername])
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"{_without_secrets(uri)} is not the URI of a database.",
            next_step="Write for example sqlite:////path/to/file.db, "
            "postgresql://user@host/name or mysql://user@host/name.",
        ) from error
    return url


def _open_sqlite(url: URL) -> Engine:
    path = url.database or ""
    if path and path != ":memory:":
        directory = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(directory):
            raise ConfigError(
                f"The directory {directory} of the database {url} does not exist.",
                next_step="Make it, or change the URI.",
            )
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        # Python's own transaction handling begins late and unlocked; ours begins below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        read_only = connection.get_execution_options().get("read_only", False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    @event.listens_for(engine, "handle_error")
    def distrust(context: ExceptionContext) -> None:
        # When a sync has failed, the kernel may take its pages for clean, and the next sync of the
        # same file handle succeeds without them. So the handle is given up as a broken line is, and
        # the pool opens new ones.
        if _primary_code(context.original_exception) == sqlite3.SQLITE_IOERR:
            context.is_disconnect = True

    return engine
