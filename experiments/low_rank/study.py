"""What the experiments on low-rank layers share: the protocol of Sec. 4, and ranks by validation.

Adam with a peak rate of 0.01 in batches of 512, 150 epochs of which 10 are warm-up, cosine decay,
neither augmentation nor weight decay. Splits are MNIST 55,000/5,000/10,000, CIFAR-10
45,000/5,000/10,000 and CelebA 162,770/19,867/19,962 (Supp. Table 1 has them transposed). Networks
are evaluated on all three parts at the end of training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.common.options import TrainingOptions
from experiments.common.result import Report, table
from experiments.common.variants import Outcome, Variant, run_variants
from experiments.low_rank.published import cell
from neurosim import files
from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.models.lrlc import DEPTHS, Depth, Layer
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    RecordSettings,
    TrainSettings,
)

SPLITS = ("train", "validation", "test")
VALIDATION = {
    "mnist": 5_000, "cifar10": 5_000, "celeba": 19_867,
    "digits": 200, "digits-translated": 100,
}  # fmt: skip
SEEDS = range(10)


@dataclass(frozen=True)
class Row:
    """A row of the tables: the layer, and at which depth it is."""

    layer: Layer
    depth: Depth = "all"

    @property
    def has_rank(self) -> bool:
        """Whether there is a rank to choose."""
        return self.layer in ("low-rank", "input-dependent", "wide")


ROWS: dict[str, Row] = {name: Row(name) for name in ("conv", "fc", "coord")} | {
    f"{layer}-{depth}": Row(layer, depth)
    for layer in ("bias", "low-rank", "input-dependent", "local", "wide")
    for depth in DEPTHS
}


@dataclass(frozen=True)
class Study:
    """Which networks, besides what they are trained on."""

    ranks: tuple[int, ...] = (2, 4, 6, 8)
    """Ranks to choose from, by accuracy on validation images."""
    rows: tuple[str, ...] | None = None
    """Networks (default: the table's own): conv, fc, coord; bias, low-rank, input-dependent, local
    or wide with -1, -2, -3 or -all for the layers that are so."""
    validation: int | None = None
    """Training images to hold out (default: as published, 200 or 100 of the digits)."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        valid = self.ranks and all(rank >= 1 for rank in self.ranks)
        require(valid, "--ranks", self.ranks, "one or more, >= 1")
        for row in self.rows or ():
            require_choice("--rows", row, ROWS)

    def base(self, options: TrainingOptions) -> TrainSettings:
        """The protocol, with what was asked for in place of it."""
        dataset = options.dataset or "digits-translated"
        validation = self.validation or VALIDATION.get(dataset)
        if validation is None:
            raise InvalidArgument(
                f"--validation must be given for {dataset}: ranks are chosen on images held out"
            )
        asked = options.epochs or 150
        wake = OptimisationSettings(
            optimizer="adam", lr=1e-2, weight_decay=0.0, batch_size=512, epochs=150,
            lr_schedule="cosine", warmup=min(10, math.ceil(asked / 15) if asked > 1 else 0),
        )  # fmt: skip
        settings = TrainSettings(
            data=DataSettings(dataset=dataset, validation=validation),
            network=NetworkSettings(model="lrlc"),
            optimisation=wake,
            record=RecordSettings(splits=True),
        )
        return options.apply(settings)

    def variants(
        self, rows: Sequence[str], options: TrainingOptions, **network: object
    ) -> list[Variant]:
        """Every row at every rank; `network` are further settings of it."""
        self.check()
        base, made = self.base(options), []
        for name in self.rows or rows:
            row = ROWS[name]
            published = {s: cell(base.data.dataset, name, s) for s in SPLITS}
            for rank in self.ranks if row.has_rank else (NetworkSettings.rank,):
                wanted = replace(
                    base.network, layer=row.layer, depth=row.depth, rank=rank,
                    **(network if row.layer == "low-rank" else {}),
                )  # fmt: skip
                variant = f"{name}-k{rank}" if row.has_rank else name
                made.append(Variant(variant, replace(base, network=wanted), published))
        return made


@dataclass(frozen=True)
class Found:
    """Runs of one network; accuracies in per cent."""

    outcome: Outcome

    @property
    def name(self) -> str:
        """The row, with the rank where there is one."""
        return self.outcome.variant.name

    @property
    def row(self) -> str:
        """The row without its rank, for all ranks of it."""
        return self.name.rpartition("-k")[0] if self.rank is not None else self.name

    @property
    def rank(self) -> int | None:
        """The rank, where there is one to choose."""
        _, mark, rank = self.name.rpartition("-k")
        return int(rank) if mark else None

    def top1(self, split: str) -> np.ndarray:
        """Of every seed, in the end."""
        return np.array([100 * run.splits[split] for run in self.outcome.runs])

    def mean(self, split: str) -> float:
        """Over seeds."""
        return float(self.top1(split).mean())

    def error(self, split: str) -> float:
        """Standard error of the mean; NaN of a single seed."""
        values = self.top1(split)
        return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan

    def text(self, split: str) -> str:
        """Mean +- standard error, as the paper has it."""
        error = self.error(split)
        spread = "" if math.isnan(error) else f" ± {error:.2f}"
        return f"{self.mean(split):.2f}{spread}"


def train_all(
    name: str, variants: Sequence[Variant], options: TrainingOptions
) -> tuple[Path, list[Found]]:
    """Train every network with every seed, or keep what is finished."""
    folder, outcomes = run_variants(name, variants, options, SEEDS)
    return folder, [Found(outcome) for outcome in outcomes]


def chosen(found: Sequence[Found]) -> list[Found]:
    """Of every row the rank with the best mean accuracy on validation images."""
    best: dict[str, Found] = {}
    for one in found:
        if one.row not in best or one.mean("validation") > best[one.row].mean("validation"):
            best[one.row] = one
    return list(best.values())


def run_table(name: str, variants: Sequence[Variant], options: TrainingOptions) -> Report:
    """Train, choose ranks, and set measured beside published accuracies (mean +- SE)."""
    folder, found = train_all(name, variants, options)
    best = chosen(found)
    header = ["network", "rank", "runs", *SPLITS, *(f"paper {split}" for split in SPLITS)]
    lines = []
    for one in best:
        paper = (one.outcome.variant.published.get(split) for split in SPLITS)
        cells = [one.row, "-" if one.rank is None else str(one.rank), str(len(one.outcome.runs))]
        cells += [one.text(split) for split in SPLITS]
        lines.append([*cells, *("-" if value is None else f"{value:.2f}" for value in paper)])
    path = write_csv(folder / f"{name}.csv", found, best)
    values = {one.name: {split: one.top1(split) for split in SPLITS} for one in found}
    values = {"networks": values, "chosen": [one.name for one in best]}
    return Report(name, folder, [], table(header, lines), values, table=path)


def write_csv(path: Path, found: Sequence[Found], best: Sequence[Found] = ()) -> Path:
    """One row for every network, rank and part of the data; which ranks were chosen."""
    header = ["network", "rank", "chosen", "split", "seeds", "top1", "standard_error", "published"]
    rows = []
    for one in found:
        seeds = " ".join(str(run.seed) for run in one.outcome.runs)
        for split in SPLITS:
            published = one.outcome.variant.published.get(split)
            numbers = [f"{one.mean(split):.4f}", f"{one.error(split):.4f}"]
            which = [one.row, one.rank or "", int(one in best), split, seeds]
            rows.append([*which, *numbers, "" if published is None else published])
    return files.write_csv(path, header, rows)
