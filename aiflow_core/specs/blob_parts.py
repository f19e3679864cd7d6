"""Blob managers whose store takes large files in parts, as object stores do."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping

import msgspec

from aiflow_core.errors import ConflictError, UnavailableError
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.blob_transfer import Counter, Source, in_parallel, ranges

_MAX_PARTS = 10_000
_MIB = 1024**2


class Part(msgspec.Struct, frozen=True):
    """A part that the store has.

    Attributes:
        tag: what the store calls this content; of most stores the MD5 in hexadecimal digits.
        size: bytes.
    """

    tag: str
    size: int


class PartsBlobManager(BlobManager):
    """Small files are sent as one object, large ones as parts side by side.

    An upload that was interrupted is gone on with, here or on another machine: under the key of an
    unfinished upload can be nothing but parts of the same content, which are compared all the same.

    Attributes:
        part_bytes: the size of a part, and of the largest file that is not sent in parts; larger
            for a file of more than 10,000 such parts.
    """

    part_bytes = 8 * _MIB

    def _put(self, key: str, source: Source, count: Counter) -> None:
        if source.size <= self.part_bytes:
            self._put_whole(key, source.read(0, source.size))
        else:
            self._put_parts(key, source, count)

    def _put_parts(self, key: str, source: Source, count: Counter) -> None:
        upload = self._unfinished(key)
        stored = self._parts(key, upload) if upload else {}
        upload = upload or self._begin(key)

        def send(numbered: tuple[int, tuple[int, int]]) -> tuple[int, str]:
            number, (start, stop) = numbered
            content = source.read(start, stop)
            part = stored.get(number)
            tag = part.tag if part and _is_same(part, content) else ""
            if not tag:
                tag = self._persistently(lambda: self._put_part(key, upload, number, content))
            count(len(content))
            return number, tag

        try:
            pieces = enumerate(ranges(source.size, self._part_size(source.size)), start=1)
            tags = dict(in_parallel(send, pieces, self.connections))
            source.check()
        except ConflictError:
            self._abort(key, upload)
            raise
        self._finish(key, upload, tags)

    def _part_size(self, size: int) -> int:
        least = -(-size // _MAX_PARTS)
        return max(self.part_bytes, -(-least // _MIB) * _MIB)

    def _ended(self) -> UnavailableError:
        """To be raised by hooks for an upload that is no more: another has finished it, or it was
        cleaned up. The next try finds the file, or begins anew."""
        return UnavailableError(
            f"An upload to {self._root} was ended by somebody else.",
            next_step="Look whether something cleans up unfinished uploads that are still young.",
        )

    @abstractmethod
    def _put_whole(self, key: str, content: bytes) -> None:
        """Store an object of at most `part_bytes`."""

    @abstractmethod
    def _unfinished(self, key: str) -> str:
        """The id of an upload under exactly this key that was begun and not finished; else ''."""

    @abstractmethod
    def _begin(self, key: str) -> str:
        """Begin an upload and return its id."""

    @abstractmethod
    def _parts(self, key: str, upload: str) -> Mapping[int, Part]:
        """The parts of it that have arrived."""

    @abstractmethod
    def _put_part(self, key: str, upload: str, number: int, content: bytes) -> str:
        """Send a part, in place of one that may be there, and return its tag."""

    @abstractmethod
    def _finish(self, key: str, upload: str, tags: Mapping[int, str]) -> None:
        """Make the parts the object: now it is visible."""

    @abstractmethod
    def _abort(self, key: str, upload: str) -> None:
        """Give an upload up; its parts are removed."""


def _is_same(part: Part, content: bytes) -> bool:
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return part.size == len(content) and part.tag.strip('"').lower() == digest
