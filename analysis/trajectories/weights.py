"""The weights that a training run kept: which layers, when, and one snapshot of one at a time."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurosim.errors import RunFileError, require_choice
from neurosim.recording import RunReader

PART_BYTES = 2**24  # of weights in double precision that are worked on at once


@dataclass(frozen=True, eq=False)
class RecordedLayer:
    """A layer whose weights are in a run file.

    The grid of a position, and whether its receptive field lies inside the image, are the run
    file's constants `weights/LAYER/grid` and `weights/LAYER/interior`. Without them a position
    belongs to the grid of its place modulo the kernel size, which holds for every stride that
    has no divisor in common with the kernel size, and the interior are the positions at least
    half a kernel from the border, which holds for stride 1 and padding that keeps the size.
    """

    name: str
    size: tuple[int, ...]  # positions along every axis; none for a layer that shares its filters
    outputs: int
    inputs: int  # of one group
    kernel: tuple[int, ...]
    grid: NDArray[np.int64]  # (positions,), number of each one's grid
    interior: NDArray[np.bool_]  # (positions,)

    @property
    def is_local(self) -> bool:
        """Whether every position has filters of its own."""
        return len(self.size) > 0

    @property
    def positions(self) -> int:
        """Number of positions with filters of their own, 1 if they are shared."""
        return math.prod(self.size)


def recorded_layers(run: RunReader) -> dict[str, RecordedLayer]:
    """All layers with snapshots: locally connected ones in the network's order, then others."""
    if run.kind != "training":
        raise RunFileError(f"{run.path}: must be of kind 'training', got {run.kind!r}")
    names = run.names()
    kept = [name[len("weights/") : -len("/weight")] for name in names if _is_weight(name)]
    if not kept:
        raise RunFileError(
            f"{run.path}: holds no weights; record them with neurosim train --snapshot-every N"
        )
    local = [str(name) for name in run["layer"]] if "layer" in names else []
    ordered = [*(n for n in local if n in kept), *(n for n in kept if n not in local)]
    return {name: _layer(run, name, name in local) for name in ordered}


def chosen_layers(run: RunReader, patterns: Sequence[str] | None) -> dict[str, RecordedLayer]:
    """The layers with snapshots whose names match one of the patterns; all without any."""
    known = recorded_layers(run)
    if patterns is None:
        return known
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            require_choice(f"{run.path}: layer", pattern, known)
    return {n: known[n] for n in known if any(fnmatch.fnmatchcase(n, p) for p in patterns)}


def read_weight(run: RunReader, layer: RecordedLayer, snapshot: int) -> NDArray[np.floating]:
    """The weight of a layer in one snapshot, (positions, outputs inputs taps)."""
    return run.read(f"weights/{layer.name}/weight", snapshot).reshape(layer.positions, -1)


def read_present(run: RunReader, layer: RecordedLayer) -> NDArray[np.bool_] | None:
    """Which connections a layer has, (positions, outputs inputs taps); None if all."""
    if (stored := f"weights/{layer.name}/present") not in run.names():
        return None
    return run[stored].astype(bool).reshape(layer.positions, -1)


def parts(count: int, bytes_of_one: int) -> Iterator[slice]:
    """Cut `count` things into parts that may be worked on in double precision."""
    step = max(1, PART_BYTES // max(1, bytes_of_one))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _is_weight(name: str) -> bool:
    return name.startswith("weights/") and name.endswith("/weight")


def _layer(run: RunReader, name: str, local: bool) -> RecordedLayer:
    shape = run.describe(f"weights/{name}/weight").shape[1:]
    axes = (len(shape) - 2) // 2 if local else 0
    size, (outputs, inputs, *kernel) = shape[:axes], shape[axes:]
    places = np.indices(size).reshape(axes, -1) if axes else np.zeros((1, 1), int)
    grid, interior = _default_grid(places, size, kernel[:axes])
    known = set(run.names())
    if (stored := f"weights/{name}/grid") in known:
        grid = run[stored].reshape(-1).astype(np.int64)
    if (stored := f"weights/{name}/interior") in known:
        interior = run[stored].reshape(-1).astype(bool)
    return RecordedLayer(name, size, outputs, inputs, tuple(kernel), grid, interior)


def _default_grid(
    places: NDArray[np.int64], size: Sequence[int], kernel: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Grid and interior of positions (axes, positions) where the run file does not have them."""
    grid = np.zeros(places.shape[1], np.int64)
    interior = np.ones(places.shape[1], bool)
    for along, length, taps in zip(places, size, kernel, strict=False):
        grid = grid * taps + along % taps
        interior &= (along >= taps // 2) & (along < length - (taps - 1) // 2)
    return grid, interior
