"""Does training make networks more like a monkey's visual cortex, and does sleep help? (ours)

Claim: responses of a trained ResNet-20 predict neurons of macaque V4 better than those of the
same network before training, and than pixels. Table 3 of the paper asks this of ImageNet networks
on Brain-Score's private benchmarks; here networks of minutes meet two free data sets:

    V4   Cowley et al. 2023: PLS predictions of neurons that were recorded repeatedly, median r
    IT   Kriegeskorte et al. 2008: dissimilarity matrices of monkeys and people

Every network is scored with every seed before and after training; the interval is that of the
mean over seeds, and the gain is paired: trained minus untrained of the same seed.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from analysis.benchmark.datasets import cowley2023, kriegeskorte2008
from analysis.benchmark.form import Benchmark
from analysis.benchmark.scoring import Candidate, Network, Score, pixels, score
from analysis.representations.activations import Extraction, block_names
from analysis.statistics import t_interval
from experiments.common.networks import Description, restore
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, table
from experiments.common.variants import Variant, run_variants
from neurosim.data.sources import data_folder
from neurosim.progress import StatusLine
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    SleepSettings,
    TrainSettings,
)

POOL = 7  # larger maps are averaged down to so many rows and columns
SESSION = "210325"  # of the V4 data: the one whose repetitions were kept
SLEEP = SleepSettings(sleep="instant", every=10)


@dataclass(frozen=True)
class Brains:
    """What is trained before it is scored."""

    lr: float = 2e-3
    """Learning rate of AdamW."""


class Row(NamedTuple):
    """A model and a region."""

    model: str
    region: str
    raw: np.ndarray  # of every seed
    gain: np.ndarray | None  # over the same networks before training


def run(brains: Brains, options: TrainingOptions) -> Report:
    """Train ResNet-20 (conv, lc, ws10) and score it on macaque V4 and primate IT, before and after.

    A small version takes about ten minutes on two cores:
        neurosim reproduce brains --subset 10000 --epochs 8 --variants conv --batch-size 64

    Args:
        brains: What is trained before it is scored.
        options: On what, how long, and where results go.
    """
    benchmarks = find_benchmarks(options.data)
    options = replace(options, keep_checkpoints=True)
    folder, outcomes = run_variants("brains", variants(brains, options), options, (0, 1, 2))
    line = StatusLine(quiet=options.quiet)
    scores: dict[str, list[list[Score]]] = {}  # by model, of every seed
    for outcome in outcomes:
        for run_of in outcome.runs:
            path = folder / f"{outcome.variant.name}-seed{run_of.seed}.h5"
            about, module = restore(path)
            for name, network in {
                f"untrained {outcome.variant.name}": untrained(about, run_of.seed),
                outcome.variant.name: module,
            }.items():
                found = scored(_network(name, network, about), benchmarks, line)
                scores.setdefault(name, []).append(found)
    scores["pixels"] = [scored(pixels(), benchmarks, line)]
    return report(folder, rows(scores))


def variants(brains: Brains, options: TrainingOptions) -> list[Variant]:
    """conv, lc and ws10, all with the same optimizer."""
    data = DataSettings("cifar10", pad=4)
    wake = OptimisationSettings(lr=brains.lr, batch_size=64, epochs=20, lr_schedule="cosine")
    plain = options.apply(TrainSettings(data, NetworkSettings("resnet20", "local"), wake))
    return [
        Variant("conv", replace(plain, network=NetworkSettings("resnet20", "conv"))),
        Variant("lc", plain),
        Variant("ws10", replace(plain, sleep=SLEEP)),
    ]


def find_benchmarks(data: Path | None) -> list[Benchmark]:
    """Both data sets; one that is missing is an error that says where it was looked for."""
    folder = data_folder(data)
    return [
        cowley2023(folder / "macaque_v4.npz", session=SESSION),
        kriegeskorte2008(folder / "primate_it_92.npz"),
    ]


def untrained(about: Description, seed: int) -> torch.nn.Module:
    """The network as its training with this seed began."""
    torch.manual_seed(seed)
    return about.build().eval()


def scored(candidate: Candidate, benchmarks: Sequence[Benchmark], line: StatusLine) -> list[Score]:
    """On all regions of all benchmarks."""
    return [found for b in benchmarks for found in score([candidate], b, tell=line.say)]


def rows(scores: dict[str, list[list[Score]]]) -> list[Row]:
    """One for each model and region."""
    found = []
    for model, of_seeds in scores.items():
        before = scores.get(f"untrained {model}")
        for number, first in enumerate(of_seeds[0]):
            raw = np.array([seed[number].raw for seed in of_seeds])
            gain = raw - [seed[number].raw for seed in before] if before else None
            found.append(Row(model, first.region, raw, gain))
    return found


def report(folder: Path, found: Sequence[Row]) -> Report:
    """Means over seeds with 95% t intervals, as text and CSV."""
    header = ["model", "region", "seeds", "score", "95% interval", "gain", "95% interval"]
    lines, values = [], []
    path = folder / "brains.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "region", "seed", "score", "gain"])
        for row in found:
            cells = [row.model, row.region, str(len(row.raw)), *_interval(row.raw)]
            lines.append([*cells, *(("-", "-") if row.gain is None else _interval(row.gain))])
            gains = [""] * len(row.raw) if row.gain is None else row.gain.tolist()
            for seed, (raw, gain) in enumerate(zip(row.raw.tolist(), gains, strict=True)):
                writer.writerow([row.model, row.region, seed, raw, gain])
            values.append({"model": row.model, "region": row.region, "raw": row.raw.tolist()})
    return Report("brains", folder, [], table(header, lines), {"scores": values}, table=path)


def _interval(values: np.ndarray) -> tuple[str, str]:
    """Mean and 95% t interval over seeds."""
    found = t_interval(values)
    bounds = "-" if np.isnan(found.low) else f"{found.low:.3f} to {found.high:.3f}"
    return f"{found.mean:.3f}", bounds


def _network(name: str, module: torch.nn.Module, about: Description) -> Network:
    layers = tuple(block_names(module))
    return Network(name, module, layers, about.view, Extraction(pool=POOL))
