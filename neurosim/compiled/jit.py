"""One way to compile with numba, for every kernel of the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event as events

from neurosim.progress import notice

F = TypeVar("F", bound=Callable[..., Any])


# NUMBA_DISABLE_JIT=1: functions run as Python, to be looked into; tiles, which are written in a
# processor's instructions, cannot, and what is made of them leaves its work to torch.
INTERPRETED = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


class _Told(events.Listener):
    """Says once that something is compiled; what lies in numba's cache is not."""

    told = False

    def on_start(self, event: events.Event) -> None:
        if not self.told:
            self.told = True
            notice("compiling for this processor, which takes some seconds the first time")

    def on_end(self, event: events.Event) -> None:
        pass


events.register("numba:compile", _Told())


def compiled(function: F) -> F:
    """Compile `function` so that it runs outside the interpreter lock.

    Reassociation and contraction let sums use vector instructions. Full fastmath would
    let the compiler assume that there is no NaN, and drop the checks for it.
    """
    if INTERPRETED:
        return function
    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        "fastmath": {"reassoc", "contract", "nsz"},
    }
    try:
        found = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder in which numba could cache: compile in every process
        return cast(F, numba.njit(**options)(function))
    _watch(found, [Path(__file__).parent, Path(function.__code__.co_filename).parent])
    return cast(F, found)


def _watch(dispatcher: Any, folders: list[Path]) -> None:
    """Let what is in numba's cache be old when any file of these folders changes.

    numba looks at the file of a function only, but compiles into it what that calls, and the
    layout of tuples that it is given.
    """
    index = dispatcher._cache._cache_file
    index._source_stamp = (index._source_stamp, stamp(folders))


def stamp(folders: list[Path]) -> tuple[tuple[str, float, int], ...]:
    """Name, time and size of every Python file in these folders."""
    files = sorted(path for folder in set(folders) for path in folder.glob("*.py"))
    found = ((path.name, path.stat()) for path in files)
    return tuple((name, info.st_mtime, info.st_size) for name, info in found)
