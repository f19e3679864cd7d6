"""What clients of a notification service have in common, under the import names of AIFlow 0.4."""

from aiflow_notification_server.client import (
    ListenerProcessor,
    ListenerRegistrationId,
    NotificationClient,
)

__all__ = ["ListenerProcessor", "ListenerRegistrationId", "NotificationClient"]
