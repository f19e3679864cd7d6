"""Clients of AIFlow 0.4 work unchanged, and see and do nothing that they should not.

The client here is built from the table of 0.4's messages alone and knows nothing of what came
later; the numbers of the fields are what binds.
"""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from aiflow_core.model.event import Event, EventType
from aiflow_core.testing.clock import ManualClock
from aiflow_core.testing.event_store import MemoryEventStore
from aiflow_notification_server import servicer

SUCCESS, ERROR = 0, 1

PACKAGE = "notification_service"

# Message -> its fields in the order of their numbers; a type that begins with * is repeated.
MESSAGES = {
    "EventProto": (
        *(("key", "string"), ("value", "string"), ("context", "string"), ("namespace", "string")),
        *(("offset", "int64"), ("create_time", "int64"), ("sender", "string")),
    ),
    "SendEventRequest": (
        *(("event", "EventProto"), ("uuid", "string"), ("enable_idempotence", "bool")),
    ),
    "SendEventsResponse": (
        *(("event", "EventProto"), ("return_code", "int32"), ("return_msg", "string")),
    ),
    "ListEventsRequest": (
        *(("key", "string"), ("namespace", "string"), ("sender", "string")),
        *(("start_offset", "int64"), ("end_offset", "int64"), ("timeout_seconds", "int32")),
    ),
    "ListAllEventsRequest": (
        *(("timeout_seconds", "int32"), ("start_time", "int64")),
        *(("start_offset", "int64"), ("end_offset", "int64")),
    ),
    "ListEventsResponse": (
        *(("return_code", "int32"), ("return_msg", "string"), ("events", "*EventProto")),
    ),
    "CountEventsRequest": (
        *(("key", "string"), ("namespace", "string"), ("sender", "string")),
        *(("start_offset", "int64"), ("end_offset", "int64")),
    ),
    "SenderEventCountProto": (("sender", "string"), ("event_count", "int64")),
    "CountEventsResponse": (
        *(("return_code", "int32"), ("return_msg", "string"), ("event_count", "int64")),
        ("sender_event_counts", "*SenderEventCountProto"),
    ),
    "Notify": (("key", "string"), ("namespace", "string")),
    "NotifyRequest": (("notifies", "*Notify"),),
    "MemberProto": (("version", "int64"), ("server_uri", "string"), ("update_time", "int64")),
    "ListMembersRequest": (("timeout_seconds", "int32"),),
    "ListMembersResponse": (
        *(("return_code", "int32"), ("return_msg", "string"), ("members", "*MemberProto")),
    ),
    "NotifyNewMemberRequest": (("member", "MemberProto"),),
    "ClientMeta": (("namespace", "string"), ("sender", "string")),
    "RegisterClientRequest": (("client_meta", "ClientMeta"),),
    "RegisterClientResponse": (
        *(("return_code", "int32"), ("return_msg", "string"), ("client_id", "int64")),
    ),
    "ClientIdRequest": (("client_id", "int64"),),
    "CommonResponse": (("return_code", "int32"), ("return_msg", "string")),
    "isClientExistsResponse": (
        *(("return_code", "int32"), ("return_msg", "string"), ("is_exists", "bool")),
    ),
    "TimeToOffsetRequest": (("timestamp", "int64"),),
    "TimeToOffsetResponse": (("return_code", "int32"), ("offset", "int64")),
}

METHODS = {
    "sendEvent": ("SendEventRequest", "SendEventsResponse"),
    "listEvents": ("ListEventsRequest", "ListEventsResponse"),
    "listAllEvents": ("ListAllEventsRequest", "ListEventsResponse"),
    "countEvents": ("CountEventsRequest", "CountEventsResponse"),
    "notify": ("NotifyRequest", "CommonResponse"),
    "listMembers": ("ListMembersRequest", "ListMembersResponse"),
    "notifyNewMember": ("NotifyNewMemberRequest", "CommonResponse"),
    "registerClient": ("RegisterClientRequest", "RegisterClientResponse"),
    "deleteClient": ("ClientIdRequest", "CommonResponse"),
    "isClientExists": ("ClientIdRequest", "isClientExistsResponse"),
    "timestampToEventOffset": ("TimeToOffsetRequest", "TimeToOffsetResponse"),
}


