"""Members of a group of notification servers under the import names of AIFlow 0.4."""

from dataclasses import dataclass


@dataclass
class Member:
    """A notification server; `update_time`, in milliseconds since the epoch, is when it was last
    known to be alive."""

    version: int
    server_uri: str
    update_time: int
