"""Workflow files: loaded as modules, packed for the journey, unpacked where tasks run.

Loading executes user code. Only a client, a task's process and a condition host do it; servers
pack nothing, load nothing, and at most extract.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
import traceback
import uuid
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from aiflow_core import drop_in
from aiflow_core.errors import AIFlowError, DefinitionError, UnavailableError, UsageError
from aiflow_core.model.execution import BundleRef
from aiflow_core.model.workflow import Workflow, WorkflowDefinition, check_name

if TYPE_CHECKING:
    from aiflow_core.specs.blob_manager import BlobManager

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
    drop_in.make_importable()
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
    from aiflow_core import archive  # late: the processes of tasks start faster without

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
    packed = archive.pack(entries, directory)
    return packed, BundleRef(uri="", sha256=packed.stem, entry=workflow_file.name)


def _entries(source: Path) -> Iterator[tuple[str, Path]]:
    """What `source` contributes: archive name (of a directory with a closing /) and file."""
    from aiflow_core import archive

    name = Path(os.path.abspath(source)).name
    if not source.exists():
        raise UsageError(f"There is no file or directory {source}.", next_step="Check --files.")
    if source.is_dir():
        yield from archive.entries_under(source, name)
    else:
        yield name, source


def publish(
    workflow_file: str | Path, files: Iterable[str | Path], blobs: "BlobManager", hooks: Any
) -> tuple[list[WorkflowDefinition], BundleRef]:
    """The definitions of the workflows in a file, and the bundle of it as kept by `blobs`.

    Executes the file: for a client's own process. Nothing is uploaded when a workflow is wrong, or
    when an observer refuses (`Veto`).
    """
    definitions = [workflow.definition() for workflow in load_workflows(workflow_file)]
    hooks.before_upload(workflow_file=Path(workflow_file), definitions=tuple(definitions))
    with tempfile.TemporaryDirectory() as directory:
        packed, bundle = pack(workflow_file, files, directory)
        return definitions, msgspec.structs.replace(bundle, uri=blobs.upload(packed))


# --- fetching ----------------------------------------------------------------------------------


def snapshot_directory(home: Path, bundle: BundleRef) -> Path:
    """Where a deployment keeps the unpacked bundle; it may not be there yet."""
    check_name("bundle", bundle.sha256)
    return home / "snapshots" / bundle.sha256


def fetch(home: Path, bundle: BundleRef, blobs: "BlobManager") -> Path:
    """The directory of the unpacked bundle, fetched and verified when it is not there."""
    from aiflow_core import archive

    target = snapshot_directory(home, bundle)
    if target.is_dir():
        return target
    download = home / "snapshots" / f".{uuid.uuid4().hex}"
    try:
        packed = blobs.download(bundle.uri, download)
        if archive.sha256(packed) != bundle.sha256:
            raise UnavailableError(
                f"The bundle {bundle.uri} is not the one that was uploaded.",
                next_step="Upload the workflow again.",
            )
        return archive.extract(packed, target)
    finally:
        shutil.rmtree(download, ignore_errors=True)
