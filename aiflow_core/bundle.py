"""Workflow files: loaded as modules, packed for the journey, unpacked where tasks run.

Loading executes user code. Only a client, a task's process and a condition host do it; servers
pack nothing, load nothing, and at most extract.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import stat
import struct
import sys
import tempfile
import traceback
import unicodedata
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from aiflow_core.errors import AIFlowError, DefinitionError, UnavailableError, UsageError
from aiflow_core.model.execution import BundleRef
from aiflow_core.model.workflow import Workflow, WorkflowDefinition, check_name
from aiflow_core.specs.blob_manager import BlobManager

MAX_BYTES = 2 * 1024**3
"""What a bundle may hold, unpacked. Of this size no archive needs the 64-bit extensions."""

MAX_ENTRIES = 20_000
"""How many files and directories a bundle may hold."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK = 1024 * 1024
_MAX_DIRECTORY_BYTES = 16 * 1024**2
_END = struct.Struct("<4s4H2LH")


# --- loading -----------------------------------------------------------------------------------


def load_workflows(path: str | Path, root: str | Path | None = None) -> list[Workflow]:
    """Execute a workflow file as a module and return the workflows at its top level, in order.

    `root`, the file's directory unless given, is put first on `sys.path`, so that the file may
    import what lies beside it. `DefinitionError`, naming file and line, when the file cannot be
    executed, when it holds no workflow, or two of one name in one namespace.
    """
    path = _existing(Path(path)).absolute()
    root = Path(root).absolute() if root is not None else path.parent
    module = _execute(path, root)
    workflows = list({id(v): v for v in vars(module).values() if isinstance(v, Workflow)}.values())
    if not workflows:
        raise DefinitionError(
            f"No workflow objects found in {path.name}.",
            next_step="Define one at the top level: `with Workflow(name=...) as workflow:`.",
        )
    seen = set()
    for workflow in workflows:
        if (workflow.namespace, workflow.name) in seen:
            raise DefinitionError(
                f"{path.name} has two workflows called {workflow.namespace}.{workflow.name}.",
                next_step="Give one of them another name or namespace.",
            )
        seen.add((workflow.namespace, workflow.name))
    return workflows


def load_bundle(root: str | Path, entry: str) -> list[Workflow]:
    """The workflows of an extracted bundle, see `load_workflows`."""
    return load_workflows(Path(root) / entry, root)


def find_workflow(workflows: Iterable[Workflow], namespace: str, name: str) -> Workflow:
    """The one of that name, preferably of that namespace: `aiflow run` may have put it into
    another than its file says. `DefinitionError` when there is none."""
    named = [workflow for workflow in workflows if workflow.name == name]
    for workflow in sorted(named, key=lambda w: w.namespace != namespace):
        return workflow
    raise DefinitionError(
        f"This bundle has no workflow {name!r}.",
        next_step="Do not make the name of a workflow depend on where it is loaded.",
    )


def forget(root: str | Path) -> None:
    """Let go of the modules that were loaded from files under `root`: the next import of one of
    them executes it anew, from wherever `sys.path` then finds it."""
    root = Path(root).absolute()
    prefix = f"{root}{os.sep}"
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(prefix):
            del sys.modules[name]
    sys.path[:] = [p for p in sys.path if p != str(root)]
    for place in [p for p in sys.path_importer_cache if p == str(root) or p.startswith(prefix)]:
        del sys.path_importer_cache[place]


