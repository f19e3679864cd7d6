"""Two notification servers on one database, and one of them is lost."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from aiflow_core.model.event import Event
from aiflow_core.testing.event_store import Follower
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_notification_server.event_store import RemoteEventStore

from .notification import log_server

# SQLite's database is in the hands of one machine.
pytestmark = pytest.mark.parametrize(
    "database_url",
    [
        pytest.param("postgresql", marks=pytest.mark.postgresql),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
    indirect=True,
)

SENDERS = "abc"
EACH = 200


def send(addresses: str, sender: str, is_lost: threading.Event) -> list[Event]:
    """Events one after the other, most of them after the server was lost; as they were stored."""
    stored: list[Event] = []
    with closing(RemoteEventStore(addresses, timeout=30)) as store:
        for n in range(EACH):
            if n == EACH // 2:
                assert is_lost.wait(60)
            stored += store.append([Event(str(n), sender=sender)])
    return stored


@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP])
def test_senders_and_listeners_go_on_at_the_other(
    database_url: str, tmp_path: Path, loss: signal.Signals
) -> None:
    with (
        closing(SqlEventStore(database_url)) as log,
        ThreadPoolExecutor() as pool,
    ):
        log.initialize()
        with (
            log_server(tmp_path / "one", database_url) as one,
            log_server(tmp_path / "other", database_url) as other,
            closing(RemoteEventStore(f"{one.address},{other.address}")) as listener,
            Follower(listener.subscribe(0)) as follower,
        ):
            is_lost = threading.Event()
            sending = [
                pool.submit(send, f"{one.address},{other.address}", sender, is_lost)
                for sender in SENDERS
            ]
            heard = follower.take(EACH // 2)
            one.process.send_signal(loss)
            is_lost.set()
            stored = [event for each in sending for event in each.result(60)]
            heard += follower.take(len(stored) - len(heard), timeout=60)

            assert heard == log.read(limit=1_000_000)
            assert sorted(stored, key=lambda event: event.offset) == heard
            for sender in SENDERS:
                keys = [event.key for event in heard if event.sender == sender]
                assert keys == [str(n) for n in range(EACH)]

            if loss is signal.SIGSTOP:
                one.process.send_signal(signal.SIGCONT)
                with closing(RemoteEventStore(one.address)) as again:
                    (last,) = again.append([Event("last")])
                assert follower.take(1) == [last]
                assert last.offset == len(stored) + 1
