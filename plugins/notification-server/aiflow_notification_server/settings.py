"""Settings of the notification server: `$NOTIFICATION_HOME/notification_server.yaml`."""

from pathlib import Path
from typing import Annotated

import msgspec

from aiflow_core import config
from aiflow_core.config import Loaded, Port, Seconds, Settings, key

HOST_OF_ANY = ("", "0.0.0.0", "::", "[::]")

TITLE = "Settings of the notification server. ${NOTIFICATION_HOME} is the directory of this file."


class NotificationSettings(Settings, frozen=True, kw_only=True):
    """`notification_server.yaml`."""

    server_host: Annotated[
        str, key("address at which it listens; other machines reach it at `0.0.0.0`")
    ] = "127.0.0.1"
    server_port: Annotated[Port, key("port at which the server listens")] = 50052
    db_uri: Annotated[
        str,
        key(
            "database of the event log: `sqlite:////path`, `postgresql://user@host/name` or "
            "`mysql://user@host/name`"
        ),
    ] = "sqlite:///${NOTIFICATION_HOME}/ns.db"
    advertised_uri: Annotated[
        str, key("`host:port` at which clients reach the server, when it is not the above")
    ] = ""
    enable_ha: Annotated[
        bool,
        key(
            "whether other notification servers use the same database; each then tells clients of "
            "all of them, under their `advertised_uri`"
        ),
    ] = False
    ha_ttl_ms: Annotated[
        int,
        msgspec.Meta(gt=0),
        key("milliseconds after which a server that was not heard of counts as dead"),
    ] = 10_000
    wait_for_server_started_timeout: Annotated[
        Seconds, key("seconds that `notification server start -d` waits until the server is ready")
    ] = 60.0

    @property
    def server_uri(self) -> str:
        """`host:port` at which a client on this machine reaches the server."""
        host = "localhost" if self.server_host in HOST_OF_ANY else self.server_host
        return self.advertised_uri or f"{host}:{self.server_port}"


def home() -> Path:
    """The directory of the server's own files, `$NOTIFICATION_HOME`."""
    return config.home("NOTIFICATION_HOME", "~/notification_service")


def settings_file() -> Path:
    """Where the settings stand."""
    return home() / "notification_server.yaml"


def read_settings() -> Loaded[NotificationSettings]:
    """The settings in effect (the file, the variables `AIFLOW__NOTIFICATION__<KEY>`, defaults), and
    where each comes from."""
    return config.read(
        settings_file(),
        NotificationSettings,
        section="NOTIFICATION",
        variables={"NOTIFICATION_HOME": str(home())},
    )


def settings() -> NotificationSettings:
    """The settings in effect."""
    return read_settings().settings
