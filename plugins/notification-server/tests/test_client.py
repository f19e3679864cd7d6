"""Users' clients."""

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from queue import Queue

import pytest

from aiflow_core.clock import to_datetime
from aiflow_core.errors import AIFlowError
from aiflow_core.model.event import Event, EventType
from aiflow_core.model.execution import AttemptKey, RunningTask
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_notification_server.client import (
    AIFlowNotificationClient,
    EmbeddedNotificationClient,
    ListenerProcessor,
    ListenerRegistrationId,
)


class Heard(ListenerProcessor):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self._events: Queue[Event] = Queue()

    def process(self, events: list[Event]) -> None:
        assert events
        for event in events:
            self._events.put(event)

    def keys(self, count: int) -> list[str]:
        """The keys of the next events."""
        return [self._events.get(timeout=20).key for _ in range(count)]


@pytest.fixture
def client(address: str) -> Iterator[EmbeddedNotificationClient]:
    with EmbeddedNotificationClient(address, namespace="ns", sender="me") as client:
        yield client


class TestSending:
    def test_the_event_bears_the_client_s_namespace_and_sender(
        self, client: EmbeddedNotificationClient, clock: ManualClock
    ) -> None:
        sent = client.send_event(Event("k", "v", context="c", namespace="other"))

        assert (sent.key, sent.value, sent.context) == ("k", "v", "c")
        assert (sent.namespace, sent.sender) == ("ns", "me")
        assert (sent.offset, sent.create_time) == (1, clock.now_ms())

    def test_a_client_without_namespace_leaves_the_event_s_own(self, address: str) -> None:
        with EmbeddedNotificationClient(address) as client:
            sent = client.send_event(Event("k", namespace="own", sender="somebody"))

        assert (sent.namespace, sent.sender) == ("own", "somebody")

    def test_it_is_always_an_event_of_a_user(self, client: EmbeddedNotificationClient) -> None:
        assert client.send_event(Event("k", type=EventType.COMMAND)).type is EventType.USER

    def test_events_that_many_threads_send_are_all_stored(
        self, client: EmbeddedNotificationClient, log: MemoryEventStore
    ) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: client.send_event(Event(str(n))), range(100)))

        assert {event.key for event in log.read()} == {str(n) for n in range(100)}
        assert client.sequence_number == 100

    def test_a_client_that_continues_another_repeats_what_it_is_not_sure_of(
        self, client: EmbeddedNotificationClient, address: str, log: MemoryEventStore
    ) -> None:
        first = client.send_event(Event("k", "v"))

        with EmbeddedNotificationClient(
            address, "ns", "me", client_id=client.client_id, initial_seq_num=0
        ) as again:
            assert again.send_event(Event("k", "v")) == first
            assert again.send_event(Event("next")).offset == 2

        assert log.head() == 2


class TestReading:
    def test_list_and_count_restrict_by_what_is_given(
        self, client: EmbeddedNotificationClient, log: MemoryEventStore
    ) -> None:
        log.append(
            [
                Event("k", "1", "ns", "alice"),
                Event("k", "2", "other", "bob"),
                Event("l", "3", "ns", "bob"),
                Event("k", "4", type=EventType.COMMAND),
            ]
        )

        def values(**asked: object) -> str:
            listed = client.list_events(**asked)  # type: ignore[arg-type]
            assert client.count_events(**asked)[0] == len(listed)  # type: ignore[arg-type]
            return "".join(event.value or "" for event in listed)

        assert values() == "123"
        assert values(key="k") == "12"
        assert values(namespace="ns") == "13"
        assert values(sender="bob") == "23"
        assert values(begin_offset=1, end_offset=2) == "2"
        assert values(end_offset=2) == "12"

    def test_events_are_counted_by_sender(
        self, client: EmbeddedNotificationClient, log: MemoryEventStore
    ) -> None:
        log.append([Event("k", sender=sender) for sender in ("b", "a", "b")])

        total, counts = client.count_events("k")

        assert total == 3
        assert [(c.sender, c.event_count) for c in counts] == [("a", 1), ("b", 2)]

    def test_all_events_from_a_time_or_an_offset(
        self, client: EmbeddedNotificationClient, log: MemoryEventStore, clock: ManualClock
    ) -> None:
        log.append([Event("a") for _ in range(1500)])
        clock.advance(1)
        log.append([Event("b"), Event("c")])

        assert len(client.list_all_events()) == 1502
        assert [e.key for e in client.list_all_events(start_time=clock.now_ms())] == ["b", "c"]
        assert [e.offset for e in client.list_all_events(start_offset=1499, end_offset=1501)] == [
            1500,
            1501,
        ]
        assert client.time_to_offset(to_datetime(clock.now_ms())) == 1500


