"""The client of the notification server under the import names of AIFlow 0.4."""

from aiflow_notification_server.client import EmbeddedNotificationClient

__all__ = ["EmbeddedNotificationClient"]
