"""From cells to a report: train, draw over epochs, print medians beside the paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from analysis.training import figures
from experiments.common.result import Report
from experiments.free_conv.protocol import Cell, FreeOptions, Result, run_cells
from experiments.free_conv.results import over_epochs, report

TITLES = {
    "acc": "training",
    "val_acc": "validation",
    "translation": "translated",
    "rotation": "rotated",
    "noise": "noisy",
    "edge_noise": "edge-noisy",
    "swap": "quadrants swapped",
    "dist_1": "distance at radius 1",
    "dist_4": "distance at radius 4",
}
ACCURACIES = ("acc", "val_acc", "translation")


def study(
    name: str,
    wanted: Sequence[Cell],
    options: FreeOptions,
    shown: Sequence[str],
    drawn: Sequence[str] = (),
) -> Report:
    """Medians of the quantities that are `shown`; those `drawn`, or the same, over epochs."""
    folder, results = run_cells(name, wanted, options)
    found = by_dataset(name, results, drawn or shown, options)
    return report(name, folder, results, shown, options, found)


def by_dataset(
    name: str, results: Sequence[Result], drawn: Sequence[str], options: FreeOptions
) -> dict[str, Figure]:
    """A figure for every data set, by the stem of its files."""
    datasets = list({result.cell.dataset: None for result in results})
    return {
        name if len(datasets) == 1 else f"{name}-{Path(dataset).stem}": strengths(
            [result for result in results if result.cell.dataset == dataset], drawn, options
        )
        for dataset in datasets
    }


def strengths(
    results: Sequence[Result],
    drawn: Sequence[str],
    options: FreeOptions,
    label: Callable[[Cell], float] = lambda cell: cell.aug,
    legend: str = "strength",
    columns: int | None = None,
) -> Figure:
    """A panel for every quantity, network and kind of augmentation; a row for every quantity."""
    groups = list({(r.cell.model, r.cell.distortion): None for r in results})
    panels: dict[str, dict[str, list]] = {}
    for quantity in drawn:
        for model, distortion in groups:
            title = f"{model.upper()}, {distortion.replace('_', ' ')}: {TITLES[quantity]}"
            panels[title] = {
                f"{label(result.cell):g}": over_epochs(result, quantity, options)
                for result in results
                if (result.cell.model, result.cell.distortion) == (model, distortion)
            }
    return figures.over_epochs(panels, legend, columns or len(groups))
