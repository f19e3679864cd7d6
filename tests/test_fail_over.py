"""Two notification servers on one database, and one of them is lost."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from aiflow_core.model.event import Event
from aiflow_core.testing.databases import on_servers
from aiflow_core.testing.event_store import Follower
from aiflow_event_store_sql.event_store import SqlEventStore
from aiflow_notification_server.event_store import RemoteEventStore
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceStub,
)

from .notification import log_server
from .servers import until

# SQLite's database is in the hands of one machine.
pytestmark = on_servers

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


@pytest.mark.parametrize("loss", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
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


def test_servers_that_know_of_each_other_are_listed_until_they_stop_or_die(
    database_url: str, tmp_path: Path
) -> None:
    def listed() -> list[str]:
        with grpc.insecure_channel(other.address) as channel:
            stub = NotificationServiceStub(channel)
            answer = stub.listMembers(pb.ListMembersRequest())
        assert answer.return_code == pb.SUCCESS
        return [member.server_uri for member in answer.members]

    with closing(SqlEventStore(database_url)) as log:
        log.initialize()
    ha = {"enable_ha": True, "ha_ttl_ms": 3000}
    with (
        log_server(tmp_path / "one", database_url, **ha) as one,
        log_server(tmp_path / "two", database_url, **ha) as two,
        log_server(tmp_path / "other", database_url, **ha) as other,
        closing(RemoteEventStore(one.address)) as store,
    ):
        (first,) = store.append([Event("first")])
        assert listed() == sorted([one.address, two.address, other.address])

        two.process.terminate()
        two.await_death()
        assert listed() == sorted([one.address, other.address])

        one.process.kill()
        (second,) = store.append([Event("second")])
        assert [first.offset, second.offset] == [1, 2]
        until(lambda: listed() == [other.address], seconds=20)
