"""The weights that a training run kept: which layers, when, and one snapshot of one at a time."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.arguments import as_names, check_run
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

    A low-rank layer is kept as banks and the weights that combine them; read, it has filters of its
    own at every position like a locally connected one.
    """

    name: str
    size: tuple[int, ...]  # positions along every axis; none for a layer that shares its filters
    outputs: int
    inputs: int  # of one group
    kernel: tuple[int, ...]
    grid: NDArray[np.int64]  # (positions,), number of each one's grid
    interior: NDArray[np.bool_]  # (positions,)
    low_rank: bool = False

    @property
    def is_local(self) -> bool:
        """Whether every position has filters of its own."""
        return len(self.size) > 0

    @property
    def positions(self) -> int:
        """Number of positions with filters of their own, 1 if they are shared."""
        return math.prod(self.size)


def has_weights(run: RunReader) -> bool:
    """Whether snapshots hold weights; they may be of distances between filters only."""
    return any(name.startswith("weights/") for name in run.names())


def recorded_layers(run: RunReader) -> dict[str, RecordedLayer]:
    """All layers with snapshots: locally connected ones in the network's order, then others."""
    check_run(run, "training")
    names = run.names()
    kept = _kept(names, "weight")
    low_rank = _kept(names, "combining")
    if not kept and not low_rank:
        raise RunFileError(
            f"{run.path}: holds no weights; record them with neurosim train --snapshot-every N"
        )
    local = [str(name) for name in run["layer"]] if "layer" in names else []
    ordered = [*(n for n in local if n in kept), *(n for n in kept if n not in local)]
    found = {name: _layer(run, name, name in local) for name in ordered}
    return {name: _low_rank_layer(run, name) for name in low_rank} | found


def chosen_layers(run: RunReader, patterns: str | Sequence[str] | None) -> dict[str, RecordedLayer]:
    """The layers with snapshots whose names match one of the patterns; all without any."""
    known = recorded_layers(run)
    if patterns is None:
        return known
    patterns = as_names(patterns)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            require_choice(f"{run.path}: layer", pattern, known)
    return {n: known[n] for n in known if any(fnmatch.fnmatchcase(n, p) for p in patterns)}


def read_weight(run: RunReader, layer: RecordedLayer, snapshot: int) -> NDArray[np.floating]:
    """The weight of a layer in one snapshot, (positions, outputs inputs taps)."""
    return read_rows(run, layer, snapshot, slice(None)).reshape(layer.positions, -1)


def read_rows(
    run: RunReader, layer: RecordedLayer, snapshot: int, rows: slice
) -> NDArray[np.floating]:
    """Part of it along the first axis: rows of positions, or output channels of shared filters."""
    group = f"weights/{layer.name}"
    if not layer.low_rank:
        return run.read(f"{group}/weight", (snapshot, rows))
    combining = run.read(f"{group}/combining", (snapshot, slice(None), rows))
    return np.tensordot(combining, run.read(f"{group}/banks", snapshot), (0, 0))  # Eq. 2


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


def _kept(names: Sequence[str], what: str) -> list[str]:
    """Layers of which the run file has this."""
    prefix, suffix = "weights/", f"/{what}"
    found = (name for name in names if name.startswith(prefix) and name.endswith(suffix))
    return [name[len(prefix) : -len(suffix)] for name in found]


def _layer(run: RunReader, name: str, local: bool) -> RecordedLayer:
    shape = run.describe(f"weights/{name}/weight").shape[1:]
    axes = (len(shape) - 2) // 2 if local else 0
    return _placed(run, name, shape[:axes], shape[axes:])


def _low_rank_layer(run: RunReader, name: str) -> RecordedLayer:
    _, _, *size = run.describe(f"weights/{name}/combining").shape
    _, _, *filters = run.describe(f"weights/{name}/banks").shape
    return _placed(run, name, tuple(size), filters, low_rank=True)


def _placed(
    run: RunReader,
    name: str,
    size: tuple[int, ...],
    filters: Sequence[int],
    *,
    low_rank: bool = False,
) -> RecordedLayer:
    """A layer with filters of this shape at so many positions along every axis."""
    axes, (outputs, inputs, *kernel) = len(size), filters
    places = np.indices(size).reshape(axes, -1) if axes else np.zeros((1, 1), int)
    grid, interior = _default_grid(places, size, kernel[:axes])
    known = set(run.names())
    if (stored := f"weights/{name}/grid") in known:
        grid = run[stored].reshape(-1).astype(np.int64)
    if (stored := f"weights/{name}/interior") in known:
        interior = run[stored].reshape(-1).astype(bool)
    return RecordedLayer(name, size, outputs, inputs, tuple(kernel), grid, interior, low_rank)


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
