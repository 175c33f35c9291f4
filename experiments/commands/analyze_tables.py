"""Tables of what run files hold: one CSV file of everything, and the ends of runs as text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.convergence.names import setting_name
from analysis.convergence.snr import ConvergenceCurves, log_inverse_snr
from analysis.training import sleep_decay
from analysis.trajectories.figures import WeightHistory
from experiments.common.result import table
from neurosim import files

# Measures in the printed table, their headings there and what they mean.
COLUMNS = {
    "inverse_snr": ("−log SNR", "of weights over interior positions; lower is more equal"),
    "grid_inverse_snr": ("in grids", "the same within each grid, which a sleep changes"),
    "spread": ("spread", "root mean square deviation from the grid's mean"),
    "convolution_distance": ("to conv", "distance to the nearest convolution, over the norm"),
    "explained_by_grids": ("by grids", "share of the variance over positions that grids explain"),
    "effective_rank": ("rank", "effective rank of the filters of all positions"),
    "sparsity": ("zeros", "share of weights that are zero"),
    "drift": ("drift", "distance to the first snapshot, over its norm"),
    "decay_per_sleep": ("decay/sleep", "share of the spread that a sleep leaves, median"),
}
DISTANCES = ("euclid r, cosine r", "mean distance of filters at radius r")
Values = dict[str, Any]
"""What is printed, by name: for programs."""


def write_csv(
    path: Path,
    studies: Mapping[str, ConvergenceCurves],
    histories: Mapping[str, WeightHistory],
) -> Path:
    """One row for every run, layer (or setting), time and quantity."""
    header = ["run", "seed", "series", "source", "time", "quantity", "value"]
    equalised = ((label, "", *row) for label, s in studies.items() for row in _study_rows(s))
    trained = (
        (label, history.curves.seed, *row)
        for label, history in histories.items()
        for row in _history_rows(history)
    )
    return files.write_csv(path, header, itertools.chain(equalised, trained))


Row = tuple[str, str, float, str, str]  # series, source, time, quantity, value


def _study_rows(study: ConvergenceCurves) -> Iterator[Row]:
    for number in range(len(study.mean)):
        for source in ("mean", "low", "high"):
            values = getattr(study, source)[number]
            for time, value in zip(study.presentations, values, strict=True):
                yield setting_name(study, number), source, time, "log_inverse_snr", _cell(value)


def _history_rows(history: WeightHistory) -> Iterator[Row]:
    curves = history.curves
    for name, times in (("loss", curves.steps), ("top1", curves.epochs),
                        ("top5", curves.epochs), ("test_loss", curves.epochs)):  # fmt: skip
        for time, value in zip(times, getattr(curves, name), strict=True):
            yield "", "step" if name == "loss" else "epoch", time, name, _cell(value)
    for measure, values in curves.statistics.items():
        around = curves.sleep_statistics[measure]
        for index, layer in enumerate(curves.layers):
            for time, value in zip(curves.steps, values[:, index], strict=True):
                yield layer, "step", time, measure, _cell(value)
            for moment, source in enumerate(("before sleep", "after sleep")):
                for time, value in zip(curves.sleeps, around[:, moment, index], strict=True):
                    if not math.isnan(value):
                        yield layer, source, time, measure, _cell(value)
    for found in history.trajectories.values():
        for measure, values in found.values.items():
            for time, value in zip(found.steps, values, strict=True):
                yield found.layer, "snapshot", time, measure, _cell(value)


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.9g}"


def local_layers(histories: Mapping[str, WeightHistory]) -> list[str]:
    """Locally connected layers of all runs that were analysed, in order."""
    names: dict[str, None] = {}
    for history in histories.values():
        chosen = [found.layer for found in history.trajectories.values() if found.local]
        names |= dict.fromkeys(chosen or history.curves.layers)
    return list(names)


def study_values(study: ConvergenceCurves) -> list[Values]:
    """Where every setting of a convergence study ended."""
    return [
        {
            "setting": setting_name(study, number),
            "log_inverse_snr": study.mean[number, -1],
            "spread_over_trials": study.high[number, -1] - study.mean[number, -1],
            "trials": int(study.trials[number]),
        }
        for number in range(len(study.mean))
    ]


def study_lines(studies: Mapping[str, Sequence[Values]]) -> list[str]:
    """How every setting ended, one line each."""
    rows = [
        [label, found["setting"], f"{found['log_inverse_snr']:.3f}",
         _shown("", found["spread_over_trials"]), str(found["trials"])]
        for label, study in studies.items()
        for found in study
    ]  # fmt: skip
    header = ["study", "setting", "final −log SNR", "±", "trials"]
    return [*table(header, rows), ""] if rows else []


def run_values(history: WeightHistory) -> Values:
    """Where a training run ended, and its layers."""
    curves, layers = history.curves, local_layers({"": history})
    decay = sleep_decay(curves)
    return {
        "status": str(curves.status),
        "seed": curves.seed,
        "epochs": _last(curves.epochs),
        "top1": _last(curves.top1),
        "top5": _last(curves.top5),
        "test_loss": _last(curves.test_loss),
        "sleeps": len(curves.sleeps),
        "layers": {
            layer: {
                **_final(history, layer),
                "decay_per_sleep": _median(decay.decay, decay.layers, layer),
                "regrowth_between_sleeps": _median(decay.regrowth, decay.layers, layer),
            }
            for layer in dict.fromkeys([*layers, *history.trajectories])
        },
    }


def _final(history: WeightHistory, layer: str) -> dict[str, float]:
    """Every measure of a layer where it was last taken."""
    curves, found = history.curves, history.trajectories.get(layer)
    final: dict[str, float] = {}
    if layer in curves.layers and len(curves.steps):
        index = curves.layers.index(layer)
        final |= {name: float(v[-1, index]) for name, v in curves.statistics.items()}
    if found is not None and len(found.steps):
        final |= {name: float(values[-1]) for name, values in found.values.items()}
    return final


def run_lines(runs: Mapping[str, Values]) -> list[str]:
    """How every run ended, one line each."""
    rows = []
    for label, found in runs.items():
        cells = [f"{found['epochs']:g}", f"{100 * found['top1']:.2f}", f"{100 * found['top5']:.2f}"]
        cells += [f"{found['test_loss']:.3f}", str(found["sleeps"])]
        rows.append([label, found["status"], str(found["seed"]), *cells])
    header = ["run", "status", "seed", "epochs", "top-1", "top-5", "test loss", "sleeps"]
    return table(header, rows) if rows else []


def layer_lines(runs: Mapping[str, Values]) -> list[str]:
    """The last value of every measure, one line per run and layer, and what sleeps did."""
    found = {
        (label, layer): values
        for label, run in runs.items()
        for layer, values in run["layers"].items()
    }
    distances = {name: _distance(name) for values in found.values() for name in values}
    headings = {name: heading for name, (heading, _) in COLUMNS.items()}
    headings |= {name: heading for name, heading in distances.items() if heading}
    shown = [name for name in headings if any(name in values for values in found.values())]
    rows = [
        [label, layer, *(_shown(name, values.get(name, math.nan)) for name in shown)]
        for (label, layer), values in found.items()
    ]
    header = ["run", "layer", *(headings[name] for name in shown)]
    meant = dict.fromkeys(COLUMNS.get(name, DISTANCES) for name in shown)
    legend = [f"  {heading}: {meaning}" for heading, meaning in meant]
    return ["", *table(header, rows), "", *legend] if rows else []


def _distance(measure: str) -> str:
    """'euclid 4' for the distance at radius 4, and nothing for other measures."""
    kind, _, radius = measure.rpartition("_")
    return f"{kind[:6]} {radius}" if kind in ("euclidean", "cosine") else ""


def _shown(measure: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    logarithmic = measure in ("inverse_snr", "grid_inverse_snr")
    return f"{float(log_inverse_snr(value)) if logarithmic else value:.3g}"


def _last(values: np.ndarray) -> float:
    return float(values[-1]) if len(values) else math.nan


def _median(values: np.ndarray, layers: Sequence[str], layer: str) -> float:
    """Over sleeps, of those that have a value."""
    if layer not in layers:
        return math.nan
    column = values[:, layers.index(layer)]
    known = column[np.isfinite(column)]
    return float(np.median(known)) if len(known) else math.nan
