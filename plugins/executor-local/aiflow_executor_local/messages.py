"""What executor, zygote and child say to one another: one JSON value per line.

executor -> zygote: one `Warmup`, then any number of `Job`s and `Renewal`s
zygote -> executor: one `Ready`, then `Notice`s
zygote -> child:    one `Job`
child -> zygote:    RUNNING or TAKEN; DONE when it has succeeded and has only to end
"""

from aiflow_core.errors import UsageError
from aiflow_core.model.execution import AttemptReport, AttemptRequest
from aiflow_core.model.serialization import Value, encode

RUNNING = b"running\n"
TAKEN = b"taken\n"
DONE = b"done\n"


class Warmup(Value, frozen=True):
    """What a zygote imports before its first attempt: the workflow file `entry` of the unpacked
    bundle in `snapshot`, or the operator of that entry-point name, or nothing."""

    snapshot: str = ""
    entry: str = ""
    operator: str = ""


class Ready(Value, frozen=True):
    """The warm-up is done; `problem` says why it failed."""

    problem: str = ""


class Job(Value, tag=True, frozen=True):
    """An attempt and where it finds things. `snapshot`: directory of the unpacked bundle, empty
    when there is none. `environment`: variables for it, from those who were asked about it."""

    request: AttemptRequest
    home: str
    log_dir: str
    notification_uri: str
    server_address: str = ""
    snapshot: str = ""
    environment: dict[str, str] = {}


class Renewal(Value, tag=True, frozen=True):
    """Attempts may run until `until`. What ran when the time of the one before had passed is not
    saved by one that was said, `at`, only then. Moments of the machine's monotonic clock."""

    at: float
    until: float


Order = Job | Renewal


class Notice(Value, frozen=True):
    """A report to pass on; one that means nothing when the attempt is `taken`: run by somebody
    else."""

    report: AttemptReport
    taken: bool = False


def line(message: Value) -> bytes:
    """The message as it is sent; JSON escapes every line break inside it."""
    return encode(message) + b"\n"


def needs_bundle(request: AttemptRequest) -> bool:
    """Whether the operator must be looked up in the bundle's workflow.

    `UsageError` when it must and there is none.
    """
    if request.task.operator and request.task.params is not None:
        return False
    if request.bundle is None:
        raise UsageError(
            f"Task {request.task.name!r} needs its workflow file, and the snapshot has none.",
            next_step="Upload the workflow again.",
        )
    return True
