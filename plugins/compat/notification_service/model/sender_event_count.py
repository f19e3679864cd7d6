"""Counts of events under the import names of AIFlow 0.4."""

from aiflow_notification_server.client import SenderEventCount

__all__ = ["SenderEventCount"]
