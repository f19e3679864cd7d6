"""The import names of the notification service of AIFlow 0.4."""

from importlib import import_module

import pytest

from aiflow_core.model import event
from aiflow_notification_server import client


@pytest.mark.parametrize(
    ("module", "name", "found"),
    [
        ("notification_service.model.event", "Event", event.Event),
        ("notification_service.model.event", "ANY_CONDITION", "*"),
        ("notification_service.model.event", "DEFAULT_NAMESPACE", "DEFAULT"),
        (
            "notification_service.model.sender_event_count",
            "SenderEventCount",
            client.SenderEventCount,
        ),
        *(
            ("notification_service.client.notification_client", name, getattr(client, name))
            for name in ("NotificationClient", "ListenerProcessor", "ListenerRegistrationId")
        ),
        (
            "notification_service.client.embedded_notification_client",
            "EmbeddedNotificationClient",
            client.EmbeddedNotificationClient,
        ),
        ("ai_flow.notification.notification_client", "Event", event.Event),
        *(
            ("ai_flow.notification.notification_client", name, getattr(client, name))
            for name in (
                *("AIFlowNotificationClient", "ListenerProcessor", "ListenerRegistrationId"),
            )
        ),
    ],
)
def test_a_name_of_0_4_is_what_it_is_now(module: str, name: str, found: object) -> None:
    assert getattr(import_module(module), name) == found


def test_an_event_is_made_of_key_and_value() -> None:
    from notification_service.model.event import Event

    made = Event("k", "v")

    assert (made.key, made.value, made.offset) == ("k", "v", 0)


def test_a_member_is_plain_data() -> None:
    from notification_service.model.member import Member

    assert Member(1, "localhost:50052", 5).server_uri == "localhost:50052"
