"""Stores that are away, lines that are cut, writers that die, content that rots."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from aiflow_core.errors import (
    AIFlowError,
    DamagedError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from aiflow_core.specs.blob_manager import BlobManager
from aiflow_core.specs.blob_transfer import CHUNK, Source
from aiflow_core.testing.blobs.base import (
    BlobContract,
    Make,
    QuickClock,
    damage,
    inside,
    pattern,
    written,
)


class Killed(BaseException):
    """What happens to a writer whose process ends: no `except Exception` is asked."""


class FaultsContract(BlobContract):
    # --- a store that does not answer ------------------------------------------------------------

    @pytest.mark.parametrize("hook", ["_put", "_read", "_stat", "_list", "_delete"])
    def test_a_store_that_is_away_for_a_moment_is_asked_again(
        self, blobs: BlobManager, file: Path, tmp_path: Path, hook: str
    ) -> None:
        blobs.clock = clock = QuickClock()
        uri = blobs.upload(file)
        failing(blobs, hook, UnavailableError("It is away."), times=4)

        calls: dict[str, Callable[[], Any]] = {
            "_put": lambda: blobs.upload(file),
            "_read": lambda: blobs.download(uri, tmp_path / "d"),
            "_stat": lambda: blobs.download(uri, tmp_path / "d"),
            "_list": lambda: next(blobs.list_blobs()),
            "_delete": lambda: blobs.delete(uri),
        }
        calls[hook]()

        assert len(clock.pauses) == 4
        assert all(b > a / 2 for a, b in pairwise(clock.pauses))
        assert clock.pauses[3] > 2 * clock.pauses[0], "they grow"

    def test_a_store_that_stays_away_is_reported(self, blobs: BlobManager, file: Path) -> None:
        blobs.clock = clock = QuickClock()
        failing(blobs, "_put", UnavailableError("It is away.", next_step="Wait."), times=99)

        with pytest.raises(UnavailableError) as caught:
            blobs.upload(file)
        assert caught.value.next_step
        assert len(clock.pauses) == 4

    def test_what_is_wrong_is_not_asked_again(self, blobs: BlobManager, file: Path) -> None:
        blobs.clock = clock = QuickClock()
        failing(blobs, "_put", UsageError("It is wrong."), times=1)

        with pytest.raises(UsageError, match="It is wrong"):
            blobs.upload(file)
        assert not clock.pauses

    def test_a_download_goes_on_where_the_line_was_cut(
        self, blobs: BlobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = pattern(2 * CHUNK + 999)
        uri = blobs.upload(written(tmp_path / "file", content))
        blobs.clock = QuickClock()
        read, begins = blobs._read, []

        def cut(key: str, start: int, stop: int) -> Iterator[bytes]:
            begins.append(start)
            chunks = read(key, start, stop)
            if len(begins) < 3:
                yield next(chunks)[:1000]
                raise UnavailableError("The line was cut.")
            yield from chunks

        monkeypatch.setattr(blobs, "_read", cut)

        assert blobs.download(uri, tmp_path / "d").read_bytes() == content
        assert begins[:3] == [0, 1000, 2000]

    def test_a_store_that_sends_too_little_is_asked_for_the_rest(
        self, blobs: BlobManager, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = blobs.upload(file)
        blobs.clock = QuickClock()
        read = blobs._read

        def short(key: str, start: int, stop: int) -> Iterator[bytes]:
            return read(key, start, max(start + 1, (start + stop) // 2))

        monkeypatch.setattr(blobs, "_read", short)
        monkeypatch.setattr(blobs, "_attempts", 20)

        assert blobs.download(uri, tmp_path / "d").read_bytes() == file.read_bytes()

    def test_listing_goes_on_after_the_last_that_was_listed(
        self, blobs: BlobManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(10):
            blobs.upload(written(tmp_path / "n", str(n).encode()))
        expected = list(blobs.list_blobs())
        blobs.clock = QuickClock()
        listed, asked = blobs._list, []

        def cut(prefix: str, after: str) -> Iterator[Any]:
            asked.append(after)
            found = listed(prefix, after)
            if len(asked) < 3:
                yield from [next(found), next(found)]
                raise UnavailableError("The line was cut.")
            yield from found

        monkeypatch.setattr(blobs, "_list", cut)

        assert list(blobs.list_blobs()) == expected
        assert len(asked) == 3

    # --- writers that die ------------------------------------------------------------------------

    def test_an_upload_that_was_interrupted_leaves_nothing_visible(
        self,
        make: Make,
        blobs: BlobManager,
        large: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        expected = blobs.upload(large)
        blobs.delete(expected)
        with monkeypatch.context() as patch:
            dying(patch)
            with pytest.raises(Killed):
                blobs.upload(large)

        assert not list(make("root").list_blobs())
        with pytest.raises(NotFoundError):
            make("root").download(expected, tmp_path / "d")

    def test_an_upload_that_was_interrupted_can_be_done_by_another(
        self,
        make: Make,
        blobs: BlobManager,
        large: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with monkeypatch.context() as patch:
            dying(patch)
            with pytest.raises(Killed):
                blobs.upload(large)
        uri = make("root").upload(large)

        assert blobs.download(uri, tmp_path / "d").read_bytes() == large.read_bytes()
        assert [blob.size for blob in blobs.list_blobs()] == [large.stat().st_size]

    def test_an_interrupted_upload_of_what_is_there_takes_nothing_away(
        self, blobs: BlobManager, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = blobs.upload(large)
        with monkeypatch.context() as patch:
            dying(patch)
            patch.setattr(blobs, "_is_there", lambda *_: False)
            with pytest.raises(Killed):
                blobs.upload(large)

        assert blobs.download(uri, tmp_path / "d").read_bytes() == large.read_bytes()

    def test_a_download_that_was_interrupted_leaves_nothing(
        self, blobs: BlobManager, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = blobs.upload(file)

        def dies(*_: Any) -> Iterator[bytes]:
            yield b"x"
            raise Killed

        monkeypatch.setattr(blobs, "_read", dies)
        with pytest.raises(Killed):
            blobs.download(uri, tmp_path / "d")
        assert not inside(tmp_path / "d")

    # --- content that rots -----------------------------------------------------------------------

    @pytest.mark.parametrize(
        "rot",
        [
            pytest.param(lambda content: content[:-1] + b"?", id="one byte"),
            pytest.param(lambda content: content[: len(content) // 2], id="half of it"),
            pytest.param(lambda content: content + b"more", id="something more"),
            pytest.param(lambda content: b"", id="nothing"),
            pytest.param(lambda content: bytes(len(content)), id="zeros"),
        ],
    )
    def test_what_is_damaged_is_not_delivered(
        self,
        blobs: BlobManager,
        file: Path,
        tmp_path: Path,
        rot: Callable[[bytes], bytes],
    ) -> None:
        blobs.range_bytes = 3000
        uri = blobs.upload(file)
        damage(blobs, uri, rot(file.read_bytes()), tmp_path / "rot")

        with pytest.raises(DamagedError, match="damaged") as caught:
            blobs.download(uri, tmp_path / "d")
        assert "Delete it" in caught.value.next_step
        assert not inside(tmp_path / "d")

    def test_what_was_damaged_is_whole_after_another_upload(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload(file)
        damage(blobs, uri, b"rotten", tmp_path / "rot")
        blobs.delete(uri)

        assert blobs.download(blobs.upload(file), tmp_path / "d").read_bytes() == file.read_bytes()

    def test_a_local_directory_that_cannot_be_made_is_reported(
        self, blobs: BlobManager, file: Path, tmp_path: Path
    ) -> None:
        uri = blobs.upload(file)

        with pytest.raises(AIFlowError) as caught:
            blobs.download(uri, file / "below a file")
        assert caught.value.next_step


def failing(blobs: BlobManager, hook: str, error: Exception, times: int) -> None:
    """Let a hook raise that often before it does what it does."""
    does, left = getattr(blobs, hook), [times]

    def fails(*args: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return does(*args)

    setattr(blobs, hook, fails)


def dying(patch: pytest.MonkeyPatch) -> None:
    """Let whoever reads a local file die when half of it is read."""
    chunks, read = Source.chunks, Source.read

    def half(self: Source) -> Iterator[bytes]:
        done = 0
        for chunk in chunks(self):
            if done > self.size // 2:
                raise Killed
            yield chunk
            done += len(chunk)

    def first_half(self: Source, start: int, stop: int) -> bytes:
        if stop > self.size // 2:
            raise Killed
        return read(self, start, stop)

    patch.setattr(Source, "chunks", half)
    patch.setattr(Source, "read", first_half)
