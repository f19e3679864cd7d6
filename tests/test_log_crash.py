"""The notification server dies at each place where it matters what it has done before."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from aiflow_core.model.event import Event
from aiflow_core.testing.event_store import Follower
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_notification_server.event_store import RemoteEventStore

from .notification import log_server

AT = [
    *("log.commit.before", "log.commit.after"),
    *("log.append.ack.before", "log.append.ack.after"),
    *("log.push.before", "log.push.after"),
]


@pytest.mark.parametrize("crash_at", AT)
def test_an_event_is_in_the_log_and_at_the_listener_once_wherever_the_server_dies(
    database_url: str, tmp_path: Path, crash_at: str
) -> None:
    with closing(SqlEventStore(database_url)) as log:
        log.initialize()
        with log_server(tmp_path, database_url, f"{crash_at}:2") as server:
            port = int(server.address.rpartition(":")[2])
            store = RemoteEventStore(server.address, timeout=60)
            with closing(store), Follower(store.subscribe(0)) as follower:
                stored = store.append([Event("first")])
                heard = follower.take(1)
                with ThreadPoolExecutor(1) as pool:
                    second = pool.submit(store.append, [Event("second")])
                    server.await_death()
                    with log_server(tmp_path, database_url, server_port=port):
                        stored += second.result(60)
                        stored += store.append([Event("third")])
                        heard += follower.take(2)

        assert log.read() == stored
    assert heard == stored
    assert [event.key for event in stored] == ["first", "second", "third"]
