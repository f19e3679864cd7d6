"""How many attempts may run at once."""

import asyncio
from collections import deque


class Slots:
    """A semaphore that is fair, and that can be overdrawn by what runs already."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken(self) -> int:
        """How many are taken, also beyond their number."""
        return self._count - self._free

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return sum(not turn.done() for turn in tuple(self._waiting))

    async def acquire(self) -> None:
        """Wait for a slot; those who came first are served first."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def overdraw(self) -> None:
        """Take a slot even if none is free."""
        self._free -= 1

    def release(self) -> None:
        """Give a slot back."""
        self._free += 1
        self._serve()

    def _serve(self) -> None:
        while self._free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