def _execute(path: Path, root: Path) -> ModuleType:
    name = _module_name(path)
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.path[:] = [str(root), *(p for p in sys.path if p != str(root))]
    sys.modules[name] = module
    try:
        # Not loader.exec_module: it would leave compiled files beside the author's.
        exec(loader.source_to_code(path.read_bytes(), str(path)), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _definition_error(path, root, error) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_name(path: Path) -> str:
    """The file's stem, unless something else goes by that name."""
    name = path.stem.replace(".", "_")
    loaded = sys.modules.get(name)
    is_other = loaded is not None and getattr(loaded, "__file__", None) != str(path)
    return f"aiflow_workflow_{name}" if is_other or name in sys.stdlib_module_names else name


def _definition_error(path: Path, root: Path, error: BaseException) -> DefinitionError:
    if isinstance(error, OSError) and not _frames_under(root, error):
        return DefinitionError(
            f"The workflow file {path} cannot be read: {error.strerror}.",
            next_step="Check the path.",
        )
    where = _where(path, root, error)
    if isinstance(error, SystemExit):
        return DefinitionError(
            f"{where}: the file calls sys.exit({error.code!r}) when it is loaded.",
            next_step="Exit in `if __name__ == '__main__':` only.",
        )
    if isinstance(error, AIFlowError):
        return DefinitionError(f"{where}: {error.what}", next_step=error.next_step)
    said = traceback.format_exception_only(error)[-1].strip()
    return DefinitionError(
        f"{where}: {said.rstrip('.')}.",
        next_step="Install what is missing where the file is loaded, or add it with --files."
        if isinstance(error, ModuleNotFoundError)
        else "Correct the file and try again.",
    )


def _existing(workflow_file: Path) -> Path:
    if not workflow_file.is_file():
        raise UsageError(f"There is no workflow file {workflow_file}.", next_step="Check the path.")
    return workflow_file


def _where(path: Path, root: Path, error: BaseException) -> str:
    """File and line of the innermost of the author's lines that led to the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_shown(Path(error.filename), root)}:{error.lineno or 1}"
    frames = _frames_under(root, error)
    if not frames:
        return path.name
    return f"{_shown(Path(frames[-1].filename), root)}:{frames[-1].lineno}"


def _frames_under(root: Path, error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [f for f in frames if f.filename.startswith(f"{root}{os.sep}")]


def _shown(file: Path, root: Path) -> str:
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


# --- packing -----------------------------------------------------------------------------------


def pack(
    workflow_file: str | Path, files: Iterable[str | Path], directory: str | Path
) -> tuple[Path, BundleRef]:
    """Put a workflow file, and files and directories for it, into an archive in `directory`.

    Each goes under its base name, beside the workflow file; directories with all that is in them,
    symbolic links as what they point to, `__pycache__` left out. The same content is the same
    archive, byte by byte. Returns the archive and its reference, whose `uri` is still empty.
    `UsageError` when something is missing, is no file or directory, or when names collide.
    """
    workflow_file = _existing(Path(workflow_file))
    entries: dict[str, Path] = {}
    for source in (workflow_file, *map(Path, files)):
        for name, file in _entries(source):
            if name in entries:
                raise UsageError(
                    f"{entries[name]} and {file} would both be {name!r} in the bundle.",
                    next_step="Rename one of them.",
                )
            entries[name] = file
    _check_names(entries)
    _check_extent(len(entries), sum(f.stat().st_size for f in entries.values() if f.is_file()))
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    draft = directory / f".{uuid.uuid4().hex}.zip"
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in sorted(entries):
                _add(archive, name, entries[name])
        sha256 = _sha256(draft)
        return draft.rename(directory / f"{sha256}.zip"), BundleRef(
            uri="", sha256=sha256, entry=workflow_file.name
        )
    finally:
        draft.unlink(missing_ok=True)


def _entries(source: Path) -> Iterator[tuple[str, Path]]:
    """What `source` contributes: archive name (of a directory with a closing /) and file."""
    name = Path(os.path.abspath(source)).name
    if not source.exists():
        raise UsageError(f"There is no file or directory {source}.", next_step="Check --files.")
    if not source.is_dir():
        yield name, source
        return
    parents = {source.resolve()}
    for folder, folders, names in os.walk(source, followlinks=True):
        here = Path(folder)
        prefix = Path(name) / here.relative_to(source)
        yield f"{prefix.as_posix()}/", here
        folders[:] = [f for f in folders if f != "__pycache__"]
        for sub in folders:
            if (here / sub).is_symlink() and (here / sub).resolve() in {
                *parents,
                *here.resolve().parents,
                here.resolve(),
            }:
                raise UsageError(f"The link {here / sub} leads back to a directory that holds it.")
        for file in names:
            yield (prefix / file).as_posix(), here / file


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


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def publish(
    workflow_file: str | Path, files: Iterable[str | Path], blobs: BlobManager, hooks: Any
) -> tuple[list[WorkflowDefinition], BundleRef]:
    """The definitions of the workflows in a file, and the bundle of it as kept by `blobs`.

    Executes the file: for a client's own process. Nothing is uploaded when a workflow is wrong, or
    when an observer refuses (`Veto`).
    """
    definitions = [workflow.definition() for workflow in load_workflows(workflow_file)]
    hooks.before_upload(workflow_file=Path(workflow_file), definitions=tuple(definitions))
    with tempfile.TemporaryDirectory() as directory:
        archive, bundle = pack(workflow_file, files, directory)
        return definitions, msgspec.structs.replace(bundle, uri=blobs.upload(archive))


# --- extracting --------------------------------------------------------------------------------


def extract(archive: str | Path, directory: str | Path) -> Path:
    """Unpack a bundle into `directory`, which appears whole or not at all, and return it.

    Nothing happens when the directory is there already; concurrent callers do not disturb one
    another. The archive is not trusted: `UsageError` when it is damaged, larger than a bundle may
    be, encrypted, or when it holds anything but plain files and directories of clear names.
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
        raise UsageError(f"{archive.name} is not a sound bundle: {error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return directory


def snapshot_directory(home: Path, bundle: BundleRef) -> Path:
    """Where a deployment keeps the unpacked bundle; it may not be there yet."""
    check_name("bundle", bundle.sha256)
    return home / "snapshots" / bundle.sha256


def fetch(home: Path, bundle: BundleRef, blobs: BlobManager) -> Path:
    """The directory of the unpacked bundle, fetched and verified when it is not there."""
    target = snapshot_directory(home, bundle)
    if target.is_dir():
        return target
    download = home / "snapshots" / f".{uuid.uuid4().hex}"
    try:
        archive = blobs.download(bundle.uri, download)
        if _sha256(archive) != bundle.sha256:
            raise UnavailableError(
                f"The bundle {bundle.uri} is not the one that was uploaded.",
                next_step="Upload the workflow again.",
            )
        return extract(archive, target)
    finally:
        shutil.rmtree(download, ignore_errors=True)


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
        raise UsageError(f"{archive.name} is larger than a bundle may be.")
    if record[5] > _MAX_DIRECTORY_BYTES:
        raise UsageError(f"{archive.name} holds more entries than a bundle may.")


def _check_extent(entries: int, size: int) -> None:
    if entries > MAX_ENTRIES:
        raise UsageError(f"A bundle holds at most {MAX_ENTRIES} files, not {entries}.")
    if size > MAX_BYTES:
        raise UsageError(
            f"A bundle holds at most {MAX_BYTES} bytes, not {size}.",
            next_step="Keep large data elsewhere and read it from there.",
        )


def _check_kind(info: zipfile.ZipInfo) -> None:
    kind, special = stat.S_IFMT(info.external_attr >> 16), info.external_attr >> 16 & 0o7000
    if info.flag_bits & 0x1:
        raise UsageError(f"The bundle's entry {info.filename!r} is encrypted.")
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG) or special:
        raise UsageError(f"The bundle's entry {info.filename!r} is not a plain file.")


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
            raise UsageError(f"{name!r} is not a name for an entry of a bundle.")
        folded = unicodedata.normalize("NFC", path).casefold()
        if folded in seen:
            raise UsageError(
                f"The bundle's entries {seen[folded]!r} and {name!r} differ in nothing but case "
                "or accents.",
                next_step="Rename one of them.",
            )
        seen[folded] = name
