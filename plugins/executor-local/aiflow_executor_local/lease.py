"""The lease on attempts: until when they may run, as long as nobody says more.

It is a moment of this machine's monotonic clock, which all processes of the machine share, so that
a message about it loses nothing of its meaning by arriving late.
"""

import math
import mmap
import os
import struct

from aiflow_core.clock import Clock
from aiflow_core.errors import UnavailableError

LOST = (
    "lost its lease: its server could not say in time that the attempt is still its own, so that "
    "another server may have taken it over"
)

_MOMENT = struct.Struct("d")


class Deadline:
    """When the children of a zygote must end, `math.inf` for never.

    The zygote sets it in memory that it shares with them: a child looks right before it runs the
    user's code, and has nobody to ask whom it would have to wait for.
    """

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: the memory of another process's `Deadline`."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _MOMENT.size)

    @classmethod
    def create(cls) -> "Deadline":
        descriptor = os.memfd_create("aiflow-deadline")
        os.ftruncate(descriptor, _MOMENT.size)
        deadline = cls(descriptor)
        deadline.set(math.inf)
        return deadline

    def get(self) -> float:
        return float(_MOMENT.unpack_from(self._memory)[0])

    def set(self, until: float) -> None:
        _MOMENT.pack_into(self._memory, 0, until)

    def check(self) -> None:
        """`UnavailableError` when it has passed."""
        if Clock().monotonic() >= self.get():
            raise UnavailableError(LOST)