class TestListening:
    def test_a_listener_hears_the_past_and_then_what_comes(
        self, client: EmbeddedNotificationClient
    ) -> None:
        client.send_event(Event("a"))
        heard = Heard()
        client.register_listener(heard)
        client.send_event(Event("b"))

        assert heard.keys(2) == ["a", "b"]

    def test_a_listener_begins_behind_an_offset(self, client: EmbeddedNotificationClient) -> None:
        client.send_event(Event("a"))
        client.send_event(Event("b"))
        heard = Heard()
        client.register_listener(heard, offset=1)

        assert heard.keys(1) == ["b"]

    @pytest.mark.parametrize("keys", [None, ["k", "end"], ["*"]])
    def test_a_listener_hears_its_own_namespace_only(
        self, client: EmbeddedNotificationClient, log: MemoryEventStore, keys: list[str] | None
    ) -> None:
        heard = Heard()
        client.register_listener(heard, keys)
        log.append([Event("k", namespace="other"), Event("k", namespace="ns")])
        log.append([Event("end", namespace="ns")])

        assert heard.keys(2) == ["k", "end"]

    def test_a_listener_hears_its_keys_only(self, client: EmbeddedNotificationClient) -> None:
        heard = Heard()
        client.register_listener(heard, ["a", "c.*"])
        for key in ("a", "b", "c.x", "c"):
            client.send_event(Event(key))
        client.send_event(Event("a"))

        assert heard.keys(3) == ["a", "c.x", "a"]

    def test_a_listener_whose_processor_fails_goes_on(
        self, client: EmbeddedNotificationClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        class FailsAtFirst(Heard):
            failed = threading.Event()

            def process(self, events: list[Event]) -> None:
                if not self.failed.is_set():
                    self.failed.set()
                    raise ValueError("this one is not for me")
                super().process(events)

        heard = FailsAtFirst()
        client.register_listener(heard)
        client.send_event(Event("bad"))
        assert heard.failed.wait(20)
        client.send_event(Event("good"))

        assert heard.keys(1) == ["good"]
        assert "this one is not for me" in caplog.text

    def test_an_unregistered_listener_hears_nothing_more(
        self, client: EmbeddedNotificationClient
    ) -> None:
        gone, stays = Heard(), Heard()
        registration = client.register_listener(gone)
        client.register_listener(stays)
        client.send_event(Event("a"))
        assert gone.keys(1) == ["a"]

        client.unregister_listener(registration)
        client.send_event(Event("b"))

        assert stays.keys(2) == ["a", "b"]
        assert gone._events.empty()

    def test_a_listener_that_is_not_registered_is_no_error(
        self, client: EmbeddedNotificationClient
    ) -> None:
        client.unregister_listener(ListenerRegistrationId("unknown"))

    def test_a_processor_may_end_its_own_listener(self, client: EmbeddedNotificationClient) -> None:
        ended = threading.Event()
        registered: Queue[ListenerRegistrationId] = Queue()

        class EndsItself(ListenerProcessor):
            def process(self, events: list[Event]) -> None:
                client.unregister_listener(registered.get(timeout=20))
                ended.set()

        registered.put(client.register_listener(EndsItself()))
        client.send_event(Event("k"))

        assert ended.wait(20)

    def test_closing_the_client_ends_its_listeners(self, address: str) -> None:
        before = set(threading.enumerate())
        client = EmbeddedNotificationClient(address)
        for _ in range(3):
            client.register_listener(Heard())

        client.close()
        client.close()

        assert not [t for t in threading.enumerate() if t not in before and t.name == "listener"]


class TestInATask:
    @pytest.fixture
    def task(self, address: str, monkeypatch: pytest.MonkeyPatch) -> RunningTask:
        task = RunningTask(
            namespace="ns",
            workflow_name="wf",
            key=AttemptKey(workflow_execution_id=7, task_name="train_it", sequence_number=2),
            notification_uri=address,
        )
        for name, value in task.to_environment().items():
            monkeypatch.setenv(name, value)
        return task

    def test_outside_of_a_task_there_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIFLOW_TASK", raising=False)

        with pytest.raises(AIFlowError, match=r"can only be used in AIFlow operators\.$"):
            AIFlowNotificationClient("localhost:50052")

    def test_an_event_is_meant_for_the_execution_of_the_task(
        self, task: RunningTask, log: MemoryEventStore
    ) -> None:
        client = AIFlowNotificationClient("localhost:1")  # the task knows better
        sent = client.send_event("k", "v")
        without_value = client.send_event("k")
        client.close()

        assert (sent.namespace, sent.sender) == ("ns", "7_train_it_2")
        assert sent.context == '{"workflow_execution_id":7}'
        assert sent.workflow_execution_id == 7
        assert without_value.value is None
        assert log.read() == [sent, without_value]

    def test_a_listener_hears_what_comes_from_now_on(
        self, task: RunningTask, log: MemoryEventStore
    ) -> None:
        log.append([Event("before", namespace="ns")])
        client, heard = AIFlowNotificationClient("localhost:1"), Heard()
        client.register_listener(heard)
        client.send_event("after")

        assert heard.keys(1) == ["after"]
        client.close()

    def test_a_listener_hears_what_came_since_a_time(
        self, task: RunningTask, log: MemoryEventStore, clock: ManualClock
    ) -> None:
        log.append([Event("before", namespace="ns")])
        clock.advance(60)
        log.append([Event("since", namespace="ns"), Event("other", namespace="ns")])
        client, heard = AIFlowNotificationClient("localhost:1"), Heard()

        registration = client.register_listener(
            heard, ["since", "before"], to_datetime(clock.now_ms()) - timedelta(seconds=30)
        )

        assert heard.keys(1) == ["since"]
        client.unregister_listener(registration)
        client.close()


def test_ids_of_clients_are_unique(address: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clients = [EmbeddedNotificationClient(address) for _ in range(20)]

    assert len({client.client_id for client in clients}) == 20
    for client in clients:
        client.close()
