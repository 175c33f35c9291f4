"""How low-rank do networks become that sleep? (Ours: no paper asked.)

Claim: an instant sleep leaves as many different filters as a layer has grids, so that a network
which sleeps is exactly a low-rank one of rank k^2 = 9, while one that never sleeps has a high rank
and loses accuracy when its filters are replaced by their best approximation of a small rank.

Networks, data and rates are those of `neurosim reproduce digits`. The approximation is that of the
SVD (`neurosim.nn.low_rank_of`), of all layers at the same rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from analysis import figures
from analysis.training.figures import Point, against
from analysis.trajectories.spectra import spectrum
from experiments.common.derived import derived
from experiments.common.networks import restore
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, table
from experiments.common.variants import Variant, chosen, remove_checkpoints, run_variants
from experiments.dynamic_sharing import digits
from neurosim.data import Loader
from neurosim.errors import require
from neurosim.files import write_csv
from neurosim.nn import LocallyConnected2d, to_low_rank
from neurosim.training import TrainSettings
from neurosim.training.build import build_augment, build_data
from neurosim.training.evaluation import evaluate

ROWS = ("lc", "ws1", "ws10")


@dataclass(frozen=True)
class Sleeping:
    """Which approximations."""

    ranks: tuple[int, ...] = (1, 2, 4, 9, 16, 32)
    """Ranks of the layers."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        valid = self.ranks and all(rank >= 1 for rank in self.ranks)
        require(valid, "--ranks", self.ranks, "one or more, >= 1")


@dataclass(frozen=True)
class Approximated:
    """One trained network at all ranks."""

    variant: str
    seed: int
    effective_rank: float  # mean over layers
    full: float  # top-1 accuracy in per cent
    top1: dict[int, float]  # by rank
    error: dict[int, float]  # |W - W_K| / |W|, mean over layers


def approximate(
    variant: str, seed: int, path: Path, settings: TrainSettings, ranks: Sequence[int]
) -> Approximated:
    """Restore a trained network, and evaluate it at every rank."""
    about, network = restore(path)
    data = build_data(settings.data, seed)
    loader = Loader(
        data.test, settings.optimisation.batch_size, mean=about.mean, std=about.std,
        augment=build_augment(settings.data, data).evaluation(), shuffle=False,
    )  # fmt: skip

    def accuracy(model: nn.Module) -> float:
        return 100 * evaluate(model, loader.epoch(0)).top1

    layers = [m for m in network.modules() if isinstance(m, LocallyConnected2d)]
    spectra = [spectrum(m.weight.detach().flatten(2).flatten(0, 1).numpy()) for m in layers]
    energies = [s.values**2 / (s.values**2).sum() for s in spectra]
    return Approximated(
        variant,
        seed,
        float(np.mean([s.effective_rank for s in spectra])),
        accuracy(network),
        {rank: accuracy(to_low_rank(network, None, rank)) for rank in ranks},
        {rank: float(np.mean([np.sqrt(e[rank:].sum()) for e in energies])) for rank in ranks},
    )


def variants(sleeping: Sleeping, options: TrainingOptions) -> list[Variant]:
    """Networks of translated digits: those asked for, by default the locally connected ones."""
    return chosen(digits.variants(options), options.variants or ROWS)


def run(sleeping: Sleeping, options: TrainingOptions) -> Report:
    """Accuracy and error of networks with and without sleep, at the best approximation of a rank.

    Args:
        sleeping: Which approximations.
        options: What to train on, how long, and where results go.
    """
    sleeping.check()
    rows_of = variants(sleeping, options)
    keep = replace(options, keep_checkpoints=True)
    folder, outcomes = run_variants("lrlc-sleeping", rows_of, keep, range(3))
    found = [
        _kept(outcome.variant, run.seed, path, sleeping.ranks)
        for outcome in outcomes
        for run, path in zip(outcome.runs, outcome.files, strict=True)
    ]
    remove_checkpoints(outcomes, options)
    path = _write_csv(folder / "lrlc-sleeping.csv", found)
    by_variant = {
        name: [f for f in found if f.variant == name] for name in (v.name for v in rows_of)
    }
    lines = {
        name: [_point(rank, [f.top1[rank] for f in runs]) for rank in sleeping.ranks]
        for name, runs in by_variant.items()
    }
    drawn = figures.save(against(lines, "rank of every layer"), folder / "lrlc-sleeping")
    header = ["network", "runs", "effective rank", "top-1", *(f"K = {k}" for k in sleeping.ranks)]
    rows = []
    for name, runs in by_variant.items():
        cells = [f"{np.mean([f.effective_rank for f in runs]):.2f}"]
        cells += [f"{np.mean([f.full for f in runs]):.1f}"]
        cells += [
            f"{np.mean([f.top1[k] for f in runs]):.1f} ({np.mean([f.error[k] for f in runs]):.2f})"
            for k in sleeping.ranks
        ]
        rows.append([name, str(len(runs)), *cells])
    text = [*table(header, rows), "in brackets: |W - W_K| / |W|, mean over layers"]
    return Report(
        "lrlc-sleeping", folder, drawn, text, {"networks": [vars(f) for f in found]}, table=path
    )


def _kept(variant: Variant, seed: int, path: Path, ranks: Sequence[int]) -> Approximated:
    """Approximate a network, or read what came of it."""

    def compute() -> dict[str, Any]:
        return asdict(approximate(variant.name, seed, path, variant.settings, ranks))

    values = derived(path, "approximations", compute, ranks=ranks)
    for name in ("top1", "error"):
        values[name] = {int(rank): value for rank, value in values[name].items()}  # JSON's are text
    return Approximated(**values)


def _point(rank: int, values: Sequence[float]) -> Point:
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Point(rank, float(np.mean(values)), float(error))


def _write_csv(path: Path, found: Sequence[Approximated]) -> Path:
    rows = []
    for one in found:
        start = [one.variant, one.seed, f"{one.effective_rank:.4f}", f"{one.full:.4f}"]
        for rank, top1 in one.top1.items():
            rows.append([*start, rank, f"{top1:.4f}", f"{one.error[rank]:.6f}"])
    header = ["network", "seed", "effective_rank", "full_top1", "rank", "top1", "error"]
    return write_csv(path, header, rows)
