"""The settings of a plugin: its constructor's keywords, with their types, defaults and docstring.

The constructor is read, not called. A keyword without an annotation, or with one that plain data
cannot have (a clock, say), takes anything.
"""

import inspect
import re
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from aiflow_core.errors import PluginError, did_you_mean
from aiflow_core.model.serialization import is_plain

_BY_KEYWORD = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of a plugin.

    Attributes:
        type: as in the source.
        default: as JSON has it; None also when there is none.
        description: from the docstring.
    """

    name: str
    type: str
    is_required: bool
    default: Any = None
    description: str = ""


def settings_of(cls: type) -> list[Setting]:
    """The settings of a plugin, in the order of its constructor."""
    described = _descriptions(cls)
    return [
        Setting(
            name=name,
            type="" if parameter.annotation is parameter.empty else _shown(parameter.annotation),
            is_required=parameter.default is parameter.empty,
            default=parameter.default if _is_plain_default(parameter) else None,
            description=described.get(name, ""),
        )
        for name, parameter in _keywords(cls).items()
    ]


def schema_of(cls: type) -> dict[str, Any]:
    """The settings as a JSON Schema (draft 2020-12) of the mapping under `config`."""
    described = _descriptions(cls)
    properties: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    types_ = _types(cls)
    for name, parameter in _keywords(cls).items():
        (one,), parts = msgspec.json.schema_components(
            [types_[name]], ref_template="#/$defs/{name}"
        )
        definitions |= parts
        if name in described:
            one = {**one, "description": described[name]}
        if _is_plain_default(parameter):
            one = {**one, "default": parameter.default}
        properties[name] = one
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": [n for n, p in _keywords(cls).items() if p.default is p.empty],
        "additionalProperties": _takes_any(cls),
    }
    return {**schema, "$defs": definitions} if definitions else schema


def check_settings(what: str, cls: type, settings: dict[str, Any]) -> None:
    """Raise `PluginError` unless `settings` are keywords that `cls` takes, each of its type.

    Values are not shown: they may be secrets.
    """
    keywords = _keywords(cls)
    for key in settings:
        if key not in keywords and not _takes_any(cls):
            raise PluginError(
                f"The {what} has no setting {key!r}.",
                next_step=did_you_mean(str(key), list(keywords)),
            )
    for key, parameter in keywords.items():
        if parameter.default is parameter.empty and key not in settings:
            raise PluginError(
                f"The {what} needs the setting {key!r}.", next_step="Add it to its configuration."
            )
    types_ = _types(cls)
    for key, value in settings.items():
        # What is no plain data was put there by a program, which knows what it does.
        if key not in keywords or not is_plain(value):
            continue
        if value is None and keywords[key].default is None:
            continue
        try:
            msgspec.convert(value, types_[key])
        except msgspec.ValidationError as error:
            problem, _, place = str(error).partition(" - at ")
            inner = place.strip("`").removeprefix("$")
            raise PluginError(
                f"The setting {key + inner!r} of the {what} is wrong: "
                f"{problem[:1].lower()}{problem[1:]}.",
                next_step="`aiflow plugins show` says what it takes.",
            ) from error


def _constructor(cls: type) -> Any:
    return cls.__init__  # type: ignore[misc]  # of this very class, whose keywords are wanted


def _keywords(cls: type) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(cls).parameters
    return {name: p for name, p in parameters.items() if p.kind in _BY_KEYWORD}


def _takes_any(cls: type) -> bool:
    parameters = inspect.signature(cls).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def _types(cls: type) -> dict[str, Any]:
    """The type that plain data are converted to, by keyword; `Any` where that cannot be said."""
    try:
        hints = typing.get_type_hints(_constructor(cls), include_extras=True)
    except Exception:  # an annotation may name what is imported for type checkers only
        hints = {}
    return {name: _convertible(hints.get(name, Any)) for name in _keywords(cls)}


def _convertible(annotation: Any) -> Any:
    """The annotation as msgspec takes it: paths are strings in files."""
    if annotation is Path:
        return str
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        choices = tuple(_convertible(choice) for choice in typing.get_args(annotation))
        if Any in choices:
            return Any
        annotation = typing.Union[choices]  # noqa: UP007  (made of a tuple)
    try:
        msgspec.json.schema(annotation)
    except (TypeError, msgspec.MsgspecError):
        return Any
    return annotation


def _is_plain_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not parameter.empty and is_plain(parameter.default)


def _shown(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)


def _descriptions(cls: type) -> dict[str, str]:
    """What the docstrings of the class and its constructor say about its arguments."""
    import docstring_parser  # late: only those who look at a plugin need it

    described: dict[str, str] = {}
    for text in (cls.__doc__, _constructor(cls).__doc__):
        try:
            # A title on the first line would not be taken for one.
            parsed = docstring_parser.parse(f"Settings.\n\n{inspect.cleandoc(text or '')}")
        except docstring_parser.ParseError:
            continue  # whatever it says, it is not about arguments
        for parameter in parsed.params:
            described[parameter.arg_name] = " ".join((parameter.description or "").split())
    return described
