"""`ai_flow.notification.notification_client`, as one page of the manual misprints it."""

from ai_flow.notification.notification_client import (
    AIFlowNotificationClient,
    Event,
    ListenerProcessor,
    ListenerRegistrationId,
)

__all__ = ["AIFlowNotificationClient", "Event", "ListenerProcessor", "ListenerRegistrationId"]
