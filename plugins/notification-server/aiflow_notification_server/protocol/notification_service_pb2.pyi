from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReturnStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUCCESS: _ClassVar[ReturnStatus]
    ERROR: _ClassVar[ReturnStatus]
SUCCESS: ReturnStatus
ERROR: ReturnStatus

class EventProto(_message.Message):
    __slots__ = ("key", "value", "context", "namespace", "offset", "create_time", "sender", "id", "type")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    context: str
    namespace: str
    offset: int
    create_time: int
    sender: str
    id: str
    type: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ..., context: _Optional[str] = ..., namespace: _Optional[str] = ..., offset: _Optional[int] = ..., create_time: _Optional[int] = ..., sender: _Optional[str] = ..., id: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class CommonResponse(_message.Message):
    __slots__ = ("return_code", "return_msg")
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    RETURN_MSG_FIELD_NUMBER: _ClassVar[int]
    return_code: ReturnStatus
    return_msg: str
    def __init__(self, return_code: _Optional[_Union[ReturnStatus, str]] = ..., return_msg: _Optional[str] = ...) -> None: ...

class SendEventRequest(_message.Message):
    __slots__ = ("event", "uuid", "enable_idempotence")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    ENABLE_IDEMPOTENCE_FIELD_NUMBER: _ClassVar[int]
    event: EventProto
    uuid: str
    enable_idempotence: bool
    def __init__(self, event: _Optional[_Union[EventProto, _Mapping]] = ..., uuid: _Optional[str] = ..., enable_idempotence: bool = ...) -> None: ...

