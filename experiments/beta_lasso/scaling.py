"""Figs. 1 and 2: how networks grow, and how large they must be to fit.

Claim: parameters of fully connected networks grow with the fourth power of the image's side,
those of local and convolutional ones with the square (there is no global pooling); and
architectures that need fewer parameters to fit the training images are those that generalise
better. (The published figures have no numbers to print beside, but for the three at alpha = 150
and alpha = 15 in Table 1.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.beta_lasso.measures import accuracy
from experiments.beta_lasso.setting import CHANNELS, Lasso
from experiments.common.derived import derived
from experiments.common.networks import restore
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, table
from experiments.common.variants import Outcome, Variant, remove_checkpoints, report, run_variants
from neurosim.errors import require
from neurosim.files import write_csv
from neurosim.models import deep, perceptron, shallow
from neurosim.models.shallow_deep import WIDTH

FAMILIES = [("deep", "conv"), ("deep", "local"), ("deep", "dense"),
            ("shallow", "conv"), ("shallow", "local"), ("shallow", "dense")]  # fmt: skip
TRAINED = [("deep", "conv"), ("shallow", "conv"), ("perceptron", "dense")]


@dataclass(frozen=True)
class Scaling:
    """Which sizes are counted, and which are trained."""

    counted: tuple[int, ...] = (1, 5, 15, 50, 150)
    """Values of alpha to count parameters for."""
    sides: tuple[int, ...] = (16, 32, 64)
    """Sides of images to count parameters for."""
    trained: tuple[int, ...] = (1, 2, 4, 8)
    """Values of alpha to train."""
    fit: float = 95.0
    """Training accuracy, in per cent, that the smallest network is looked for."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        for name in ("counted", "sides", "trained"):
            values = getattr(self, name)
            require(all(v >= 1 for v in values), f"--{name}", values, "whole numbers >= 1")
        require(0 < self.fit <= 100, "--fit", self.fit, "above 0 and at most 100")


def parameters(
    model: str, connectivity: str, alpha: int, side: int = 32, in_channels: int = 3
) -> int:
    """Number of parameters, without making any."""
    with torch.device("meta"):
        if model == "perceptron":
            network = perceptron(10, side, in_channels, _width(alpha))
        else:
            make = deep if model == "deep" else shallow
            network = make(10, connectivity, side, in_channels, alpha)  # type: ignore[arg-type]
    return sum(p.numel() for p in network.parameters())


def _width(alpha: int) -> int:
    """Of 3-FC, in proportion to S-FC's alpha."""
    return max(1, round(alpha / CHANNELS["shallow"] * WIDTH))


def variants(study: Scaling, lasso: Lasso, options: TrainingOptions) -> list[Variant]:
    """D-CONV, S-CONV and 3-FC of several sizes, by SGD."""
    base = lasso.base(options, epochs=60, default="digits-translated")
    if options.batch_size is None and options.dataset is None:
        base = replace(base, optimisation=replace(base.optimisation, batch_size=60))
    rows = []
    for model, kind in TRAINED:
        for alpha in study.trained:
            row = replace(lasso, channels=alpha).row(model, kind, base)
            rows.append(replace(row, name=f"{row.name}-{alpha}"))
    return rows


def run(study: Scaling, lasso: Lasso, options: TrainingOptions) -> Report:
    """Figs. 1 and 2: parameters by alpha and image size, and how many it takes to fit.

    Trains on the built-in translated digits unless told otherwise; on a CPU that is a minute.

    Args:
        study: Which sizes.
        lasso: Rates; penalties mean nothing here.
        options: What to train on, how long, and where results go.
    """
    study.check()
    lasso.check()
    name = "betalasso-scaling"
    keep = replace(options, keep_checkpoints=True)
    folder, outcomes = run_variants(name, variants(study, lasso, options), keep, (0,))
    found = report(name, folder, outcomes, {})
    sizes = _sizes(study, folder / f"{name}-parameters.csv")
    fitted = [_fitted(outcome, options) for outcome in outcomes]
    remove_checkpoints(outcomes, options)
    header = ["network", "parameters", "training top-1", "test top-1"]
    rows = [[n, f"{p:,}", f"{train:.2f}", f"{test:.2f}"] for n, p, train, test in fitted]
    found.lines = [*sizes, "", *table(header, rows), "", *_needed(fitted, study.fit)]
    found.values["fitted"] = fitted
    return found


def _sizes(study: Scaling, path: Path) -> list[str]:
    """Fig. 1, and its numbers as CSV."""
    points = [(alpha, 32) for alpha in study.counted] + [(15, side) for side in study.sides]
    points = list(dict.fromkeys(points))
    rows = [
        [f"{model}-{kind}", *(parameters(model, kind, alpha, side) for alpha, side in points)]
        for model, kind in FAMILIES
    ]
    header = ["network", *(f"alpha {alpha}, side {side}" for alpha, side in points)]
    write_csv(path, header, rows)
    return table(header, [[str(row[0]), *(f"{n:,}" for n in row[1:])] for row in rows])


def _fitted(outcome: Outcome, options: TrainingOptions) -> tuple[str, int, float, float]:
    """Name, parameters, mean training and test accuracy in per cent."""

    def fit(path: Path) -> dict[str, Any]:
        _, network = restore(path)
        count = sum(parameter.numel() for parameter in network.parameters())
        known = accuracy(path, options.data, "train", network)
        return {"parameters": count, "train_top1": known.top1}

    fits = [derived(path, "fit", partial(fit, path)) for path in outcome.files]
    train = float(100 * np.mean([one["train_top1"] for one in fits]))
    test = float(100 * outcome.last("top1").mean())
    return outcome.variant.name, fits[0]["parameters"], train, test


def _needed(fitted: Sequence[tuple[str, int, float, float]], fit: float) -> list[str]:
    """Of every family the smallest network that fits, and the best accuracy of all its sizes."""
    lines = []
    for family in dict.fromkeys(name.rpartition("-")[0] for name, *_ in fitted):
        members = [row for row in fitted if row[0].rpartition("-")[0] == family]
        enough = [count for _, count, train, _ in members if train >= fit]
        best = max(test for *_, test in members)
        needs = f"needs {min(enough):,} parameters" if enough else "is too small at all sizes"
        lines.append(f"{family} {needs} to fit {fit:g}% of the training images; best {best:.2f}")
    return lines
