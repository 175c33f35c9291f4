"""How distances between filters change in training, with intervals over runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.statistics import t_interval
from experiments.common.result import Report, table
from experiments.free_conv.protocol import Cell, FreeOptions, Result, run_cells
from experiments.free_conv.results import over_epochs, report
from experiments.free_conv.study import by_dataset

SHOWN = ("dist_1", "dist_4")


def drift_study(name: str, wanted: Sequence[Cell], options: FreeOptions) -> Report:
    """Distances over epochs, and how far they come from where they began."""
    folder, results = run_cells(name, wanted, options)
    figures = by_dataset(name, results, SHOWN, options)
    found = report(name, folder, results, SHOWN, options, figures)
    found.lines, found.values["drift"] = drift_table(results, options)
    return found


def drift_table(
    results: Sequence[Result], options: FreeOptions
) -> tuple[list[str], list[dict[str, object]]]:
    """Distances before the first, the second and the last epoch, and their changes over all runs.

    The published code's initial weights are small, and what all filters learn in common in the
    first epoch outweighs them: distances fall at once, with or without translation. What training
    then does to filters shows in how they go on from there.
    """
    header = ["data", "trained on", "runs", "radius", "first", "second", "last"]
    header += ["last - first", "last - second"]
    lines, values = [], []
    for result in results:
        for name in SHOWN:
            runs = [run for run in over_epochs(result, name, options) if len(run) > 1]
            if not runs:
                continue
            first, second, last = np.array([(run[0], run[1], run[-1]) for run in runs]).T
            since = {"first": t_interval(last - first), "second": t_interval(last - second)}
            cell = result.cell
            trained_on = f"{cell.distortion} {cell.aug:g}"
            line = [cell.dataset, trained_on, str(len(runs)), name.removeprefix("dist_")]
            line += [f"{distances.mean():.4f}" for distances in (first, second, last)]
            lines.append([*line, *(change.text("+.4f") for change in since.values())])
            values.append({**cell._asdict(), "quantity": name, "since": since})
    return table(header, lines), values