class SendEventsResponse(_message.Message):
    __slots__ = ("event", "return_code", "return_msg")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    RETURN_MSG_FIELD_NUMBER: _ClassVar[int]
    event: EventProto
    return_code: ReturnStatus
    return_msg: str
    def __init__(self, event: _Optional[_Union[EventProto, _Mapping]] = ..., return_code: _Optional[_Union[ReturnStatus, str]] = ..., return_msg: _Optional[str] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("key", "namespace", "sender", "start_offset", "end_offset", "timeout_seconds")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    key: str
    namespace: str
    sender: str
    start_offset: int
    end_offset: int
    timeout_seconds: int
    def __init__(self, key: _Optional[str] = ..., namespace: _Optional[str] = ..., sender: _Optional[str] = ..., start_offset: _Optional[int] = ..., end_offset: _Optional[int] = ..., timeout_seconds: _Optional[int] = ...) -> None: ...

class ListAllEventsRequest(_message.Message):
    __slots__ = ("timeout_seconds", "start_time", "start_offset", "end_offset")
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    timeout_seconds: int
    start_time: int
    start_offset: int
    end_offset: int
    def __init__(self, timeout_seconds: _Optional[int] = ..., start_time: _Optional[int] = ..., start_offset: _Optional[int] = ..., end_offset: _Optional[int] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("return_code", "return_msg", "events")
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    RETURN_MSG_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    return_code: ReturnStatus
    return_msg: str
    events: _containers.RepeatedCompositeFieldContainer[EventProto]
    def __init__(self, return_code: _Optional[_Union[ReturnStatus, str]] = ..., return_msg: _Optional[str] = ..., events: _Optional[_Iterable[_Union[EventProto, _Mapping]]] = ...) -> None: ...

class CountEventsRequest(_message.Message):
    __slots__ = ("key", "namespace", "sender", "start_offset", "end_offset")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_OFFSET_FIELD_NUMBER: _ClassVar[int]
    key: str
    namespace: str
    sender: str
    start_offset: int
    end_offset: int
    def __init__(self, key: _Optional[str] = ..., namespace: _Optional[str] = ..., sender: _Optional[str] = ..., start_offset: _Optional[int] = ..., end_offset: _Optional[int] = ...) -> None: ...

class SenderEventCountProto(_message.Message):
    __slots__ = ("sender", "event_count")
    SENDER_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    sender: str
    event_count: int
    def __init__(self, sender: _Optional[str] = ..., event_count: _Optional[int] = ...) -> None: ...

class CountEventsResponse(_message.Message):
    __slots__ = ("return_code", "return_msg", "event_count", "sender_event_counts")
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    RETURN_MSG_FIELD_NUMBER: _ClassVar[int]
    EVENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    SENDER_EVENT_COUNTS_FIELD_NUMBER: _ClassVar[int]
    return_code: ReturnStatus
    return_msg: str
    event_count: int
    sender_event_counts: _containers.RepeatedCompositeFieldContainer[SenderEventCountProto]
    def __init__(self, return_code: _Optional[_Union[ReturnStatus, str]] = ..., return_msg: _Optional[str] = ..., event_count: _Optional[int] = ..., sender_event_counts: _Optional[_Iterable[_Union[SenderEventCountProto, _Mapping]]] = ...) -> None: ...

class Notify(_message.Message):
    __slots__ = ("key", "namespace")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    key: str
    namespace: str
    def __init__(self, key: _Optional[str] = ..., namespace: _Optional[str] = ...) -> None: ...

class NotifyRequest(_message.Message):
    __slots__ = ("notifies",)
    NOTIFIES_FIELD_NUMBER: _ClassVar[int]
    notifies: _containers.RepeatedCompositeFieldContainer[Notify]
    def __init__(self, notifies: _Optional[_Iterable[_Union[Notify, _Mapping]]] = ...) -> None: ...

class MemberProto(_message.Message):
    __slots__ = ("version", "server_uri", "update_time")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_URI_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    version: int
    server_uri: str
    update_time: int
    def __init__(self, version: _Optional[int] = ..., server_uri: _Optional[str] = ..., update_time: _Optional[int] = ...) -> None: ...

class ListMembersRequest(_message.Message):
    __slots__ = ("timeout_seconds",)
    TIMEOUT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    timeout_seconds: int
    def __init__(self, timeout_seconds: _Optional[int] = ...) -> None: ...

class ListMembersResponse(_message.Message):
    __slots__ = ("return_code", "return_msg", "members")
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    RETURN_MSG_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    return_code: ReturnStatus
    return_msg: str
    members: _containers.RepeatedCompositeFieldContainer[MemberProto]
    def __init__(self, return_code: _Optional[_Union[ReturnStatus, str]] = ..., return_msg: _Optional[str] = ..., members: _Optional[_Iterable[_Union[MemberProto, _Mapping]]] = ...) -> None: ...

class NotifyNewMemberRequest(_message.Message):
    __slots__ = ("member",)
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    member: MemberProto
    def __init__(self, member: _Optional[_Union[MemberProto, _Mapping]] = ...) -> None: ...

class ClientMeta(_message.Message):
    __slots__ = ("namespace", "sender")
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    namespace: str
    sender: str
    def __init__(self, namespace: _Optional[str] = ..., sender: _Optional[str] = ...) -> None: ...

class RegisterClientRequest(_message.Message):
    __slots__ = ("client_meta",)
    CLIENT_META_FIELD_NUMBER: _ClassVar[int]
    client_meta: ClientMeta
    def __init__(self, client_meta: _Optional[_Union[ClientMeta, _Mapping]] = ...) -> None: ...

class RegisterClientResponse(_message.Message):
    __slots__ = ("return_code", "return_msg", "client_id")
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    RETURN_MSG_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    return_code: ReturnStatus
    return_msg: str
    client_id: int
    def __init__(self, return_code: _Optional[_Union[ReturnStatus, str]] = ..., return_msg: _Optional[str] = ..., client_id: _Optional[int] = ...) -> None: ...

class ClientIdRequest(_message.Message):
    __slots__ = ("client_id",)
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    client_id: int
    def __init__(self, client_id: _Optional[int] = ...) -> None: ...

class isClientExistsResponse(_message.Message):
    __slots__ = ("return_code", "return_msg", "is_exists")
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    RETURN_MSG_FIELD_NUMBER: _ClassVar[int]
    IS_EXISTS_FIELD_NUMBER: _ClassVar[int]
    return_code: ReturnStatus
    return_msg: str
    is_exists: bool
    def __init__(self, return_code: _Optional[_Union[ReturnStatus, str]] = ..., return_msg: _Optional[str] = ..., is_exists: bool = ...) -> None: ...

class TimeToOffsetRequest(_message.Message):
    __slots__ = ("timestamp",)
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    timestamp: int
    def __init__(self, timestamp: _Optional[int] = ...) -> None: ...

class TimeToOffsetResponse(_message.Message):
    __slots__ = ("return_code", "offset")
    RETURN_CODE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    return_code: ReturnStatus
    offset: int
    def __init__(self, return_code: _Optional[_Union[ReturnStatus, str]] = ..., offset: _Optional[int] = ...) -> None: ...

class EventFilterProto(_message.Message):
    __slots__ = ("keys", "namespace", "sender", "types")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    namespace: str
    sender: str
    types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., namespace: _Optional[str] = ..., sender: _Optional[str] = ..., types: _Optional[_Iterable[str]] = ...) -> None: ...

class AppendEventsRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[EventProto]
    def __init__(self, events: _Optional[_Iterable[_Union[EventProto, _Mapping]]] = ...) -> None: ...

class EventList(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[EventProto]
    def __init__(self, events: _Optional[_Iterable[_Union[EventProto, _Mapping]]] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("filter", "start_offset", "start_time")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    START_OFFSET_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    filter: EventFilterProto
    start_offset: int
    start_time: int
    def __init__(self, filter: _Optional[_Union[EventFilterProto, _Mapping]] = ..., start_offset: _Optional[int] = ..., start_time: _Optional[int] = ...) -> None: ...

class EventBatch(_message.Message):
    __slots__ = ("events", "position", "head")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[EventProto]
    position: int
    head: int
    def __init__(self, events: _Optional[_Iterable[_Union[EventProto, _Mapping]]] = ..., position: _Optional[int] = ..., head: _Optional[int] = ...) -> None: ...

class ReadEventsRequest(_message.Message):
    __slots__ = ("filter", "after", "until", "limit")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    filter: EventFilterProto
    after: int
    until: int
    limit: int
    def __init__(self, filter: _Optional[_Union[EventFilterProto, _Mapping]] = ..., after: _Optional[int] = ..., until: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class CountBySenderRequest(_message.Message):
    __slots__ = ("filter", "after", "until")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    filter: EventFilterProto
    after: int
    until: int
    def __init__(self, filter: _Optional[_Union[EventFilterProto, _Mapping]] = ..., after: _Optional[int] = ..., until: _Optional[int] = ...) -> None: ...

class CountBySenderResponse(_message.Message):
    __slots__ = ("counts",)
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.ScalarMap[str, int]
    def __init__(self, counts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class GetHeadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OffsetAtRequest(_message.Message):
    __slots__ = ("time",)
    TIME_FIELD_NUMBER: _ClassVar[int]
    time: int
    def __init__(self, time: _Optional[int] = ...) -> None: ...

class OffsetResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class TruncateRequest(_message.Message):
    __slots__ = ("before",)
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    before: int
    def __init__(self, before: _Optional[int] = ...) -> None: ...

class TruncateResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    def __init__(self, deleted: _Optional[int] = ...) -> None: ...
