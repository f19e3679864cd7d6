"""Where a value comes from: a line of a file, or a variable of the environment."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from aiflow_core.errors import ConfigError

OVERRIDE_PREFIX = "AIFLOW__"

Place = tuple[str, ...]
"""The keys that lead to a value, from the outside in, as they are written."""


@dataclass(frozen=True)
class Origin:
    """A file and a line in it (0: the file as a whole), or the name of an environment variable."""

    place: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.place}:{self.line}" if self.line else self.place


class Source:
    """What was written, key by key, and where.

    Attributes:
        data: as it is written, not expanded and not checked.
    """

    def __init__(self, path: Path) -> None:
        self.data: dict[str, Any] = {}
        self._origins: dict[Place, Origin] = {(): Origin(str(path))}
        self._add_file(path)

    def origin(self, place: Place) -> Origin:
        """Where the value at this place comes from, or what it stands in."""
        while place not in self._origins:
            place = place[:-1]
        return self._origins[place]

    def add_environment(self, section: str) -> None:
        """Let the variables of the environment replace what the file says."""
        prefix = f"{OVERRIDE_PREFIX}{section}__"
        for name, text in sorted(os.environ.items()):
            if name.startswith(prefix):
                place = tuple(name.removeprefix(prefix).lower().split("__"))
                self._set(place, _scalar(text), Origin(name))

    def move(self, written: str, place: Place) -> None:
        """Put what stands under a key of the file to where it belongs."""
        origin = self.origin((written,))
        self._set(place, self.data.pop(written), origin)

    def _set(self, place: Place, value: Any, origin: Origin) -> None:
        data = self.data
        *outer, last = place
        for key in outer:
            inner = data.get(key)
            data[key] = dict(inner) if isinstance(inner, dict) else {}
            data = data[key]
        # Behind the others: of two names for the same key the last one counts.
        data.pop(last, None)
        data[last] = value
        self._origins[place] = origin

    def _add_file(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            data = yaml.safe_load(text)
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}.") from error
        except yaml.YAMLError as error:
            raise ConfigError(
                f"{path} is not YAML: {' '.join(str(error).split())}.",
                next_step="A value that begins with a brace or holds ': ' is put in quotes.",
            ) from error
        if data is None:
            return
        if not isinstance(data, dict):
            raise ConfigError(f"{path} does not consist of `key: value` lines.")
        self.data = data
        self._note_lines(str(path), node, ())

    def _note_lines(self, path: str, node: yaml.Node | None, place: Place) -> None:
        if not isinstance(node, yaml.MappingNode):
            return
        for key, value in node.value:
            inner = (*place, str(key.value))
            self._origins[inner] = Origin(path, key.start_mark.line + 1)
            self._note_lines(path, value, inner)


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, str | int | float | bool | list) else text
