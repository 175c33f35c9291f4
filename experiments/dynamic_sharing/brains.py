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

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from analysis.benchmark.candidates import Candidate, Network, pixels
from analysis.benchmark.datasets import cowley2023, kriegeskorte2008
from analysis.benchmark.form import Benchmark
from analysis.benchmark.scoring import Score, score
from analysis.representations.activations import Extraction, block_names
from analysis.statistics import t_interval
from experiments.common.derived import derived
from experiments.common.networks import Description, restore
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, table
from experiments.common.variants import Variant, remove_checkpoints, run_variants
from neurosim.data.sources import data_folder
from neurosim.files import write_csv
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


BySeed = dict[int | None, list[Score]]
"""Scores of a model trained with a seed; None for what has none, such as pixels."""


class Row(NamedTuple):
    """A model and a region."""

    model: str
    region: str
    seeds: tuple[int | None, ...]
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
    keep = replace(options, keep_checkpoints=True)
    folder, outcomes = run_variants("brains", variants(brains, options), keep, (0, 1, 2))
    line = StatusLine(quiet=options.quiet)

    def compare(name: str, seed: int, path: Path) -> dict[str, list[dict[str, Any]]]:
        about, module = restore(path)
        models = {f"untrained {name}": untrained(about, seed), name: module}
        return {
            model: [asdict(s) for s in scored(_network(model, network, about), benchmarks, line)]
            for model, network in models.items()
        }

    scores: dict[str, BySeed] = {}
    names = [benchmark.name for benchmark in benchmarks]
    for outcome in outcomes:
        for curves, path in zip(outcome.runs, outcome.files, strict=True):
            compute = partial(compare, outcome.variant.name, curves.seed, path)
            found = derived(path, "scores", compute, benchmarks=names, pool=POOL)
            for model, values in found.items():
                scores.setdefault(model, {})[curves.seed] = [Score(**value) for value in values]
    remove_checkpoints(outcomes, options)
    scores["pixels"] = {None: scored(pixels(), benchmarks, line)}
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


def rows(scores: dict[str, BySeed]) -> list[Row]:
    """One for each model and region."""
    found = []
    for model, of_seeds in scores.items():
        before = scores.get(f"untrained {model}")
        for number, first in enumerate(next(iter(of_seeds.values()))):
            raw = np.array([scored[number].raw for scored in of_seeds.values()])
            gain = raw - [before[seed][number].raw for seed in of_seeds] if before else None
            found.append(Row(model, first.region, tuple(of_seeds), raw, gain))
    return found


def report(folder: Path, found: Sequence[Row]) -> Report:
    """Means over seeds with 95% t intervals, as text and CSV."""
    header = ["model", "region", "seeds", "score", "95% interval", "gain", "95% interval"]
    lines, values = [], []
    by_seed = []
    for row in found:
        cells = [row.model, row.region, str(len(row.raw)), *_interval(row.raw)]
        lines.append([*cells, *(("-", "-") if row.gain is None else _interval(row.gain))])
        gains = [""] * len(row.raw) if row.gain is None else row.gain.tolist()
        for seed, raw, gain in zip(row.seeds, row.raw.tolist(), gains, strict=True):
            by_seed.append([row.model, row.region, "" if seed is None else seed, raw, gain])
        values.append({"model": row.model, "region": row.region, "raw": row.raw.tolist()})
    columns = ["model", "region", "seed", "score", "gain"]
    path = write_csv(folder / "brains.csv", columns, by_seed)
    return Report("brains", folder, [], table(header, lines), {"scores": values}, table=path)


def _interval(values: np.ndarray) -> tuple[str, str]:
    """Mean and 95% t interval over seeds."""
    found = t_interval(values)
    bounds = "-" if np.isnan(found.low) else f"{found.low:.3f} to {found.high:.3f}"
    return f"{found.mean:.3f}", bounds


def _network(name: str, module: torch.nn.Module, about: Description) -> Network:
    layers = tuple(block_names(module))
    return Network(name, module, layers, about.view, Extraction(pool=POOL))
