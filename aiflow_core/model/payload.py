"""What an event carries: its fields by path, and tests of them that are data.

A path is `key`, `value`, `sender`, `namespace`, `offset` or `create_time`; below `value` it goes on
with the names of fields and the places of lists: `value.files.0.rows`. The value is JSON; one that
is no JSON is the text that it is, and has nothing below it.
"""

import re
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from aiflow_core.errors import DefinitionError
from aiflow_core.model.event import Event, parse_payload
from aiflow_core.model.serialization import Value, is_plain

PATHS = ("key", "value", "sender", "namespace", "offset", "create_time")

MISSING: Any = msgspec.UNSET
"""What stands at a path at which there is nothing."""


class Operator(StrEnum):
    """How a test compares."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GE = "ge"
    LT = "lt"
    LE = "le"
    ONE_OF = "one_of"
    PRESENT = "present"


class Test(Value, frozen=True):
    """A comparison of what stands at `path` with `value`.

    Numbers are compared with numbers and texts with texts; anything else is neither greater nor
    smaller. No test but `present(False)` holds for what is missing.
    """

    __test__ = False  # not one of pytest's

    path: str
    operator: Operator
    value: Any

    def holds(self, event: Event) -> bool:
        """Whether the event passes."""
        found = field(event, self.path)
        if self.operator is Operator.PRESENT:
            return (found is not MISSING) is self.value
        return found is not MISSING and _compare(found, self.operator, self.value)


class Wanted(Value, frozen=True):
    """A test that was not yet told of which field, as `gt(100)` makes it."""

    operator: Operator
    value: Any


def gt(value: Any) -> Wanted:
    """Greater than."""
    return Wanted(Operator.GT, value)


def ge(value: Any) -> Wanted:
    """Greater than, or equal to."""
    return Wanted(Operator.GE, value)


def lt(value: Any) -> Wanted:
    """Less than."""
    return Wanted(Operator.LT, value)


def le(value: Any) -> Wanted:
    """Less than, or equal to."""
    return Wanted(Operator.LE, value)


def ne(value: Any) -> Wanted:
    """There, and another than."""
    return Wanted(Operator.NE, value)


def one_of(*values: Any) -> Wanted:
    """Equal to one of these."""
    return Wanted(Operator.ONE_OF, list(values))


def present(there: bool = True) -> Wanted:
    """There, whatever it is; or, `present(False)`, not there."""
    return Wanted(Operator.PRESENT, there)


def tests(where: dict[str, Any]) -> tuple[Test, ...]:
    """The tests that authors write as `{path: value or comparison}`."""
    found = []
    for path, wanted in where.items():
        if not isinstance(wanted, Wanted):
            wanted = Wanted(Operator.EQ, wanted)
        found.append(Test(path, wanted.operator, wanted.value))
    return tuple(found)


def check_test(test: Test) -> None:
    """Raise `DefinitionError` for a test that cannot be meant."""
    check_path(test.path)
    value = test.value
    if not is_plain(value):
        raise DefinitionError(
            f"The test of {test.path!r} compares with {value!r}, which is no JSON.",
            next_step="Use texts, numbers, booleans, None, lists and dicts.",
        )
    ordering = test.operator in (Operator.GT, Operator.GE, Operator.LT, Operator.LE)
    if ordering and not (_is_number(value) or isinstance(value, str)):
        raise DefinitionError(
            f"The test of {test.path!r} is {test.operator}({value!r}), and there is no order among "
            "such values.",
            next_step="Compare with a number or a text.",
        )
    if test.operator is Operator.ONE_OF and not isinstance(value, list):
        raise DefinitionError(f"The test of {test.path!r} needs a list of values.")
    if test.operator is Operator.PRESENT and not isinstance(value, bool):
        raise DefinitionError(f"The test of {test.path!r} is present(True) or present(False).")


def check_path(path: str) -> None:
    """Raise `DefinitionError` unless this is a path."""
    head, dot, rest = path.partition(".")
    if head not in PATHS or (dot and (head != "value" or "" in rest.split("."))):
        raise DefinitionError(
            f"{path!r} is not a field of an event.",
            next_step=f"Fields are {', '.join(PATHS)}, and those of a JSON value, as "
            "'value.some.field'.",
        )


def field(event: Event, path: str) -> Any:
    """What stands at the path, as JSON; `MISSING` when there is nothing."""
    head, *rest = path.split(".")
    if head != "value":
        return getattr(event, head) if head in PATHS and not rest else MISSING
    if event.value is None:
        return MISSING
    found = _parse(event.value)
    for name in rest:
        if isinstance(found, dict):
            found = found.get(name, MISSING)
        elif isinstance(found, list) and re.fullmatch(r"[0-9]{1,9}", name):
            place = int(name)
            found = found[place] if place < len(found) else MISSING
        else:
            return MISSING
    return found


def identity(value: Any) -> str | None:
    """A text that is the same for all values that are equal as JSON: 1 and 1.0 are, 1 and true are
    not. None for one that is nested too deep to be compared."""
    try:
        return msgspec.json.encode(_canonical(value), order="sorted").decode()
    except RecursionError:
        return None


def _canonical(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_canonical(v) for v in value]
        case dict():
            return {k: _canonical(v) for k, v in value.items()}
        case _:
            return value


# The same event is looked at for each test of each rule, and nobody changes what is found here.
_parse = lru_cache(maxsize=8)(parse_payload)


def _compare(found: Any, operator: Operator, wanted: Any) -> bool:
    match operator:
        case Operator.EQ:
            return _equal(found, wanted)
        case Operator.NE:
            return not _equal(found, wanted)
        case Operator.ONE_OF:
            return any(_equal(found, w) for w in wanted)
    if not (
        (_is_number(found) and _is_number(wanted))
        or (isinstance(found, str) and isinstance(wanted, str))
    ):
        return False
    match operator:
        case Operator.GT:
            return bool(found > wanted)
        case Operator.GE:
            return bool(found >= wanted)
        case Operator.LT:
            return bool(found < wanted)
        case _:
            return bool(found <= wanted)


def _equal(one: Any, other: Any) -> bool:
    # As texts, because Python takes True for 1.
    known = identity(one)
    return known is not None and known == identity(other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
