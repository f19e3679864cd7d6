"""The database server goes away and comes back."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from aiflow_core.errors import UnavailableError
from aiflow_core.model.event import Event
from aiflow_core.testing.databases import on_servers
from aiflow_core.testing.event_store import Follower
from aiflow_event_store_sql.event_store import SqlEventStore

# SQLite has no line that could break.
pytestmark = on_servers


# Not the BEGIN that says READ COMMITTED.
COMMIT = re.compile(rb"COMMIT(?!TED)")


class Proxy:
    """Stands between client and database, and cuts the line when told.

    Attributes:
        cut_at_commit: `before` the next COMMIT reaches the server, or `after` the server has
            answered it, whose answer then gets lost.
    """

    def __init__(self, host: str, port: int) -> None:
        self.cut_at_commit = ""
        self._server = (host, port)
        self._lines: set[socket.socket] = set()
        self._up = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def down(self) -> None:
        self._up = False
        for line in list(self._lines):
            self._cut(line)

    def up(self) -> None:
        self._up = True

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.down()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            if not self._up:
                client.close()
                continue
            server = socket.create_connection(self._server)
            self._lines |= {client, server}
            answer_lost = threading.Event()
            for source, target, is_client in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._forward, args=(source, target, is_client, answer_lost), daemon=True
                ).start()

    def _forward(
        self,
        source: socket.socket,
        target: socket.socket,
        is_client: bool,
        answer_lost: threading.Event,
    ) -> None:
        try:
            while data := source.recv(65536):
                if is_client and self.cut_at_commit and COMMIT.search(data):
                    moment, self.cut_at_commit = self.cut_at_commit, ""
                    if moment == "before":
                        break
                    answer_lost.set()
                elif not is_client and answer_lost.is_set():
                    break
                target.sendall(data)
        except OSError:  # the other direction has cut the line
            pass
        self._cut(source)
        self._cut(target)

    def _cut(self, line: socket.socket) -> None:
        self._lines.discard(line)
        with contextlib.suppress(OSError):  # it is cut already
            line.shutdown(socket.SHUT_RDWR)
        line.close()


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    url = make_url(database_url)
    assert url.host
    assert url.port
    with contextlib.closing(Proxy(url.host, url.port)) as proxy:
        yield proxy


@pytest.fixture
def store(database_url: str, proxy: Proxy) -> Iterator[SqlEventStore]:
    url = make_url(database_url).set(port=proxy.port)
    with contextlib.closing(SqlEventStore(url.render_as_string(), poll_interval=0.01)) as store:
        store.initialize()
        yield store


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_line_that_breaks_at_the_commit_neither_loses_nor_doubles_the_events(
    store: SqlEventStore, proxy: Proxy, moment: str
) -> None:
    store.append([Event("a")])
    proxy.cut_at_commit = moment

    stored = store.append([Event("b"), Event("c")])

    assert proxy.cut_at_commit == "", "the line was never cut"
    assert [event.offset for event in stored] == [2, 3]
    assert store.read(1) == stored


def test_a_line_that_broke_while_nothing_was_written_is_not_noticed(
    store: SqlEventStore, proxy: Proxy
) -> None:
    store.append([Event("a")])
    proxy.down()
    proxy.up()

    assert store.append([Event("b")])[0].offset == 2


def test_during_an_outage_appending_fails_and_afterwards_it_works(
    store: SqlEventStore, proxy: Proxy
) -> None:
    store.append([Event("a")])
    proxy.down()

    for attempt in (lambda: store.append([Event("b", id="b")]), store.read, store.head):
        with pytest.raises(UnavailableError, match=f"127.0.0.1:{proxy.port}"):
            attempt()

    proxy.up()
    assert store.append([Event("b", id="b")])[0].offset == 2


def test_a_subscription_outlives_an_outage_and_misses_nothing(
    store: SqlEventStore, proxy: Proxy, database_url: str
) -> None:
    with (
        contextlib.closing(SqlEventStore(database_url)) as elsewhere,
        Follower(store.subscribe(0)) as follower,
    ):
        elsewhere.append([Event("a")])
        assert [event.key for event in follower.take(1)] == ["a"]

        proxy.down()
        elsewhere.append([Event("b")])
        with pytest.raises(UnavailableError):
            store.head()
        elsewhere.append([Event("c")])
        proxy.up()

        assert [event.key for event in follower.take(2)] == ["b", "c"]


def test_a_subscription_can_be_closed_during_an_outage(store: SqlEventStore, proxy: Proxy) -> None:
    with Follower(store.subscribe(0)) as follower:
        store.append([Event("a")])
        follower.take(1)
        proxy.down()
    follower.await_end()


def test_a_transaction_begins_on_a_new_line_when_the_old_one_broke(
    store: SqlEventStore, proxy: Proxy
) -> None:
    store.append([Event("a")])
    proxy.down()
    proxy.up()

    with store.transaction() as transaction:
        (stored,) = transaction.append([Event("b")])

    assert store.read(1) == [stored]


@pytest.mark.parametrize(("moment", "known"), [("before", []), ("after", ["b"])])
def test_a_line_that_breaks_at_the_commit_of_a_transaction_leaves_it_to_the_caller_to_look(
    store: SqlEventStore, proxy: Proxy, moment: str, known: list[str]
) -> None:
    store.append([Event("a")])
    proxy.cut_at_commit = moment

    with pytest.raises(UnavailableError), store.transaction() as transaction:
        transaction.append([Event("b", id="b")])

    assert [event.key for event in store.read(1)] == known
    with store.transaction() as transaction:
        (stored,) = transaction.append([Event("b", id="b")])
    assert stored.offset == 2
    assert store.read(1) == [stored]
