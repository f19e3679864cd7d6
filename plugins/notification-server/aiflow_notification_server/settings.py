"""Settings of the notification server: `$NOTIFICATION_HOME/notification_server.yaml`."""

from pathlib import Path
from typing import Annotated

import msgspec

from aiflow_core import config
from aiflow_core.config import Port, Settings

HOST_OF_ANY = ("", "0.0.0.0", "::", "[::]")

FILE = """\
# Settings of the notification server. ${NOTIFICATION_HOME} is the directory of this file.

# address at which the server listens; others than this machine reach it at 0.0.0.0
server_host: 127.0.0.1
server_port: 50052

# database of the events: sqlite:////path, postgresql://user@host/name or mysql://user@host/name
db_uri: sqlite:///${NOTIFICATION_HOME}/ns.db

# host:port at which clients reach this server, when it is not the above
advertised_uri:

# whether other notification servers use the same database; each then tells clients of all of them,
# under their `advertised_uri`
enable_ha: False

# milliseconds after which a server that was not heard of counts as dead
ha_ttl_ms: 10000

# seconds that `notification server start -d` waits until the server is ready
wait_for_server_started_timeout: 60.0
"""


class NotificationSettings(Settings, frozen=True, kw_only=True):
    """`notification_server.yaml`; `FILE` says what each key is for."""

    server_host: str = "127.0.0.1"
    server_port: Port = 50052
    db_uri: str = "sqlite:///${NOTIFICATION_HOME}/ns.db"
    advertised_uri: str = ""
    wait_for_server_started_timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0
    enable_ha: bool = False
    ha_ttl_ms: Annotated[int, msgspec.Meta(gt=0)] = 10_000

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


def settings() -> NotificationSettings:
    """The settings in effect: the file, the variables `AIFLOW__NOTIFICATION__<KEY>`, defaults."""
    return config.load(
        settings_file(),
        NotificationSettings,
        section="NOTIFICATION",
        variables={"NOTIFICATION_HOME": str(home())},
    )
