"""The protocol of Ott et al. 2020: which runs make up a study, and how each is trained.

Training and test images are pooled and cut into five contiguous folds, one run for each to hold
out: pixels in [0, 1], Adam, until accuracy on the fold has not improved for 50 epochs (MNIST, at
most 250) or 100 (CIFAR, at most 500), as the published code has it. After every epoch the network
is tested on the fold as it is, and translated (25%), rotated (45 degrees), noisy (0.15),
edge-noisy (0.15) and with quadrants swapped; the copies are the same after every epoch, where the
published code draws new ones and leaves the last batch out. CIFAR-10 from an .npz may lie in
another order than the official files; its folds are then not the published ones.

The file of results that was published with the code has five runs of every fold (MNIST, strength
0), each stopped by a patience of 50 after 76 to 220 epochs. An epoch of that code has as many steps
as whole batches fit into the training images; here it is one pass over all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from analysis.training import TrainingCurves
from experiments.common.options import TrainingOptions
from experiments.common.variants import Variant, run_variants
from neurosim.errors import require
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    RecordSettings,
    TrainSettings,
)

Model = Literal["cnn", "fcn"]
AugType = Literal["translation", "rotation", "noise", "edge_noise", "vcp"]

MODELS: tuple[Model, ...] = ("cnn", "fcn")
STRENGTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
FOLDS = 5


@dataclass(frozen=True)
class FreeOptions(TrainingOptions):
    """What to train on, how long, and where results go."""

    folds: int = FOLDS
    """Contiguous parts that training and test images together are cut into."""
    held_out: tuple[int, ...] | None = None
    """Folds to hold out, one run each, from 0 (default: every one)."""
    models: tuple[Model, ...] | None = None
    """Networks to train (default: the study's)."""
    strengths: tuple[float, ...] | None = None
    """Strengths of augmentation, at least 0 and below 1 (default: the study's)."""
    patience: int | None = None
    """Epochs without improvement that end a run (default: 50 for MNIST, 100 for CIFAR)."""
    fans: Literal["layer", "position"] = "layer"
    """Connections that Xavier's limits count in free layers: as published, or of one filter."""
    sever: Literal["inputs", "weights"] = "inputs"
    """What variable connections lack: inputs, as the code has it, or weights, as the text."""
    edge_noise: Literal["code", "text"] = "code"
    """Where edge noise is: as the published code cuts it, or in the frame only."""
    interpolation: Literal[0, 1] = 1
    """Between pixels of translated and rotated images: the nearest (0) or linear (1)."""

    def check(self) -> None:
        """Refuse values that make no sense."""
        super().check()
        require(self.folds >= 2, "--folds", self.folds, ">= 2")
        require(self.patience is None or self.patience >= 1, "--patience", self.patience, ">= 1")
        held_out = self.chosen_folds
        known = held_out and all(0 <= fold < self.folds for fold in held_out)
        require(known, "--held-out", held_out, f"one or more of 0 to {self.folds - 1}")
        for name, values in {"held-out": held_out, "strengths": self.strengths or ()}.items():
            require(len(set(values)) == len(values), f"--{name}", values, "without repetitions")
        for strength in self.strengths or ():
            require(0 <= strength < 1, "--strengths", strength, "at least 0 and below 1")

    @property
    def chosen_folds(self) -> tuple[int, ...]:
        """Folds that are held out."""
        return tuple(range(self.folds)) if self.held_out is None else self.held_out


class Cell(NamedTuple):
    """One network of a study, trained on one kind of data; its names are those of the CSV."""

    dataset: str
    model: str  # cnn or fcn, and by what else it comes to share weights
    aug_type: AugType
    aug: float
    vcp: float = 0.0  # probability that a connection is absent; aug is then translation

    @property
    def distortion(self) -> str:
        """Kind of the distortion of training images."""
        return "translation" if self.aug_type == "vcp" else self.aug_type

    @property
    def name(self) -> str:
        """Of its run files; studies that have a cell in common can share them."""
        dataset = Path(self.dataset).stem
        distorted = f"{self.distortion}{self.aug:g}" if self.aug else "plain"
        severed = f"-vcp{self.vcp:g}" if self.vcp else ""
        return f"{dataset}-{self.model}-{distorted}{severed}"


class Run(NamedTuple):
    """What one training run recorded."""

    fold: int
    seed: int
    curves: TrainingCurves


class Result(NamedTuple):
    """All runs of a cell: every fold, with every seed."""

    cell: Cell
    runs: tuple[Run, ...]


def cells(
    datasets: Sequence[str],
    models: Sequence[Model],
    aug_types: Sequence[AugType],
    options: FreeOptions,
    strengths: Sequence[float] = STRENGTHS,
    probabilities: Sequence[float] = (0.0,),
) -> list[Cell]:
    """Every combination, with what the options choose in place of the study's own."""
    axes = (
        [options.dataset] if options.dataset else datasets,
        aug_types,
        probabilities,
        options.strengths or strengths,
        options.models or models,
    )
    return [
        Cell(dataset, model, aug_type, aug, vcp)
        for dataset, aug_type, vcp, aug, model in itertools.product(*axes)
    ]


def run_cells(
    name: str,
    wanted: Sequence[Cell],
    options: FreeOptions,
    changes: Callable[[Cell, TrainSettings], TrainSettings] = lambda _, settings: settings,
) -> tuple[Path, list[Result]]:
    """Train every cell with every fold and seed, or keep what --resume finds finished.

    `changes` are what a study makes of a cell's settings. Cells that are trained in the same way,
    such as those of strength 0, share their runs.
    """
    options.check()
    folds = options.chosen_folds
    variants = []
    for cell in {cell.name: cell for cell in wanted}.values():
        settings = changes(cell, settings_of(cell, options))
        for fold in folds:
            held_out = replace(settings, data=replace(settings.data, fold=fold))
            variants.append(Variant(f"{cell.name}-fold{fold}", held_out))
    seeds = options.seeds or (0,)
    folder, outcomes = run_variants(name, variants, options, seeds)
    found = {outcome.variant.name: outcome.runs for outcome in outcomes}
    results = []
    for cell in wanted:
        runs = [
            Run(fold, seed, curves)
            for fold in folds
            for seed, curves in zip(seeds, found.get(f"{cell.name}-fold{fold}", ()), strict=False)
        ]
        if runs:  # --variants may leave some out
            results.append(Result(cell, tuple(runs)))
    return folder, results


def settings_of(cell: Cell, options: FreeOptions) -> TrainSettings:
    """How a cell is trained."""
    cifar = "cifar" in Path(cell.dataset).stem
    kind = _edge_noise(options) if cell.distortion == "edge_noise" else cell.distortion
    settings = TrainSettings(
        data=DataSettings(
            dataset=cell.dataset,
            folds=options.folds,
            normalise="none",
            distort=f"{kind}:{cell.aug:g}" if cell.aug else None,
            evaluations=tuple(evaluations(options).values()),
            interpolation=options.interpolation,
        ),
        network=NetworkSettings(
            model="free-cifar" if cifar else "free-mnist",
            connectivity="conv" if cell.model == "cnn" else "local",
            fans=options.fans,
            severed=cell.vcp,
            sever=options.sever,
        ),
        optimisation=OptimisationSettings(
            optimizer="adam",
            weight_decay=0.0,
            lr=1e-4 if cifar else 1e-3,
            lr_schedule="constant",
            batch_size=128 if cifar else 256,
            epochs=500 if cifar else 250,
            patience=options.patience or (100 if cifar else 50),
        ),
        record=RecordSettings(
            record_every=10,
            snapshot_every=1,
            snapshot_unit="epochs",
            snapshot_weights=False,
            snapshot_layers=("conv1",),
        ),
    )
    return replace(options, dataset=cell.dataset).apply(settings)


def evaluations(options: FreeOptions) -> dict[str, str]:
    """Columns of the CSV, and the copies of the fold that are tested in each."""
    return {
        "translation": "translation:0.25",
        "noise": "noise:0.15",
        "edge_noise": f"{_edge_noise(options)}:0.15",
        "rotation": "rotation:0.125",
        "swap": "swap",
    }


def _edge_noise(options: FreeOptions) -> str:
    return "edge-noise-published" if options.edge_noise == "code" else "edge-noise"
