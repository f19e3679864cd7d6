"""An SFTP server with two users, of whom one may only read. Needs `asyncssh`."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiflow_core.testing.stores.process import free_port, serving

PASSWORDS = {"writer": "the password of the writer", "reader": "the password of the reader"}


@dataclass(frozen=True, kw_only=True)
class SftpServer:
    """A running server."""

    port: int

    def settings(self, user: str = "writer", **options: Any) -> dict[str, Any]:
        """What fsspec's `sftp` takes."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "username": user,
            "password": PASSWORDS[user],
            "look_for_keys": False,
            "allow_agent": False,
            **options,
        }


@contextlib.contextmanager
def sftp_server(directory: Path) -> Iterator[SftpServer]:
    """A server that shows `directory` as its root."""
    port = free_port()
    (directory / "root").mkdir()
    command = [sys.executable, "-m", __name__, str(port), str(directory / "root")]
    with serving(command, port, directory / "sftp.log"):
        yield SftpServer(port=port)


async def main(port: int, directory: str) -> None:
    """Serve until the process is ended."""
    import asyncssh

    class Server(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return PASSWORDS.get(username) == password

    class Files(asyncssh.SFTPServer):
        def __init__(self, channel: Any) -> None:
            self._writes = channel.get_extra_info("username") == "writer"
            super().__init__(channel, chroot=os.fsencode(directory))

        def _check(self) -> None:
            if not self._writes:
                raise asyncssh.SFTPPermissionDenied("This user may only read")

        def open(self, path: bytes, pflags: int, attrs: Any) -> Any:
            if pflags & (asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC):
                self._check()
            return super().open(path, pflags, attrs)

        def remove(self, path: bytes) -> Any:
            self._check()
            return super().remove(path)

        def mkdir(self, path: bytes, attrs: Any) -> Any:
            self._check()
            return super().mkdir(path, attrs)

        def posix_rename(self, old: bytes, new: bytes) -> Any:
            self._check()
            return super().posix_rename(old, new)

    await asyncssh.create_server(
        Server,
        "127.0.0.1",
        port,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=Files,
        allow_scp=False,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