def _build() -> dict[str, type[Any]]:
    file = descriptor_pb2.FileDescriptorProto(name="original", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields, start=1):
            scalar = kind if kind in ("string", "int64", "int32", "bool") else ""
            added = message.field.add(
                name=field,
                number=number,
                label=3 if kind.startswith("*") else 1,
                type=descriptor_pb2.FieldDescriptorProto.Type.Value(
                    f"TYPE_{scalar.upper() or 'MESSAGE'}"
                ),
            )
            if not scalar:
                added.type_name = f".{PACKAGE}.{kind.removeprefix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
        for name in MESSAGES
    }


CLASSES = _build()


class OriginalClient:
    """Calls the methods of the original service: `client("listEvents", key="k")`.

    Nested messages are given as dicts.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)

    def __call__(self, method: str, **fields: Any) -> Any:
        return self.start(method, **fields).result()

    def start(self, method: str, **fields: Any) -> Any:
        """Begin a call, and return its future."""
        request, reply = (CLASSES[name] for name in METHODS[method])
        call = self._channel.unary_unary(
            f"/{PACKAGE}.NotificationService/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )
        return call.future(request(**fields), timeout=30)

    def close(self) -> None:
        self._channel.close()


# --- what it can do ----------------------------------------------------------------------------


@pytest.fixture
def call(address: str) -> Iterator[Any]:
    client = OriginalClient(address)
    yield client
    client.close()


def test_a_sent_event_comes_back_with_its_offset_and_time_and_is_listed(
    call: Any, clock: ManualClock
) -> None:
    sent = call(
        "sendEvent",
        event={"key": "k", "value": "v", "namespace": "ns", "sender": "s", "context": "c"},
        uuid="client_1_0",
        enable_idempotence=True,
    )

    assert sent.return_code == SUCCESS
    assert (sent.event.offset, sent.event.create_time) == (1, clock.now_ms())
    assert call("listEvents", key="k").events == [sent.event]
    assert call("listAllEvents").events == [sent.event]


def test_a_repeated_uuid_is_answered_with_the_stored_event(
    call: Any, log: MemoryEventStore
) -> None:
    def send(value: str) -> Any:
        event = {"key": "k", "value": value}
        return call("sendEvent", event=event, uuid="client_1_0", enable_idempotence=True).event

    first = send("first")

    assert send("second") == first
    assert first.offset == 1
    assert log.head() == 1


def test_without_idempotence_a_uuid_means_nothing(call: Any, log: MemoryEventStore) -> None:
    for _ in range(2):
        call("sendEvent", event={"key": "k"}, uuid="client_1_0")

    assert log.head() == 2


def test_a_client_can_only_send_events_of_users(call: Any, log: MemoryEventStore) -> None:
    call("sendEvent", event={"key": "k"}, uuid="u", enable_idempotence=True)

    assert [event.type for event in log.read()] == [EventType.USER]


def test_a_client_cannot_take_the_id_of_an_event_that_the_deployment_will_append(
    call: Any, log: MemoryEventStore
) -> None:
    call("sendEvent", event={"key": "forged"}, uuid="command-7", enable_idempotence=True)

    (stored,) = log.append([Event("start", type=EventType.COMMAND, id="command-7")])

    assert stored.key == "start"


def test_what_is_between_the_parts_of_a_deployment_is_not_seen(
    call: Any, log: MemoryEventStore
) -> None:
    log.append([Event(type.value, type=type) for type in EventType])

    public = ["USER", "TASK_STATUS", "WORKFLOW_STATUS"]
    assert [event.key for event in call("listAllEvents").events] == public
    assert [event.key for event in call("listEvents").events] == public
    assert call("countEvents").event_count == 3


def test_an_event_that_the_log_refuses_is_answered_with_the_reason(call: Any) -> None:
    answer = call("sendEvent", event={"key": "a\0b"})

    assert answer.return_code == ERROR
    assert answer.return_msg


def test_list_and_count_restrict_by_every_field(call: Any, log: MemoryEventStore) -> None:
    log.append(
        [
            Event("k", "1", "one", "alice"),
            Event("k", "2", "two", "bob"),
            Event("k", "3", "one", "bob"),
            Event("other", "4", "one", "alice"),
        ]
    )

    def values(**asked: Any) -> str:
        listed = "".join(event.value for event in call("listEvents", **asked).events)
        assert call("countEvents", **asked).event_count == len(listed)
        return listed

    assert values() == "1234"
    assert values(key="k") == "123"
    assert values(key="k", namespace="one") == "13"
    assert values(sender="bob") == "23"
    assert values(start_offset=1, end_offset=3) == "23"
    assert values(end_offset=2) == "12"
    assert values(start_offset=4) == ""


def test_events_are_counted_by_sender(call: Any, log: MemoryEventStore) -> None:
    log.append([Event("k", sender=sender) for sender in ("b", "a", "b")])

    counted = call("countEvents", key="k")

    assert counted.event_count == 3
    assert [(c.sender, c.event_count) for c in counted.sender_event_counts] == [("a", 1), ("b", 2)]


def test_a_long_log_is_listed_whole(call: Any, log: MemoryEventStore) -> None:
    log.append([Event("k") for _ in range(2500)])

    assert len(call("listAllEvents").events) == 2500


@pytest.mark.parametrize("method", ["listEvents", "listAllEvents"])
def test_an_answer_that_would_be_too_long_is_refused_and_can_be_had_in_parts(
    call: Any, log: MemoryEventStore, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(servicer, "MOST_ANSWERED", 100_000)
    log.append([Event("k", "x" * 1000) for _ in range(200)])

    whole = call(method)
    parts = [call(method, start_offset=n, end_offset=n + 50) for n in range(0, 200, 50)]

    assert whole.return_code == ERROR
    assert "begin_offset and end_offset" in whole.return_msg
    assert not whole.events
    assert [event.offset for part in parts for event in part.events] == list(range(1, 201))


def test_listing_begins_at_a_time(call: Any, log: MemoryEventStore, clock: ManualClock) -> None:
    log.append([Event("before")])
    clock.advance(10)
    log.append([Event("at")])

    listed = call("listAllEvents", start_time=clock.now_ms()).events

    assert [event.key for event in listed] == ["at"]
    assert call("timestampToEventOffset", timestamp=clock.now_ms()).offset == 1


@pytest.mark.parametrize("method", ["listEvents", "listAllEvents"])
def test_a_long_poll_waits_for_the_first_event_that_fits(
    call: Any, log: MemoryEventStore, method: str
) -> None:
    log.append([Event("early")])
    polling = call.start(method, start_offset=1, timeout_seconds=20)

    log.append([Event("internal", type=EventType.COMMAND)])
    log.append([Event("late")])

    assert [event.key for event in polling.result().events] == ["late"]


def test_a_long_poll_of_which_the_time_is_over_is_answered_with_nothing(call: Any) -> None:
    answer = call("listAllEvents", timeout_seconds=1)

    assert answer.return_code == SUCCESS
    assert list(answer.events) == []


def test_a_listener_that_polls_misses_nothing(call: Any, log: MemoryEventStore) -> None:
    seen: list[int] = []
    for n in range(50):
        polling = call.start(
            "listAllEvents", start_offset=seen[-1] if seen else 0, timeout_seconds=20
        )
        log.append([Event(str(n))])
        seen += [event.offset for event in polling.result().events]

    assert seen == list(range(1, 51))


def test_ids_of_clients_are_unique_and_grow(call: Any) -> None:
    ids = [call("registerClient", client_meta={"sender": "s"}).client_id for _ in range(100)]

    assert ids == sorted(set(ids))
    assert ids[-1] < 2**63


def test_a_client_exists_until_it_is_deleted(call: Any) -> None:
    client_id = call("registerClient").client_id

    assert call("isClientExists", client_id=client_id).is_exists
    assert call("deleteClient", client_id=client_id).return_code == SUCCESS
    assert not call("isClientExists", client_id=client_id).is_exists
    assert not call("isClientExists", client_id=7).is_exists


def test_this_server_is_its_only_member(call: Any, address: str) -> None:
    members = call("listMembers", timeout_seconds=1).members

    assert [member.server_uri for member in members] == [address]


def test_what_servers_tell_each_other_is_accepted(call: Any) -> None:
    assert call("notify", notifies=[{"key": "k"}]).return_code == SUCCESS
    assert call("notifyNewMember", member={"server_uri": "x:1"}).return_code == SUCCESS
