"""What the runs of a study came to: a CSV as the published one, and medians beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis import figures
from analysis.statistics import t_interval
from analysis.training import TrainingCurves
from experiments.common.result import Report, table
from experiments.free_conv.protocol import FreeOptions, Result, evaluations
from experiments.free_conv.published import Key, published
from neurosim import files

Array = NDArray[np.float64]

DISTANCES = {"dist_1": 1, "dist_4": 4, "cos_1": 1, "cos_4": 4}  # at radius
TESTS = ("translation", "noise", "edge_noise", "rotation", "swap")
QUANTITIES = ("loss", "val_loss", "acc", "val_acc", *TESTS, *DISTANCES)
COLUMNS = ("fold", "epoch", "model", "aug_type", "aug", "vcp", *QUANTITIES)  # as published


def quantities(run: TrainingCurves, options: FreeOptions) -> dict[str, Array]:
    """Columns of the published CSV, one value per epoch, as far as the run has them.

    Distances are those of the first layer before the epoch, as published.
    """
    found = {
        "loss": run.train_loss,
        "val_loss": run.test_loss,
        "acc": run.train_top1,
        "val_acc": run.top1,
    }
    found |= {name: run.copies[copy] for name, copy in evaluations(options).items()}
    if (distances := run.distances) is not None:
        epochs = len(run.epochs)
        for name, radius in DISTANCES.items():
            kind = distances.euclidean if name.startswith("dist") else distances.cosine
            found[name] = kind[:epochs, 0, distances.radii.index(radius)]
    return found


def over_epochs(result: Result, quantity: str, options: FreeOptions) -> list[Array]:
    """A quantity of every run of a cell; nothing where it was not measured."""
    found = [quantities(run.curves, options).get(quantity) for run in result.runs]
    return [values for values in found if values is not None]


def medians(result: Result, quantity: str, options: FreeOptions) -> tuple[float, float, float]:
    """Over all epochs of all runs pooled, as published; over runs at the last and best epoch.

    The best epoch is that of the highest accuracy on the fold itself, the first if several are.
    """
    values = over_epochs(result, quantity, options)
    if not values:
        return np.nan, np.nan, np.nan
    best = [int(run.curves.top1.argmax()) for run in result.runs]
    return (
        float(np.median(np.concatenate(values))),
        float(np.median([each[-1] for each in values])),
        float(np.median([each[epoch] for each, epoch in zip(values, best, strict=True)])),
    )


def report(
    name: str,
    folder: Path,
    results: Sequence[Result],
    shown: Sequence[str],
    options: FreeOptions,
    drawn: Mapping[str, Figure],
) -> Report:
    """Medians of some quantities beside the paper's, CSV files and figures."""
    paper = published()
    header = ["data", "network", "trained on", "runs"]
    for quantity in shown:
        header += [quantity, "paper", "last", "best"]
    lines, in_the_end, values = [], [], []
    for result in results:
        cell = result.cell
        severed = f", {cell.vcp:g} absent" if cell.vcp else ""
        trained_on = f"{cell.distortion} {cell.aug:g}{severed}"
        line = [Path(cell.dataset).stem, cell.model, trained_on, str(len(result.runs))]
        row = {**cell._asdict(), "runs": len(result.runs)}
        means = line.copy()
        for quantity in shown:
            pooled, last, best = medians(result, quantity, options)
            key = Key(cell.dataset, cell.model, cell.aug_type, cell.aug, quantity)
            known = None if cell.vcp else paper.get(key)
            row[quantity] = {"pooled": pooled, "published": known, "last": last, "best": best}
            line += [_shown(value) for value in (pooled, known, last, best)]
            if ends := [run[-1] for run in over_epochs(result, quantity, options)]:
                row[quantity]["mean"] = mean = t_interval(ends)
                means.append(mean.text(".4f"))
            else:
                means.append("-")
        lines.append(line)
        in_the_end.append(means)
        values.append(row)
    tables = write_csv(folder, name, results, options)
    paths = [path for stem, figure in drawn.items() for path in figures.save(figure, folder / stem)]
    notes = [*NOTE, *(ORDER if any("cifar" in row["dataset"] for row in values) else ())]
    text = [*table(header, lines), "", *notes]
    if any(len(result.runs) > 1 for result in results):
        text += ["", *table([*header[:4], *shown], in_the_end), "", MEANS]
    return Report(name, folder, paths, text, {"cells": values}, table=tables[0])


MEANS = "Means over runs (folds and seeds) at the last epoch, with 95% t intervals."
NOTE = (
    "Each quantity: median over all epochs of all folds pooled, as published; the paper's; median",
    "over folds at the last epoch, and at the epoch of the best accuracy on the fold (val_acc).",
)
ORDER = (
    "The published folds of CIFAR-10 are those of the official files' order; an .npz in another",
    "order has other folds.",
)


def _shown(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.4f}"


def write_csv(
    folder: Path, name: str, results: Sequence[Result], options: FreeOptions
) -> list[Path]:
    """One row for every epoch, in the columns of the published results; a file for each seed."""
    seeds = sorted({run.seed for result in results for run in result.runs})
    datasets = {result.cell.dataset: None for result in results}
    paths = []
    for dataset in datasets:
        for seed in seeds:
            stem = name if len(datasets) == 1 else f"{name}-{Path(dataset).stem}"
            stem = stem if len(seeds) == 1 else f"{stem}-seed{seed}"
            rows = [
                [row.get(column, "") for column in COLUMNS]
                for result in results
                if result.cell.dataset == dataset
                for row in _rows(result, seed, options)
            ]
            paths.append(files.write_csv(folder / f"{stem}.csv", COLUMNS, rows))
    return paths


def _rows(result: Result, seed: int, options: FreeOptions) -> list[dict[str, object]]:
    cell = result.cell._asdict()
    del cell["dataset"]  # the published results are a file for each
    rows = []
    for run in result.runs:
        if run.seed != seed:
            continue
        measured = quantities(run.curves, options)
        for index, epoch in enumerate(run.curves.epochs):
            values = {name: f"{float(each[index]):.9g}" for name, each in measured.items()}
            rows.append({"fold": run.fold, "epoch": int(epoch), **cell, **values})
    return rows
