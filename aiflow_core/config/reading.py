"""Reads settings: the file, then the environment on top, then the defaults.

An environment variable `AIFLOW__<SECTION>__<KEY>` overrides the key of a file, and
`AIFLOW__<SECTION>__<KEY>__<INNER KEY>` a key inside it; the value is read as if it stood in the
file. Example: `AIFLOW__SERVER__RPC_PORT=50061`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from aiflow_core.config.expansion import expand, hide, resolve
from aiflow_core.config.settings import Settings, keys
from aiflow_core.config.sources import Origin, Place, Source
from aiflow_core.errors import ConfigError, UsageError, did_you_mean

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Loaded(Generic[S]):
    """Settings, and how they came about.

    Attributes:
        settings: with all secrets; not to be printed.
        shown: the same as plain data that may be printed: secrets are references, or hidden. Keys
            that are retired stand in it only where they are set.
        origins: where each key that is set is set, with dots between the keys that lead to it. What
            is not in it has its default.
        notices: a sentence for each key that is set and has no effect any more.
    """

    settings: S
    shown: dict[str, Any]
    origins: dict[str, Origin]
    notices: tuple[str, ...]

    def origin(self, key: str) -> Origin | None:
        """Where the value of a key, or some of it, is set; None when it has its default."""
        inside = (at for name, at in self.origins.items() if name.startswith(f"{key}."))
        return self.origins.get(key) or next(inside, None)


def load(path: Path, settings: type[S], *, section: str, variables: Mapping[str, str]) -> S:
    """The settings that `read` finds."""
    return read(path, settings, section=section, variables=variables).settings


def read(path: Path, settings: type[S], *, section: str, variables: Mapping[str, str]) -> Loaded[S]:
    """The settings in the file at `path`, overridden by the environment.

    A file that does not exist is an empty one. `ConfigError` names the line of the file or the
    environment variable, and the key: for what is no YAML, for unknown keys, for values of the
    wrong type and for secrets that are not there.

    Args:
        section: the part of the names of environment variables that stands for this file.
        variables: what may be substituted in strings, by name.
    """
    source = Source(path)
    source.add_environment(section)
    for written in [name for name in source.data if "." in settings.aliases.get(name, "")]:
        source.move(written, tuple(settings.aliases[written].split(".")))
    filling = _Filling(source, variables)
    filled = filling.fill(source.data, settings)
    value = filling.checked(filled, settings)
    notices = [
        f"{filling.origins[key.name]}: {key.name} has no effect any more: {key.retired}."
        for key in keys(settings)
        if key.retired and key.name in filling.origins
    ]
    return Loaded(value, filling.shown, filling.origins, tuple(notices))


class _Filling:
    """What was written, with its aliases resolved, its defaults filled in, and its strings
    expanded.

    Attributes:
        origins: of what was written, by its key.
        shown: see `Loaded`.
    """

    def __init__(self, source: Source, variables: Mapping[str, str]) -> None:
        self.origins: dict[str, Origin] = {}
        self.shown: dict[str, Any] = {}
        self._source = source
        self._variables = variables

    def fill(self, data: dict[str, Any], settings: type[Settings]) -> dict[str, Any]:
        """All keys of the class, resolved."""
        filled, self.shown = self._fill(data, settings, (), "")
        return filled

    def checked(self, filled: dict[str, Any], settings: type[S]) -> S:
        """The keys as a value of the class."""
        try:
            # Not strict: a secret is text, whatever the key is.
            value = msgspec.convert(filled, settings, strict=False)
        except msgspec.ValidationError as error:
            problem, _, place = str(error).partition(" - at ")
            dotted = place.strip("`").removeprefix("$").lstrip(".")
            raise self._wrong(dotted, _lower_first(problem)) from error
        for key in keys(settings):
            if key.check is not None:
                try:
                    key.check(getattr(value, key.name))
                except UsageError as error:
                    problem = _lower_first(error.what.rstrip("."))
                    raise self._wrong(key.name, problem, error.next_step) from error
        return value

    def _fill(
        self, data: dict[str, Any], settings: type[Settings], place: Place, prefix: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The keys, once with secrets and once to be shown, in the order of the class."""
        known = {key.name: key for key in keys(settings)}
        written: dict[str, tuple[Place, Any]] = {}
        for word, value in data.items():
            name = settings.aliases.get(word, str(word))
            if name not in known:
                raise ConfigError(
                    f"{self._source.origin((*place, str(word)))}: there is no setting {word!r}.",
                    next_step=did_you_mean(str(word), list(known)),
                )
            if value is not None:
                written[name] = ((*place, str(word)), value)
        filled: dict[str, Any] = {}
        shown: dict[str, Any] = {}
        for name, key in known.items():
            inner_place, value = written.get(name, (place, key.default))
            dotted = f"{prefix}{name}"
            if name in written:
                self.origins[dotted] = self._source.origin(inner_place)
            elif value is None:
                continue
            if key.settings is not None and name in written and isinstance(value, dict):
                inner = self._fill(value, key.settings, inner_place, f"{dotted}.")
                filled[name], shown[name] = inner
                continue
            expanded = expand(value, self._variables)
            filled[name] = self._resolved(dotted, expanded)
            if name in written or not key.retired:
                shown |= hide({name: expanded})
        return filled, shown

    def _resolved(self, key: str, value: Any) -> Any:
        try:
            return resolve(value)
        except ConfigError as error:
            raise self._wrong(key, error.what, error.next_step) from error

    def _wrong(self, key: str, problem: str, next_step: str = "") -> ConfigError:
        parts = [part for part in re.split(r"[.\[]", key) if part]
        while parts and ".".join(parts) not in self.origins:
            parts.pop()
        origin = self.origins[".".join(parts)] if parts else self._source.origin(())
        return ConfigError(f"{origin}: {key or 'the file'}: {problem}.", next_step=next_step)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
