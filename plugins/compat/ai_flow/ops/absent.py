"""AIFlow 0.4 answers None where there is nothing; now that is an error."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from aiflow_core.errors import NotFoundError

P = ParamSpec("P")
R = TypeVar("R")


def none_if_absent(get: Callable[P, R]) -> Callable[P, R | None]:
    """`get`, answering None instead of raising `NotFoundError`."""

    @wraps(get)
    def get_or_none(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return get(*args, **kwargs)
        except NotFoundError:
            return None

    return get_or_none
