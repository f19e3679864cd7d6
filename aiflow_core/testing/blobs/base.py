"""What the parts of the contract suite of blob managers have in common."""

import random
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import pytest

from aiflow_core.clock import Clock
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.blob_transfer import Counter, Source

Make = Callable[[str], BlobManager]
"""Makes another manager of the same store with the root directory of that name."""

DAY_MS = 86_400_000


class QuickClock(Clock):
    """Does not pause, and notes how long it should have.

    Attributes:
        pauses: seconds, in order.
    """

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def wait(self, event: threading.Event, seconds: float | None) -> bool:
        self.pauses.append(seconds or 0)
        return event.is_set()


class BlobContract(ABC):
    """What a part of the suite needs. The root directories of one test hold nothing yet."""

    @pytest.fixture
    @abstractmethod
    def make(self, tmp_path: Path) -> Make:
        """Makes managers of one store; those of one root see the same files."""

    @pytest.fixture
    def blobs(self, make: Make) -> BlobManager:
        return make("root")

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return written(tmp_path / "flow.zip", b"content" * 1000)

    @pytest.fixture
    def large(self, blobs: BlobManager, tmp_path: Path) -> Path:
        """A file that goes up and comes down in more than one piece, if this store does that."""
        size = 2 * getattr(blobs, "part_bytes", 2**20) + 4321
        blobs.range_bytes = size // 3
        return written(tmp_path / "large.bin", pattern(size))


def written(path: Path, content: bytes) -> Path:
    """The path, after the content was written to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pattern(size: int) -> bytes:
    """Bytes of which no two pieces are alike."""
    return random.Random(size).randbytes(size)


def damage(blobs: BlobManager, uri: str, content: bytes, directory: Path) -> None:
    """Store something else under the uri, past all that a manager takes care of."""
    source = Source(written(directory / "damage", content))
    blobs._put(blobs._key(uri), source, Counter(source.size, None))


def inside(directory: Path) -> list[Path]:
    """What is in the directory, if there is one."""
    return sorted(directory.iterdir()) if directory.exists() else []
