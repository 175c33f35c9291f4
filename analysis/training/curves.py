"""What a training run recorded: accuracies, losses and how equal its filters were."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.arguments import check_run
from analysis.statistics import Array
from neurosim.recording import RunReader, Status


@dataclass(frozen=True)
class FilterSeries:
    """Mean distances between filters of neighbouring positions, at snapshots."""

    steps: Array  # (T,)
    layers: tuple[str, ...]
    radii: tuple[int, ...]
    euclidean: Array  # (T, layers, radii)
    cosine: Array  # (T, layers, radii)


@dataclass(frozen=True)
class TrainingCurves:
    """One run over time."""

    status: Status
    seed: int
    epochs: Array  # (E,)
    train_loss: Array  # (E,), of training images as they were trained with; NaN if not recorded
    train_top1: Array  # (E,)
    top1: Array  # (E,)
    top5: Array  # (E,)
    test_loss: Array  # (E,)
    seconds: Array  # (E,), since the start or the last resumption
    steps: Array  # (S,)
    loss: Array  # (S,)
    layers: tuple[str, ...]  # locally connected ones
    statistics: dict[str, Array]  # by measure, (S, layers)
    sleeps: Array  # (Z,), steps at which the network slept
    sleep_statistics: dict[str, Array]  # by measure, (Z, before and after, layers)
    splits: dict[str, float]  # top-1 accuracy in the end on each part of the data, if recorded
    copies: dict[str, Array]  # top-1 on distorted copies of images held out, by distortion, (E,)
    distances: FilterSeries | None  # between filters, if recorded

    @property
    def lowest_snr(self) -> float:
        """The lowest SNR of all layers at the last record; NaN where no layer has one."""
        records = self.statistics.get("snr", np.empty((0, 0)))
        return float(np.fmin.reduce(records[-1])) if records.size else math.nan


def training_curves(run: RunReader) -> TrainingCurves:
    """The curves of a training run, also of one that is still going on."""
    check_run(run, "training")
    local = "statistics" in run.names()
    layers = tuple(str(name) for name in run["layer"]) if local else ()
    measures = [str(name) for name in run["measure"]] if local else []
    statistics = run["statistics"] if local else np.empty((0, 0, 0))
    around = run["sleep_statistics"] if local else np.empty((0, 2, 0, 0))
    ended = "split_top1" in run.names() and len(run["end"]) > 0
    splits = zip(run["split"], run["split_top1"][-1], strict=True) if ended else ()
    copies = [str(name) for name in run["copy"]] if "copy" in run.names() else []
    return TrainingCurves(
        status=run.status,
        seed=run.seed,
        epochs=run["epoch"],
        train_loss=_if_recorded(run, "train_loss"),
        train_top1=_if_recorded(run, "train_top1"),
        top1=run["top1"],
        top5=run["top5"],
        test_loss=run["test_loss"],
        seconds=run["seconds"],
        steps=run["step"],
        loss=run["loss"],
        layers=layers,
        statistics={name: statistics[..., i] for i, name in enumerate(measures)},
        sleeps=run["sleep"],
        sleep_statistics={name: around[..., i] for i, name in enumerate(measures)},
        splits={str(name): float(top1) for name, top1 in splits},
        copies={name: run["copy_top1"][:, i] for i, name in enumerate(copies)},
        distances=_distances(run),
    )


def _if_recorded(run: RunReader, name: str) -> Array:
    """A value for every epoch; NaN in run files from before there was such a dataset."""
    return run[name] if name in run.names() else np.full(len(run["epoch"]), np.nan)


def _distances(run: RunReader) -> FilterSeries | None:
    if "euclidean_distance" not in run.names():
        return None
    return FilterSeries(
        steps=run["snapshot"],
        layers=tuple(str(name) for name in run["map"]),
        radii=tuple(int(radius) for radius in run["radius"]),
        euclidean=run["euclidean_distance"],
        cosine=run["cosine_distance"],
    )
