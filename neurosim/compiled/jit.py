"""One way to compile with numba, for every kernel of the package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile `function` so that it runs outside the interpreter lock.

    Reassociation and contraction let sums use vector instructions. Full fastmath would
    let the compiler assume that there is no NaN, and drop the checks for it.
    """
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz"},
    }
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # no folder in which numba could cache: compile in every process
        return cast(F, numba.njit(**options)(function))
