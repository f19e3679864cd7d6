"""What strings of a settings file stand for.

* `${NAME}`, `{NAME}` and `{{NAME}}` are the variables that the reader is given (as `AIFLOW_HOME`),
  `${NAME}` and `$NAME` also those of the environment. An unknown name is left as it is.
* A leading `~` is the user's home.
* `${env:NAME}` and `${file:PATH}` are secrets: a variable of the environment, the content of a file
  without the line end behind it. They must be there, are put in as they are, and are never shown.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiflow_core.errors import ConfigError

HIDDEN = "***"

_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
_PASSWORD = re.compile(r"(://[^/:@\s]*):.*@")
_SECRET_KEY = re.compile(r"secret|passw|token|credential|private_key|access_key(?!_id)", re.I)


def expand(value: Any, variables: Mapping[str, str]) -> Any:
    """The value with the variables in its strings put in, and its secrets still as references."""

    def expanded(text: str) -> str:
        for name, meant in variables.items():
            for form in (f"${{{name}}}", f"{{{{{name}}}}}", f"{{{name}}}"):
                text = text.replace(form, meant)
        text = os.path.expandvars(text)
        # Also behind the slashes of a database URI.
        return re.sub(r"(^|:///|\$\{file:)~(?=/|$)", lambda m: m[1] + str(Path.home()), text)

    return _in_strings(value, expanded)


def resolve(value: Any) -> Any:
    """The expanded value with its secrets; `ConfigError` when one is not there."""
    return _in_strings(value, lambda text: _REFERENCE.sub(_secret, text))


def hide(value: Any) -> Any:
    """The expanded value as it may be shown: references stay, passwords and what stands under the
    name of a secret do not."""
    match value:
        case str():
            return _PASSWORD.sub(rf"\1:{HIDDEN}@", value)
        case dict():
            return {key: _hidden(str(key), inner) for key, inner in value.items()}
        case list():
            return [hide(inner) for inner in value]
        case _:
            return value


def _hidden(key: str, value: Any) -> Any:
    is_literal = isinstance(value, str) and value and not _REFERENCE.fullmatch(value)
    return HIDDEN if is_literal and _SECRET_KEY.search(key) else hide(value)


def _secret(reference: re.Match[str]) -> str:
    kind, name = reference.groups()
    if kind == "env":
        if name not in os.environ:
            raise ConfigError(
                f"the environment variable {name} is not set",
                next_step=f"Set {name} where the program is started.",
            )
        return os.environ[name]
    try:
        return Path(name).read_text(encoding="utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file {name} is not text") from error
    except OSError as error:
        raise ConfigError(
            f"the file {name} cannot be read: {error.strerror}",
            next_step="Give its path in full, and let this user read it.",
        ) from error


def _in_strings(value: Any, change: Callable[[str], str]) -> Any:
    match value:
        case str():
            return change(value)
        case dict():
            return {key: _in_strings(inner, change) for key, inner in value.items()}
        case list():
            return [_in_strings(inner, change) for inner in value]
        case _:
            return value
