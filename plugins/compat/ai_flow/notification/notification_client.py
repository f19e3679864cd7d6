"""Sending and listening to events in a task, under the import names of AIFlow 0.4."""

from aiflow_core.model.event import Event
from aiflow_notification_server.client import (
    AIFlowNotificationClient,
    ListenerProcessor,
    ListenerRegistrationId,
)

__all__ = ["AIFlowNotificationClient", "Event", "ListenerProcessor", "ListenerRegistrationId"]
