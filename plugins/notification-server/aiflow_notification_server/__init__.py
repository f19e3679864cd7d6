"""The notification server: serves an event store over gRPC, and is its client."""

aiflow_api = ">=1,<2"

# Names are resolved on first use: a client must not pay for the server, nor the reverse.
_PUBLIC = {
    # serving a log
    "NotificationEndpoint": "aiflow_notification_server.endpoint",
    # using a log that is served
    "RemoteEventStore": "aiflow_notification_server.event_store",
    # sending and listening to events
    "AIFlowNotificationClient": "aiflow_notification_server.client",
    "EmbeddedNotificationClient": "aiflow_notification_server.client",
    "ListenerProcessor": "aiflow_notification_server.client",
    "ListenerRegistrationId": "aiflow_notification_server.client",
    "NotificationClient": "aiflow_notification_server.client",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'aiflow_notification_server' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)
