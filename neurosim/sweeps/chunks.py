"""Results of points that ran together, in one run file.

A result is numbers and text (metrics) and arrays. Points whose results look alike share a file:
`point` and `config` name them, `metrics/NAME` and `arrays/NAME` have a row for each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np

from neurosim.errors import InvalidArgument, require
from neurosim.recording import RunReader, RunWriter, Status
from neurosim.sweeps.grid import Point

KIND = "sweep"


class Result(NamedTuple):
    """What one run returned."""

    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def layout(self) -> tuple:
        """What results in one file have in common."""
        metrics = tuple((name, type(value)) for name, value in self.metrics.items())
        return metrics, tuple((n, a.shape, a.dtype.str) for n, a in self.arrays.items())


def as_result(returned: Any) -> Result:
    """What a run returned, in metrics and arrays; nested names are joined by dots."""
    require(isinstance(returned, Mapping), "what a run returns", returned, "a mapping of names")
    result = Result({}, {})
    leaves = _leaves(returned)
    _check_names([name for name, _ in leaves])
    for name, value in leaves:
        array = np.asarray(value)
        plain = None if array.ndim else array.item()
        if array.ndim and array.dtype.kind in "biufc":
            result.arrays[name] = array
        elif not array.ndim and isinstance(plain, bool | int | float | str | NoneType):
            fits = not isinstance(plain, int) or -(2**63) <= plain < 2**63
            require(fits, repr(name), plain, "a number of 64 bits")
            result.metrics[name] = np.nan if plain is None else plain
        else:
            raise InvalidArgument(f"{name!r} must be numbers, text or an array, got {value!r}")
    return result


def _check_names(names: Sequence[str]) -> None:
    """Refuse what cannot be stored side by side in one file."""
    known: set[str] = set()
    for name in names:
        parts = name.split("/")
        require("" not in parts and "." not in parts, "the name of a result", name, "not empty")
        require(name not in known, "the name of a result", name, "there once")
        known.add(name)
    for name in names:
        parts = name.split("/")
        for above in ("/".join(parts[:count]) for count in range(1, len(parts))):
            if above in known:
                raise InvalidArgument(f"results cannot be called both {above!r} and {name!r}")


def _leaves(values: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in values.items():
        full = f"{prefix}{name}"
        found += _leaves(value, f"{full}.") if isinstance(value, Mapping) else [(full, value)]
    return found


def file_name(points: Sequence[Point]) -> str:
    """One point's own name, or one for all of them."""
    if len(points) == 1:
        return f"{points[0].key}.h5"
    joined = hashlib.blake2b("".join(p.key for p in points).encode(), digest_size=10)
    return f"chunk-{joined.hexdigest()}.h5"


def write_chunk(
    folder: Path, study: str, points: Sequence[Point], results: Sequence[Result]
) -> Path:
    """The results of points, whose layouts are equal, in one file."""
    path = folder / file_name(points)
    first = results[0]
    config = {"study": study, "points": len(points)}
    with RunWriter(path, kind=KIND, config=config, overwrite=True) as run:
        run.scale("point", np.array([p.key for p in points]), description="hash of its config")
        configs = [json.dumps(point.config) for point in points]
        run.constant("config", np.array(configs), dims=("point",), description="as JSON")
        for name in first.metrics:
            column = np.array([result.metrics[name] for result in results])
            run.constant(f"metrics/{name}", column, dims=("point",))
        for name, array in first.arrays.items():
            axes = [f"arrays/{name}_axis{number}" for number in range(array.ndim)]
            for axis, length in zip(axes, array.shape, strict=True):
                run.scale(axis, np.arange(length))
            stacked = np.stack([result.arrays[name] for result in results])
            run.constant(f"arrays/{name}", stacked, dims=("point", *axes))
        run.start()
    return path


def read_chunk(path: Path) -> tuple[list[Point], dict[str, list[Any]], str, str] | None:
    """Points, metrics, host and time of a file that `write_chunk` finished; None for others."""
    with RunReader(path) as run:
        if run.kind != KIND or run.status is not Status.COMPLETE:
            return None
        configs = [json.loads(str(text)) for text in run["config"]]
        points = [Point(str(key), c) for key, c in zip(run["point"], configs, strict=True)]
        names = [name for name in run.names() if name.startswith("metrics/")]
        metrics = {name.removeprefix("metrics/"): run[name].tolist() for name in names}
        return points, metrics, run.attributes["host"], run.created


def read_arrays(path: Path, name: str) -> dict[str, np.ndarray]:
    """An array of every point in a file; without array of that name, a dataset of the run."""
    with RunReader(path) as run:
        if run.kind != KIND:
            return {path.stem: run[name]}
        return dict(zip(map(str, run["point"]), run[f"arrays/{name}"], strict=True))
