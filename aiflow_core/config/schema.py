"""What follows from a settings class: its JSON Schema, its table in the documentation, and the file
with its defaults."""

import textwrap
from typing import Any

import msgspec
import yaml

from aiflow_core.config.settings import Key, Settings, keys

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_WIDTH = 100
_REFERENCE = {"type": "string", "pattern": r"^\$\{(env|file):[^}]+\}$"}


def json_schema(settings: type[Settings]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a file: for editors, and for checks outside of AIFlow. Further
    names of a key are properties of it as well; an empty value is allowed everywhere, and a secret
    where it makes sense."""
    (schema,), definitions = msgspec.json.schema_components(
        [settings], ref_template="#/$defs/{name}"
    )
    classes = {settings.__name__: settings} | {
        key.settings.__name__: key.settings for key in keys(settings) if key.settings
    }
    for name, cls in classes.items():
        _complete(definitions[name], cls)
    top = definitions.pop(settings.__name__)
    assert schema["$ref"].endswith(settings.__name__)
    return {"$schema": _DRAFT, **top, **({"$defs": definitions} if definitions else {})}


def table(settings: type[Settings]) -> str:
    """The keys as a table in Markdown, the retired ones in one of their own."""
    found = list(keys(settings))
    lines = ["| key | default | |", "|---|---|---|"]
    lines += [
        f"| `{k.name}` | {_cell(k.default)} | {k.description} |" for k in found if not k.retired
    ]
    retired = [f"| `{k.name}` | {k.retired} |" for k in found if k.retired]
    if retired:
        lines += ["", "| retired key | what takes its place |", "|---|---|", *retired]
    return "\n".join(lines) + "\n"


def default_file(settings: type[Settings], title: str) -> str:
    """A file that says all defaults, each with what it is for."""
    parts = [_comment(title)]
    for key in keys(settings):
        if not key.retired:
            parts.append(_comment(key.description) + _as_yaml(key))
    return "\n".join(parts)


def _complete(schema: dict[str, Any], settings: type[Settings]) -> None:
    """Add what msgspec cannot know: aliases, and that an empty value means the default."""
    properties = schema["properties"]
    for name, found in properties.items():
        properties[name] = _or_empty(found)
    for alias, name in settings.aliases.items():
        outer, _, inner = name.partition(".")
        about = f"Another name of `{name}`"
        properties[alias] = (
            {"description": about} if inner else {**properties[outer], "description": about}
        )
    # One of its names is enough, and there is a default for what is required of a file.
    schema.pop("required", None)


def _or_empty(schema: dict[str, Any]) -> dict[str, Any]:
    outside = ("description", "default", "deprecated")
    about: dict[str, Any] = {k: schema.pop(k) for k in outside if k in schema}
    choices = schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]
    choices = [*(c for c in choices if c != {"type": "null"}), {"type": "null"}]
    if not any(c.get("type") == "string" for c in choices):
        choices.insert(-1, _REFERENCE)
    return {**about, "anyOf": choices}


def _comment(text: str) -> str:
    lines = textwrap.wrap(text.replace("`", ""), _WIDTH - 2)
    return "".join(f"# {line}\n" for line in lines)


def _as_yaml(key: Key) -> str:
    value = key.default if key.example is None else key.example
    if value is None or value == "":
        return f"{key.name}:\n"
    if isinstance(value, bool):
        return f"{key.name}: {value}\n"  # as the manual writes them
    text: str = yaml.safe_dump({key.name: value}, sort_keys=False, width=_WIDTH)
    return text.replace(": null\n", ":\n").replace(": false\n", ": False\n")


def _cell(default: Any) -> str:
    match default:
        case None | "" | {}:
            return ""
        case dict():
            text = yaml.safe_dump(default, default_flow_style=True, width=_WIDTH).strip()
            return f"`{text}`"
        case _:
            return f"`{default}`"
