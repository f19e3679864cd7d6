"""What a settings class is: keys, each with its type, its default and what it is for.

The class is the one table of its keys. Defaults and checks, the file that `config init` writes, the
JSON Schema and the tables of `docs/reference/configuration.md` all follow from it.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec


def key(
    description: str,
    *,
    retired: str = "",
    example: Any = None,
    check: Callable[[Any], object] | None = None,
) -> msgspec.Meta:
    """What is to be known of a key beside its type: the second part of an `Annotated`.

    Args:
        description: what it is for, as a phrase without a full stop.
        retired: what takes its place; then it may stand in a file of an earlier version, has no
            effect, and whoever sets it is told so.
        example: what the file that `config init` writes shows instead of the default.
        check: raises `UsageError` when a value of the right type makes no sense all the same.
    """
    extra = {"retired": retired, "example": example, "check": check}
    schema = {"deprecated": True} if retired else {}
    return msgspec.Meta(description=description, extra=extra, extra_json_schema=schema)


Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
"""A TCP port; 0 is any free one."""

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings. Every field has a default; an empty value in a file means it.

    `aliases` are further names under which a file may set a field; a field inside of another one is
    named with a dot.
    """

    aliases: ClassVar[dict[str, str]] = {}


class Driver(Settings, frozen=True, kw_only=True):
    """Which plugin does a job (entry-point name or dotted class), and its own settings."""

    aliases: ClassVar[dict[str, str]] = {
        "blob_manager_class": "type",
        "blob_manager_config": "config",
        "scheduler_class_name": "type",
        "scheduler_config": "config",
    }

    type: Annotated[str, key("name of a plugin, or the dotted path of its class")]
    config: Annotated[dict[str, Any], key("its settings")] = {}


class Key(NamedTuple):
    """A key of a settings class; for what is not explained here see `key`.

    Attributes:
        default: as plain data; None where there is none.
        settings: the class of the settings inside this key, where it holds some.
    """

    name: str
    default: Any
    description: str
    retired: str
    example: Any
    check: Callable[[Any], object] | None
    settings: type[Settings] | None


def keys(settings: type[Settings]) -> Iterator[Key]:
    """The keys of a class, in its order."""
    for field in msgspec.structs.fields(settings):
        extra: dict[str, Any] = {}
        description = ""
        for meta in getattr(field.type, "__metadata__", ()):
            description = meta.description or description
            extra |= meta.extra or {}
        yield Key(
            name=field.name,
            default=_default(field),
            description=description,
            retired=extra.get("retired", ""),
            example=extra.get("example"),
            check=extra.get("check"),
            settings=_settings_in(field.type),
        )


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.required:
        return None
    made = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return msgspec.to_builtins(made)


def _settings_in(annotation: Any) -> type[Settings] | None:
    """The settings class in an annotation such as `Driver` or `Driver | None`."""
    annotation = getattr(annotation, "__origin__", annotation)
    for choice in getattr(annotation, "__args__", (annotation,)):
        if isinstance(choice, type) and issubclass(choice, Settings):
            return choice
    return None
