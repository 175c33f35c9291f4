"""What every run by beta-LASSO is asked: what is left of its weights, and where they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from analysis.bounds import Description, describe_run
from analysis.statistics import t_interval
from experiments.common.derived import derived
from experiments.common.networks import restore
from experiments.common.result import table
from experiments.common.variants import Outcome
from neurosim.data import Loader
from neurosim.errors import InvalidArgument
from neurosim.files import write_csv
from neurosim.recording import RunReader
from neurosim.training import DataSettings
from neurosim.training.build import build_augment, build_data
from neurosim.training.evaluation import Evaluation, evaluate


@dataclass(frozen=True)
class Remains:
    """The weights at the end of a run."""

    variant: str
    seed: int
    top1: float
    layers: tuple[str, ...]
    parameters: NDArray[np.int64]  # (layers,)
    nonzeros: NDArray[np.int64]  # (layers,)
    windows: tuple[int, ...]  # radii
    locality: NDArray[np.float64]  # (learned and two chances, radii) of the first layer, or empty


def remains(outcomes: Iterable[Outcome]) -> list[Remains]:
    """Of every run of an experiment."""
    return [_remains(path, outcome.variant.name) for outcome in outcomes for path in outcome.files]


def _remains(path: Path, variant: str) -> Remains:
    with RunReader(path) as run:
        local = "locality" in run.names()
        return Remains(
            variant,
            run.seed,
            float(run["top1"][-1]),
            tuple(str(name) for name in run["weight_layer"]),
            run["parameters"],
            run["nonzeros"][-1],
            tuple(int(r) for r in run["window"]) if local else (),
            run["locality"][-1][0] if local else np.empty((3, 0)),
        )


def mean_with_interval(values: Sequence[float] | NDArray[np.float64], digits: int = 3) -> str:
    """Mean and 95% t interval over seeds."""
    found = t_interval(values)
    reach = "" if np.isnan(found.high) else f" ± {found.high - found.mean:.{digits}f}"
    return f"{found.mean:.{digits}f}{reach}"


def remains_table(found: Sequence[Remains]) -> list[str]:
    """Accuracy, share of non-zero weights of every layer, locality and chance, over seeds."""
    depth = max(len(one.layers) for one in found)
    windows = next((one.windows for one in found if one.windows), ())
    header = ["variant", "runs", "top-1", *(f"non-zero {i + 1}" for i in range(depth))]
    header += [f"within {r}" for r in windows] + [f"chance {r}" for r in windows]
    rows = []
    for name in dict.fromkeys(one.variant for one in found):
        runs = [one for one in found if one.variant == name]
        shares = np.array([one.nonzeros / one.parameters for one in runs]).T
        cells = [mean_with_interval([100 * one.top1 for one in runs], 2)]
        cells += [mean_with_interval(share, 4) for share in shares]
        cells += ["-"] * (depth - len(shares))
        if runs[0].windows:
            learned = np.array([one.locality[0] for one in runs]).T
            chance = np.array([one.locality[1:].max(0) for one in runs]).T
            cells += [mean_with_interval(values) for values in (*learned, *chance)]
        else:
            cells += ["-"] * (2 * len(windows))
        rows.append([name, str(len(runs)), *cells])
    return table(header, rows)


def write_remains(path: Path, found: Sequence[Remains]) -> Path:
    """One row for every run and layer; locality stands in the first layer's row."""
    windows = next((one.windows for one in found if one.windows), ())
    kinds = ("learned", "chance_pixels", "chance_units")
    columns = [f"{kind}_within_{r}" for kind in kinds for r in windows]
    header = ["variant", "seed", "top1", "layer", "parameters", "nonzeros", *columns]
    rows = []
    for one in found:
        for number, layer in enumerate(one.layers):
            counts = int(one.parameters[number]), int(one.nonzeros[number])
            local = [f"{v:.6g}" for v in one.locality.ravel()] if number == 0 else []
            row = [one.variant, one.seed, f"{one.top1:.6g}", layer, *counts, *local]
            rows.append(row + [""] * (len(header) - len(row)))
    return write_csv(path, header, rows)


def accuracy(
    run_file: Path,
    data: Path | None,
    part: Literal["train", "test"],
    network: nn.Module | None = None,
) -> Evaluation:
    """How a run's last network, or another, does on the run's images, not augmented."""
    network = restore(run_file)[1] if network is None else network
    with RunReader(run_file) as run:
        settings, seed = DataSettings(**{**run.config["data"], "data": data}), run.seed
    images = build_data(settings, seed)
    augment = build_augment(settings, images).evaluation()
    split = images.train if part == "train" else images.test
    loader = Loader(split, 256, mean=images.mean, std=images.std, augment=augment)
    return evaluate(network, loader.epoch(0))


def bounds(run_file: Path, data: Path | None) -> Description:
    """Theorems 1 and 2 for a run."""
    found = derived(run_file, "bounds", lambda: vars(_bounds(run_file, data)))
    return Description(**found)


def _bounds(run_file: Path, data: Path | None) -> Description:
    known = accuracy(run_file, data, "train")
    with RunReader(run_file) as run:
        if "nonzeros" not in run.names():
            raise InvalidArgument(f"{run_file}: must have recorded --nonzeros")
        return describe_run(run, 1 - known.top1, known.images)


def bounds_table(found: dict[str, Description]) -> list[str]:
    """Lengths in millions of bits, and what they say of the error."""
    header = ["variant", "weights", "non-zero", "Mbit, all", "Mbit, Thm 2", "Mbit, subset"]
    header += ["Thm 1, all", "Thm 2", "Thm 1, subset"]
    rows = []
    for name, d in found.items():
        lengths = [f"{bits / 1e6:.3g}" for bits in (d.dense, d.mapped, d.subset)]
        errors = [f"{bound:.3g}" for bound in (d.theorem1, d.theorem2, d.theorem1_subset)]
        rows.append([name, f"{d.total:,}", f"{d.nonzeros:,}", *lengths, *errors])
    return table(header, rows)
