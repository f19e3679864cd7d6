"""What was generated is what the .proto says."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from google.protobuf import descriptor, descriptor_pb2, descriptor_pool
from grpc_tools import protoc

from aiflow_core.model.event import Event, EventFilter, EventType
from aiflow_notification_server import protocol
from aiflow_notification_server.protocol import conversion
from aiflow_notification_server.protocol import notification_service_pb2 as pb
from aiflow_notification_server.protocol.notification_service_pb2_grpc import (
    NotificationServiceServicer,
    NotificationServiceStub,
)

PROTO = "aiflow_notification_server/protocol/notification_service.proto"
ROOT = Path(protocol.__file__).parents[2]


def test_the_generated_code_is_that_of_the_proto(tmp_path: Path) -> None:
    described = tmp_path / "descriptors"
    assert (
        protoc.main(["protoc", f"-I{ROOT}", f"--descriptor_set_out={described}", str(ROOT / PROTO)])
        == 0
    )

    (written,) = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    pool.Add(written)
    assert _facts(pb.DESCRIPTOR) == _facts(pool.FindFileByName(PROTO))


def _facts(file: descriptor.FileDescriptor) -> descriptor_pb2.FileDescriptorProto:
    facts = descriptor_pb2.FileDescriptorProto()
    file.CopyToProto(facts)
    _forget_json_names(facts.message_type)
    return facts


def _forget_json_names(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    """protoc derives them from the names, and does not write them into generated code."""
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        _forget_json_names(message.nested_type)


def test_the_generated_service_has_every_method_of_the_proto() -> None:
    methods = [m.name for m in pb.DESCRIPTOR.services_by_name["NotificationService"].methods]

    class Channel:
        def _register(self, path: str, **kinds: object) -> str:
            return path

        unary_unary = unary_stream = _register

    stub = NotificationServiceStub(Channel())
    for name in methods:
        assert getattr(stub, name) == f"/notification_service.NotificationService/{name}"
        assert hasattr(NotificationServiceServicer, name)


@pytest.mark.parametrize("type", EventType)
@pytest.mark.parametrize("value", [None, "", "v"])
def test_an_event_travels_unchanged(type: EventType, value: str | None) -> None:
    event = Event("k", value, "ns", "s", "c", type, id="i", offset=3, create_time=4)

    wire = conversion.event_to_proto(event).SerializeToString()

    assert conversion.event_from_proto(pb.EventProto.FromString(wire)) == event


@pytest.mark.parametrize(
    "filter",
    [
        EventFilter(),
        EventFilter(keys=("a", "b*"), namespace="ns", sender="s", types=(EventType.TIMER,)),
        EventFilter(namespace="", sender=""),
    ],
)
def test_a_filter_travels_unchanged(filter: EventFilter) -> None:
    wire = conversion.filter_to_proto(filter).SerializeToString()

    assert conversion.filter_from_proto(pb.EventFilterProto.FromString(wire)) == filter


def test_many_large_events_go_in_several_messages() -> None:
    events = [Event(str(n), "x" * 400_000) for n in range(5)] + [Event("alone", "x" * 2_000_000)]

    portions = list(conversion.messages(events))

    assert [[proto.key for proto in portion] for portion in portions] == [
        ["0", "1"],
        ["2", "3"],
        ["4"],
        ["alone"],
    ]
