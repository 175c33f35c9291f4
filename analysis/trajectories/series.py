"""What the weights of a training run did: measures of every layer in every snapshot.

A run file may be larger than memory: one snapshot of one layer is read at a time, and worked on
in parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from analysis.arguments import as_names
from analysis.statistics import Array
from analysis.trajectories.equality import equality
from analysis.trajectories.filters import RADII, Normalisation, filter_distances
from analysis.trajectories.spectra import spectrum
from analysis.trajectories.weights import (
    PART_BYTES,
    RecordedLayer,
    chosen_layers,
    read_present,
    read_rows,
    read_weight,
)
from neurosim.errors import require, require_choice, require_instance
from neurosim.recording import RunReader

Quantity = Literal["equality", "distances", "rank", "sparsity", "drift"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
TITLES = {
    "inverse_snr": "−log SNR",
    "convolution_distance": "distance to a convolution",
    "explained_by_grids": "explained by grids",
    "drift": "drift from the start",
    "step_drift": "drift between snapshots",
    "nonzero": "weights that are not 0",
}


@dataclass(frozen=True)
class Wanted:
    """What to measure."""

    quantities: tuple[Quantity, ...] = QUANTITIES
    """SNR, spread and norm; distances between filters; effective rank; zeros; change."""
    radii: tuple[int, ...] | None = RADII
    """Rings of neighbours between which distances are taken; None for all."""
    normalisation: Normalisation = "layer"
    """What filters are divided by before that."""
    at_most: int | None = None
    """Take so many snapshots only, evenly spaced, the first and the last among them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "quantities", as_names(self.quantities))

    def check(self) -> None:
        """Refuse values that make no sense."""
        for quantity in self.quantities:
            require_choice("--quantities", quantity, QUANTITIES)
        radii = self.radii or (1,)
        valid = all(radius >= 1 for radius in radii) and len(set(radii)) == len(radii)
        require(valid, "--radii", radii, "whole numbers >= 1 without repetitions")
        require_choice("--normalisation", self.normalisation, get_args(Normalisation))
        require(self.at_most is None or self.at_most >= 1, "at_most", self.at_most, ">= 1")


@dataclass(frozen=True)
class Trajectory:
    """Measures of one layer over time.

    Names are those of `Equality`, euclidean_R and cosine_R for every radius R, effective_rank,
    participation_ratio, sparsity (share of weights that are 0), nonzero (how many are not),
    drift (distance to the weights of the first snapshot, over their norm) and step_drift (to
    those of the snapshot before).
    """

    layer: str
    local: bool
    steps: NDArray[np.int64]  # (T,), optimizer steps done
    values: dict[str, Array]  # by measure, (T,); NaN where it has no value


def weight_trajectories(
    run: RunReader, layers: str | Sequence[str] | None = None, wanted: Wanted | None = None
) -> Iterator[Trajectory]:
    """The trajectories of layers whose names match a pattern, or of all, one after the other."""
    wanted = wanted or Wanted()
    require_instance("wanted", wanted, Wanted)
    wanted.check()
    for layer in chosen_layers(run, layers).values():
        yield trajectory(run, layer, wanted)


def trajectory(run: RunReader, layer: RecordedLayer, wanted: Wanted) -> Trajectory:
    """The trajectory of one layer."""
    steps = run["snapshot"]
    chosen = evenly(len(steps), wanted.at_most)
    present = read_present(run, layer)
    rows: list[dict[str, float]] = []
    for number, snapshot in enumerate(chosen):
        weight = read_weight(run, layer, snapshot)
        with np.errstate(invalid="ignore", over="ignore"):  # of weights that diverged
            row = _measure(weight, layer, wanted, present)
        if "drift" in wanted.quantities:
            before = chosen[max(number - 1, 0)]
            row["drift"] = _change(run, layer, weight, 0)
            row["step_drift"] = _change(run, layer, weight, before) if number else math.nan
        rows.append(row)
    names = rows[0] if rows else {}
    values = {name: np.array([row[name] for row in rows]) for name in names}
    return Trajectory(layer.name, layer.is_local, steps[chosen], values)


def evenly(count: int, at_most: int | None) -> list[int]:
    """Numbers of `at_most` out of `count` things, evenly spaced, both ends included."""
    if at_most is None or count <= at_most:
        return list(range(count))
    return np.unique(np.linspace(count - 1, 0, at_most).round().astype(int)).tolist()


def title(measure: str) -> str:
    """What a measure is called on axes and in tables."""
    name, _, radius = measure.rpartition("_")
    if name in ("euclidean", "cosine") and radius.isdigit():
        return f"{name.capitalize()} distance, r = {radius}"
    return TITLES.get(measure, measure.replace("_", " "))


def _measure(
    weight: NDArray[np.floating],
    layer: RecordedLayer,
    wanted: Wanted,
    present: NDArray[np.bool_] | None,
) -> dict[str, float]:
    """Measures of one snapshot of one layer; of layers with shared filters those that they have."""
    found: dict[str, float] = {}
    if layer.is_local and "equality" in wanted.quantities:
        found |= asdict(equality(weight, layer.grid, layer.interior, present))
    elif "equality" in wanted.quantities:
        found["norm"] = float(np.sqrt(np.vdot(weight, weight)))
    if layer.is_local and "distances" in wanted.quantities:
        filters = weight.reshape(*layer.size, -1)
        between = filter_distances(filters, wanted.radii, wanted.normalisation)
        for index, radius in enumerate(between.radii):
            found[f"euclidean_{radius}"] = float(between.euclidean[index])
            found[f"cosine_{radius}"] = float(between.cosine[index])
    if layer.is_local and "rank" in wanted.quantities:
        of_filters = spectrum(weight)
        found["effective_rank"] = of_filters.effective_rank
        found["participation_ratio"] = of_filters.participation_ratio
    if "sparsity" in wanted.quantities:
        nonzero = int(np.count_nonzero(weight))
        found |= {"sparsity": 1 - nonzero / weight.size, "nonzero": nonzero}
    return found


def _change(
    run: RunReader, layer: RecordedLayer, weight: NDArray[np.floating], snapshot: int
) -> float:
    """Distance to the weights of another snapshot over their norm, read in parts."""
    squares, norm = 0.0, 0.0
    length = layer.size[0] if layer.is_local else layer.outputs
    own = weight.reshape(length, -1)
    for start in range(0, length, step := max(1, PART_BYTES // (8 * own[0].size))):
        rows = slice(start, start + step)
        other = read_rows(run, layer, snapshot, rows).reshape(-1, own.shape[1]).astype(np.float64)
        with np.errstate(invalid="ignore"):
            squares += ((own[rows] - other) ** 2).sum()
        norm += (other**2).sum()
    return math.sqrt(squares / norm) if norm else math.nan
