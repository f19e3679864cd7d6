"""Zip archives of files and directories: packed the same way each time, extracted without trust.

Whoever unpacks an archive did not make it: nothing in it may lead out of the directory that it is
given, exhaust memory or disk, or be anything but plain files and directories.
"""

import hashlib
import os
import re
import shutil
import stat
import struct
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from aiflow_core.errors import UsageError

MAX_BYTES = 2 * 1024**3
"""What an archive may hold, unpacked. Of this size none needs the 64-bit extensions."""

MAX_ENTRIES = 20_000
"""How many files and directories an archive may hold."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1024 * 1024
_MAX_DIRECTORY_BYTES = 16 * 1024**2
_END = struct.Struct("<4s4H2LH")


def pack(entries: Mapping[str, Path], directory: str | Path) -> Path:
    """Put files and directories into an archive in `directory`, each under its name in `entries`
    (of a directory with a closing `/`), and return its path, `<sha256>.zip`.

    The same content is the same archive, byte by byte. `UsageError` when something is neither file
    nor directory, when names collide, or when it is more than an archive may hold.
    """
    _check_names(entries)
    _check_extent(len(entries), sum(f.stat().st_size for f in entries.values() if f.is_file()))
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f".{uuid.uuid4().hex}.zip"
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(entries):
                _add(archive, name, entries[name])
        return draft.rename(directory / f"{sha256(draft)}.zip")
    finally:
        draft.unlink(missing_ok=True)


def entries_under(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """All that is in a directory, as entries for `pack` below `name`, or at the top when that is
    empty: symbolic links as what they point to, `__pycache__` left out. `UsageError` for a link
    that leads back to a directory that holds it."""
    parents = {folder.resolve()}
    for place, folders, files in os.walk(folder, followlinks=True):
        here = Path(place)
        prefix = Path(name) / here.relative_to(folder)
        if prefix != Path():
            yield f"{prefix.as_posix()}/", here
        folders[:] = [f for f in folders if f != "__pycache__"]
        for sub in folders:
            if (here / sub).is_symlink() and (here / sub).resolve() in {
                *parents,
                *here.resolve().parents,
                here.resolve(),
            }:
                raise UsageError(f"The link {here / sub} leads back to a directory that holds it.")
        for file in files:
            yield (prefix / file).as_posix(), here / file


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def extract(archive: str | Path, directory: str | Path) -> Path:
    """Unpack an archive into `directory`, which appears whole or not at all, and return it.

    Nothing happens when the directory is there already; concurrent callers do not disturb one
    another. The archive is not trusted: `UsageError` when it is damaged, larger than an archive
    may be, encrypted, or when it holds anything but plain files and directories of clear names.
    """
    archive, directory = Path(archive), Path(directory)
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = directory.parent / f".{directory.name}.{uuid.uuid4().hex}"
    draft.mkdir(mode=0o700)
    try:
        _unpack(archive, draft)
        try:
            draft.rename(directory)
        except OSError:
            # Another caller was faster; a rename does not replace a directory that holds files.
            if not directory.is_dir():
                raise
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError),
        *(UnicodeError, FileExistsError, NotADirectoryError, IsADirectoryError),
    ) as error:
        raise UsageError(f"{archive.name} is not a sound archive: {error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return directory


def _add(archive: zipfile.ZipFile, name: str, file: Path) -> None:
    mode = file.stat().st_mode
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # Unix, whatever this machine is: the permissions are read as such
    info.external_attr = (stat.S_IFMT(mode) | stat.S_IMODE(mode) & 0o777) << 16
    if stat.S_ISDIR(mode):
        archive.writestr(info, b"")
        return
    if not stat.S_ISREG(mode):
        raise UsageError(f"{file} is neither a file nor a directory.")
    info.compress_type = zipfile.ZIP_DEFLATED
    with file.open("rb") as source, archive.open(info, "w") as target:
        shutil.copyfileobj(source, target, _CHUNK)


def _unpack(archive: Path, target: Path) -> None:
    _check_index(archive)
    with zipfile.ZipFile(archive) as source:
        infos = source.infolist()
        _check_extent(len(infos), sum(info.file_size for info in infos))
        names = [info.orig_filename for info in infos]
        if len(set(names)) < len(names):
            raise UsageError(f"{archive.name} holds two entries of one name.")
        _check_names(names)
        for info in infos:
            _check_kind(info)
        for info in infos:
            path = target / info.orig_filename
            mode = info.external_attr >> 16 & 0o777
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                path.chmod(mode | 0o700)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            with source.open(info) as packed, path.open("xb") as file:
                shutil.copyfileobj(packed, file, _CHUNK)
                if file.tell() != info.file_size:
                    raise zipfile.BadZipFile(f"{info.filename!r} is not as long as it says")
                os.fchmod(file.fileno(), mode | 0o600)
                file.flush()
                os.fsync(file.fileno())


def _check_index(archive: Path) -> None:
    """Refuse a list of entries that would exhaust memory before anyone could count them.

    Looks where `zipfile` looks: at the very end, and else for the last mark before a comment.
    """
    size = archive.stat().st_size
    with archive.open("rb") as file:
        file.seek(max(0, size - _END.size - 0xFFFF - 20))
        tail = file.read()
    start = len(tail) - _END.size
    if not (tail[start : start + 4] == b"PK\5\6" and tail.endswith(b"\0\0")):
        start = tail.rfind(b"PK\5\6")
    if start < 0 or len(tail) - start < _END.size:
        raise UsageError(f"{archive.name} is not a zip archive.")
    record = _END.unpack_from(tail, start)
    if tail[max(0, start - 20) : start].startswith(b"PK\6\7"):
        raise UsageError(f"{archive.name} is larger than an archive may be.")
    if record[5] > _MAX_DIRECTORY_BYTES:
        raise UsageError(f"{archive.name} holds more entries than an archive may.")


def _check_extent(entries: int, size: int) -> None:
    if entries > MAX_ENTRIES:
        raise UsageError(f"An archive holds at most {MAX_ENTRIES} files, not {entries}.")
    if size > MAX_BYTES:
        raise UsageError(
            f"An archive holds at most {MAX_BYTES} bytes, not {size}.",
            next_step="Keep large data elsewhere and read it from there.",
        )


def _check_kind(info: zipfile.ZipInfo) -> None:
    kind, special = stat.S_IFMT(info.external_attr >> 16), info.external_attr >> 16 & 0o7000
    if info.flag_bits & 0x1:
        raise UsageError(f"The archive's entry {info.filename!r} is encrypted.")
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG) or special:
        raise UsageError(f"The archive's entry {info.filename!r} is not a plain file.")


def _check_names(names: Iterable[str]) -> None:
    """Refuse names that lead out of the directory or that not every file system can tell apart."""
    seen: dict[str, str] = {}
    for name in names:
        path = name.removesuffix("/")
        parts = path.split("/")
        if (
            any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts)
            or re.search(r"[\\\x00-\x1f]|^[A-Za-z]:", path)
            or len(path.encode()) > 1024
        ):
            raise UsageError(f"{name!r} is not a name for an entry of an archive.")
        folded = unicodedata.normalize("NFC", path).casefold()
        if folded in seen:
            raise UsageError(
                f"The archive's entries {seen[folded]!r} and {name!r} differ in nothing but case "
                "or accents.",
                next_step="Rename one of them.",
            )
        seen[folded] = name
