"""Lines between parts of a deployment, which can be cut, slowed down and half lost.

What TCP promises stays promised: no byte is lost from the middle of a connection that goes on, as
no byte would be when a network lost packets; they come later, or the connection ends.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Self

_CHUNK = 65536
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Fault(StrEnum):
    """What may be wrong with a line.

    SILENT: nothing passes; DEAF: nothing passes to the server; MUTE: nothing passes back from it;
    SLOW: each piece takes up to half a second; RESET: connections are reset, new ones too;
    HALF_OPEN: the server's side is gone, and the client's side has not been told.
    """

    SILENT = "silent"
    DEAF = "deaf"
    MUTE = "mute"
    SLOW = "slow"
    RESET = "reset"
    HALF_OPEN = "half-open"


_HELD_TO_SERVER = {Fault.SILENT, Fault.DEAF}
_HELD_TO_CLIENT = {Fault.SILENT, Fault.MUTE}


class Network:
    """All lines of a deployment, in a thread of their own; a context manager.

    Args:
        delay: seconds that the next piece takes on a line that is SLOW.
    """

    def __init__(self, delay: Callable[[], float]) -> None:
        self.delay = delay
        self.lines: dict[str, Line] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="network", daemon=True)

    def line(self, name: str, host: str, port: int, at: str = "127.0.0.1") -> int:
        """Lay a line to a server; the port at which it begins."""
        line = Line(self, host, port)
        self.lines[name] = line
        return asyncio.run_coroutine_threadsafe(line.open(at), self._loop).result()

    def trouble(self, name: str, fault: Fault | None) -> None:
        """Let a line have a fault, or none."""
        changed = threading.Event()
        self._loop.call_soon_threadsafe(self.lines[name].have, fault)
        self._loop.call_soon_threadsafe(changed.set)
        changed.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        for line in self.lines.values():
            line.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Line:
    """One of them. All methods are for the thread of the network."""

    def __init__(self, network: Network, host: str, port: int) -> None:
        self._network = network
        self._target = (host, port)
        self._fault: Fault | None = None
        self._changed = asyncio.Event()
        self._sides: dict[str, set[asyncio.StreamWriter]] = {"client": set(), "server": set()}
        self._server: asyncio.Server | None = None

    async def open(self, at: str) -> int:
        """Begin to listen; the port."""
        self._server = await asyncio.start_server(self._connect, at, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """End it, with all that goes over it."""
        if self._server is not None:
            self._server.close()
        self._reset("client", "server")

    def have(self, fault: Fault | None) -> None:
        """Have a fault, or none any more."""
        healed, self._fault = self._fault, fault
        if fault is Fault.RESET:
            self._reset("client", "server")
        elif fault is Fault.HALF_OPEN:
            self._reset("server")
        elif healed is Fault.HALF_OPEN:
            # Whoever still believes in a connection is told when he next says something; at once
            # is the same to him, only sooner.
            self._reset("client")
        self._changed.set()
        self._changed = asyncio.Event()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._fault is Fault.RESET:
            _reset(writer)
            return
        self._sides["client"].add(writer)
        try:
            while self._fault in (Fault.SILENT, Fault.HALF_OPEN):
                await self._changed.wait()
            with suppress(OSError):
                back, forth = await asyncio.open_connection(*self._target)
                self._sides["server"].add(forth)
                try:
                    await asyncio.gather(
                        self._pump(reader, forth, _HELD_TO_SERVER),
                        self._pump(back, writer, _HELD_TO_CLIENT),
                    )
                finally:
                    self._sides["server"].discard(forth)
                    forth.close()
        finally:
            self._sides["client"].discard(writer)
            writer.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, held: set[Fault]
    ) -> None:
        """Pass on what comes, until it ends; while it is held, later."""
        while True:
            data = await self._read(source)
            while self._fault in held or self._fault is Fault.HALF_OPEN:
                await self._changed.wait()
            if self._fault is Fault.SLOW:
                await asyncio.sleep(self._network.delay())
            if not data:
                break
            sink.write(data)
            await sink.drain()
        with suppress(OSError):
            sink.write_eof()

    @staticmethod
    async def _read(source: asyncio.StreamReader) -> bytes:
        """The next piece; nothing when the connection has ended, however it did."""
        with suppress(OSError):
            return await source.read(_CHUNK)
        return b""

    def _reset(self, *sides: str) -> None:
        for side in sides:
            for writer in self._sides[side]:
                _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with suppress(OSError):  # it has ended by itself
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    writer.transport.abort()
