"""Every error that AIFlow raises on purpose.

An error is given facts, keeps them as attributes and writes its own sentence: what happened, why,
and what to do next. Between processes travel the class's `code` and the facts (`to_wire`), and the
same error is raised on the other side (`from_wire`).

The exit codes of the command line are the `exit_code` of the class; `docs/reference/exit-codes.md`
shows them as a table.
"""

from typing import Any, ClassVar


class AIFlowError(Exception):
    """Something went wrong that a user can understand and act on."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, next_step: str = "") -> None:
        self.what = what
        self.next_step = next_step
        super().__init__(f"{what} {next_step}".strip())

    def to_wire(self) -> dict[str, Any]:
        """The code and the facts, as plain data."""
        return {"code": self.code, "what": self.what, "next_step": self.next_step}

    @staticmethod
    def from_wire(facts: dict[str, Any]) -> "AIFlowError":
        """The error that `to_wire` described; an unknown code becomes a plain `AIFlowError`."""
        known: dict[str, type[AIFlowError]] = {cls.code: cls for cls in _descendants(AIFlowError)}
        cls = known.get(str(facts.get("code")), AIFlowError)
        error: AIFlowError = cls.__new__(cls)
        AIFlowError.__init__(
            error, str(facts.get("what", "")), next_step=str(facts.get("next_step", ""))
        )
        return error


class UsageError(AIFlowError):
    """The caller asked for something that makes no sense as written."""

    code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or setting is wrong."""

    code = "config"


class DefinitionError(UsageError):
    """A workflow file or a rule in it is wrong."""

    code = "definition"


class PluginError(UsageError):
    """A plugin is missing, broken, or not what its entry point claims."""

    code = "plugin"


class NotFoundError(AIFlowError):
    """No such thing."""

    code = "not_found"
    exit_code = 3

    def __init__(self, kind: str, name: object, *, next_step: str = "") -> None:
        self.kind, self.name = kind, name
        super().__init__(f"No such {kind}: {name}.", next_step=next_step)


class ConflictError(AIFlowError):
    """The thing exists, but its state does not allow what was asked."""

    code = "conflict"
    exit_code = 4


class Veto(AIFlowError):
    """Raised by an observer that is asked: what it is asked about is not to happen, for `reason`.

    Whoever asked is told `by` whom.
    """

    code = "veto"
    exit_code = 4

    def __init__(self, reason: str, *, by: str = "") -> None:
        self.reason, self.by = reason, by
        whose = f" by {by!r}" if by else ""
        super().__init__(f"Refused{whose}: {reason.rstrip('.')}.")


class UnavailableError(AIFlowError):
    """A server or database does not answer; the same call may succeed later."""

    code = "unavailable"
    exit_code = 6


class NoRoomError(UnavailableError):
    """A database or its disk is full; nothing was stored, and the same call succeeds when there is
    room again."""

    code = "no_room"


class CredentialsError(AIFlowError):
    """Someone does not accept who we say we are."""

    code = "credentials"

    def __init__(self, where: object, reason: str, *, next_step: str = "") -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where} does not accept the credentials: {reason}.", next_step=next_step)


class PermissionDeniedError(AIFlowError):
    """It is known who we are, and we may not do that."""

    code = "permission_denied"

    def __init__(self, where: object, reason: str, *, next_step: str = "") -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where} does not permit this: {reason}.", next_step=next_step)


class DamagedError(AIFlowError):
    """What is stored is not what was stored."""

    code = "damaged"

    def __init__(self, kind: str, name: object, *, next_step: str = "") -> None:
        self.kind, self.name = kind, name
        super().__init__(f"The {kind} {name} is damaged.", next_step=next_step)


class WaitTimeoutError(AIFlowError):
    """What was waited for did not happen in time."""

    code = "timeout"
    exit_code = 7


class ExecutionFailedError(AIFlowError):
    """The workflow ran and did not end in success."""

    code = "execution_failed"
    exit_code = 10


def did_you_mean(word: str, known: list[str]) -> str:
    """A closing sentence for an unknown word: the nearest known one, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known are: {', '.join(sorted(known))}." if known else ""


def _descendants(cls: type[AIFlowError]) -> list[type[AIFlowError]]:
    return [d for sub in cls.__subclasses__() for d in (sub, *_descendants(sub))]
