"""A plugin's settings, as its constructor says them."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from aiflow_core.clock import Clock
from aiflow_core.errors import PluginError
from aiflow_core.plugin_settings import check_settings, schema_of, settings_of


class Store:
    """Keeps things.

    Args:
        bucket: the name of the bucket,
            in lower case.
        tries: how often.
    """

    def __init__(
        self,
        bucket: str,
        tries: Annotated[int, msgspec.Meta(ge=1)] = 3,
        *,
        mode: Literal["fast", "safe"] = "safe",
        root: str | Path | None = None,
        labels: dict[str, list[int]] | None = None,
        clock: Clock | None = None,
        anything=None,  # type: ignore[no-untyped-def]
    ) -> None:
        """
        Args:
            mode: how it writes.
        """


class Loose:
    def __init__(self, name: "Unknown", **more: Any) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass


def test_settings_are_told_with_type_default_and_description() -> None:
    settings = {setting.name: setting for setting in settings_of(Store)}

    assert list(settings) == ["bucket", "tries", "mode", "root", "labels", "clock", "anything"]
    assert settings["bucket"].is_required
    assert settings["bucket"].description == "the name of the bucket, in lower case."
    assert (settings["tries"].default, settings["tries"].description) == (3, "how often.")
    assert (settings["mode"].default, settings["mode"].description) == ("safe", "how it writes.")
    assert settings["root"].type == "str | Path | None"


def test_the_schema_says_the_same() -> None:
    schema = schema_of(Store)

    assert schema["required"] == ["bucket"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["bucket"] == {
        "type": "string",
        "description": "the name of the bucket, in lower case.",
    }
    assert schema["properties"]["tries"]["minimum"] == 1
    assert schema["properties"]["mode"]["enum"] == ["fast", "safe"]
    assert schema["properties"]["clock"] == {"default": None}
    assert schema_of(Loose)["additionalProperties"] is True


@pytest.mark.parametrize(
    "settings",
    [
        {"bucket": "b"},
        {"bucket": "b", "tries": 1, "mode": "fast", "root": "/x", "labels": {"a": [1]}},
        {"bucket": "b", "root": None, "labels": None, "anything": [1, "x"]},
        {"bucket": "b", "clock": Clock()},
    ],
)
def test_settings_that_fit_are_taken(settings: dict[str, Any]) -> None:
    check_settings("store 's'", Store, settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "The store 's' needs the setting 'bucket'"),
        ({"bucket": "b", "trise": 1}, "no setting 'trise'. Did you mean 'tries'?"),
        ({"bucket": 1}, "The setting 'bucket' of the store 's' is wrong: expected `str`"),
        ({"bucket": "b", "tries": 0}, "'tries' .* expected `int` >= 1"),
        ({"bucket": "b", "tries": "3"}, "'tries' .* expected `int`, got `str`"),
        ({"bucket": "b", "mode": "secret"}, "'mode'"),
        ({"bucket": "b", "labels": {"a": ["x"]}}, r"'labels\[\.\.\.\]\[0\]' .* expected `int`"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(PluginError, match=words):
        check_settings("store 's'", Store, settings)


def test_what_cannot_be_read_takes_anything() -> None:
    check_settings("loose", Loose, {"name": 3, "other": "x"})
