"""What run files hold, as tables, figures and one CSV file: what `neurosim analyze` does."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis import figures
from analysis.convergence import figures as convergence_figures
from analysis.convergence.names import setting_name
from analysis.convergence.snr import ConvergenceCurves, convergence_curves, log_inverse_snr
from analysis.training import figures as training_figures
from analysis.training import training_curves
from analysis.trajectories.figures import (
    WeightHistory,
    first_middle_last,
    weight_comparison,
)
from analysis.trajectories.filters import RADII, Normalisation
from analysis.trajectories.series import (
    QUANTITIES,
    Quantity,
    Wanted,
    sleep_decay,
    weight_trajectories,
)
from analysis.trajectories.weights import has_weights
from experiments.report import Report, results_folder, table
from experiments.sweep_analysis import analyze_study
from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.progress import StatusLine
from neurosim.recording import RunReader
from neurosim.sweeps import StudyFolder

# Measures in the printed table and their headings there.
COLUMNS = {
    "inverse_snr": "−log SNR",
    "grid_inverse_snr": "in grids",  # which is what a sleep changes
    "spread": "spread",
    "convolution_distance": "to conv",
    "explained_by_grids": "by grids",
    "effective_rank": "rank",
    "sparsity": "zeros",
    "drift": "drift",
    "decay_per_sleep": "decay/sleep",
}
NO_WEIGHTS = "no weights: record them with neurosim train --snapshot-every N"


@dataclass(frozen=True)
class AnalyzeOptions:
    """What is measured, and where results go."""

    layers: tuple[str, ...] | None = None
    """Layers to analyse: names or patterns such as 'layer1.*' (default: all)."""
    quantities: tuple[Quantity, ...] = QUANTITIES
    """What to measure in every snapshot of weights."""
    radii: tuple[int, ...] = RADII
    """Rings of neighbours for distances between filters (1 and 4 in the paper)."""
    normalisation: Normalisation = "layer"
    """What filters are divided by before that: the layer's norm, as published, or their own."""
    metric: str | None = None
    """Of a study (the folder of a sweep): what is drawn and compared (default: the first)."""
    snapshots: int | None = None
    """Take so many snapshots of every run only, evenly spaced."""
    name: str = "analyze"
    """Name of the table and figures."""
    out: Path | None = None
    """Folder for results (default: runs/NAME, or the next free one)."""
    overwrite: bool = False
    """Replace results that are already in the folder."""
    quiet: bool = False
    """No progress and no table, only errors."""
    json: bool = False
    """Print the results as JSON on standard output instead of a table."""

    def check(self) -> None:
        """Refuse values that make no sense."""
        valid = Path(self.name).name == self.name and self.name not in ("", "..")
        require(valid, "--name", self.name, "a file name without folders")
        require(len(self.radii) > 0, "--radii", self.radii, "at least one")
        require(
            self.snapshots is None or self.snapshots >= 1, "--snapshots", self.snapshots, ">= 1"
        )
        self.wanted.check()

    @property
    def wanted(self) -> Wanted:
        """What to measure."""
        return Wanted(self.quantities, self.radii, self.normalisation, self.snapshots)


def analyze(runs: tuple[Path, ...], options: AnalyzeOptions) -> Report:
    """Tables, figures and a CSV file of what one or many runs recorded.

    Of training runs: accuracies, and of every layer in every snapshot the SNR, the spread, the
    distance between filters, the effective rank, zeros and change. Of convergence studies: the
    SNR of every setting. Of the folder of a sweep: heat maps, lines with intervals over seeds and
    the best point of every network. Works on runs that are still going on, and on files larger
    than memory.
        neurosim analyze runs/train runs/other/train-seed0.h5 --layers conv1

    Args:
        runs: Run files, or folders of them.
        options: What is measured, and where results go.
    """
    options.check()
    if len(runs) == 1 and StudyFolder.is_one(runs[0]):
        return analyze_study(
            runs[0], options.metric, options.name, options.out, overwrite=options.overwrite
        )
    files = run_files(runs)
    line = StatusLine(quiet=options.quiet)
    studies: dict[str, ConvergenceCurves] = {}
    histories: dict[str, WeightHistory] = {}
    for label, path in files.items():
        with RunReader(path) as run:
            if run.kind == "convergence" and "inverse_snr" not in run.names():
                line.say(f"{path}: {run.config.get('study', 'a study')} has a figure of its own")
            elif run.kind == "convergence":
                studies[label] = convergence_curves(run)
            else:
                histories[label] = weight_history(run, options, line)
    line.clear()
    some = studies or histories
    require(some, "runs", [*map(str, files.values())], "of training or of a convergence study")
    folder = results_folder(options.out, options.name)
    stem = folder / options.name
    drawing = _figures(studies, histories, options.radii)
    targets = {suffix: stem.with_name(f"{stem.name}{suffix}") for suffix in drawing}
    path = stem.with_name(f"{stem.name}.csv")
    _refuse_existing(
        [path, *(p for t in targets.values() for p in figures.figure_paths(t))], options
    )
    write_csv(path, studies, histories)
    drawn = [p for suffix, figure in drawing.items() for p in figures.save(figure, targets[suffix])]
    lines = [*_study_lines(studies), *_run_lines(histories), *_layer_lines(histories)]
    values = {
        "studies": {label: _study_values(study) for label, study in studies.items()},
        "runs": {label: _run_values(history) for label, history in histories.items()},
    }
    return Report(options.name, folder, drawn, lines, values, table=path)


def run_files(runs: Sequence[Path]) -> dict[str, Path]:
    """Run files by a short name each; a folder stands for all of its run files."""
    require(len(runs) > 0, "runs", tuple(map(str, runs)), "one run file or more")
    paths: list[Path] = []
    for path in runs:
        if not path.is_dir():
            paths.append(path)
            continue
        found = sorted(p for p in path.glob("*.h5") if ".seg" not in p.name)
        require(len(found) > 0, "runs", str(path), "run files or folders with some (*.h5)")
        paths += found
    unique = list(dict.fromkeys(paths))
    labels = [path.stem for path in unique]
    if len(set(labels)) < len(labels):
        labels = [f"{path.absolute().parent.name}/{path.stem}" for path in unique]
    if len(set(labels)) < len(labels):
        labels = [str(path) for path in unique]
    return dict(zip(labels, unique, strict=True))


def weight_history(run: RunReader, options: AnalyzeOptions, line: StatusLine) -> WeightHistory:
    """Curves and trajectories of a training run; layers that were asked for must be there."""
    curves = training_curves(run)
    if not has_weights(run):
        if options.layers is not None and not curves.layers:
            raise InvalidArgument(f"{run.path}: holds {NO_WEIGHTS}")
        for layer in options.layers or ():
            require_choice(f"{run.path}: layer", layer, curves.layers)
        line.say(f"{run.path}: {NO_WEIGHTS}")
        return WeightHistory(curves, {})
    found = {}
    for each in weight_trajectories(run, options.layers, options.wanted):
        line.update(lambda each=each: f"{run.path.name}: {each.layer}")
        found[each.layer] = each
    return WeightHistory(curves, found)


def write_csv(
    path: Path,
    studies: Mapping[str, ConvergenceCurves],
    histories: Mapping[str, WeightHistory],
) -> Path:
    """One row for every run, layer (or setting), time and quantity."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "seed", "series", "source", "time", "quantity", "value"])
        for label, study in studies.items():
            for row in _study_rows(study):
                writer.writerow([label, "", *row])
        for label, history in histories.items():
            for row in _history_rows(history):
                writer.writerow([label, history.curves.seed, *row])
    return path


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


def _figures(
    studies: Mapping[str, ConvergenceCurves],
    histories: Mapping[str, WeightHistory],
    radii: Sequence[int],
) -> dict[str, Any]:
    """Figures by what is appended to the name of the analysis."""
    drawing: dict[str, Any] = {}
    for label, study in studies.items():
        drawing[f"-{label.replace('/', '-')}"] = convergence_figures.convergence(study)
    curves = {label: [history.curves] for label, history in histories.items()}
    if any(len(runs[0].epochs) for runs in curves.values()):
        drawing["-accuracy"] = training_figures.comparison(curves)
    if layers := first_middle_last(_local_layers(histories)):
        drawing["-weights"] = weight_comparison(histories, layers, radii)
    return drawing


def _local_layers(histories: Mapping[str, WeightHistory]) -> list[str]:
    """Locally connected layers of all runs that were analysed, in order."""
    names: dict[str, None] = {}
    for history in histories.values():
        chosen = [found.layer for found in history.trajectories.values() if found.local]
        names |= dict.fromkeys(chosen or history.curves.layers)
    return list(names)


def _study_values(study: ConvergenceCurves) -> list[dict[str, Any]]:
    return [
        {
            "setting": setting_name(study, number),
            "log_inverse_snr": study.mean[number, -1],
            "spread_over_trials": study.high[number, -1] - study.mean[number, -1],
            "trials": int(study.trials[number]),
        }
        for number in range(len(study.mean))
    ]


def _study_lines(studies: Mapping[str, ConvergenceCurves]) -> list[str]:
    rows = [
        [label, found["setting"], f"{found['log_inverse_snr']:.3f}",
         _shown("", found["spread_over_trials"]), str(found["trials"])]
        for label, study in studies.items()
        for found in _study_values(study)
    ]  # fmt: skip
    header = ["study", "setting", "final −log SNR", "±", "trials"]
    return [*table(header, rows), ""] if rows else []


def _run_values(history: WeightHistory) -> dict[str, Any]:
    curves, layers = history.curves, _local_layers({"": history})
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


def _run_lines(histories: Mapping[str, WeightHistory]) -> list[str]:
    rows = []
    for label, history in histories.items():
        found = _run_values(history)
        cells = [f"{found['epochs']:g}", f"{100 * found['top1']:.2f}", f"{100 * found['top5']:.2f}"]
        cells += [f"{found['test_loss']:.3f}", str(found["sleeps"])]
        rows.append([label, found["status"], str(found["seed"]), *cells])
    header = ["run", "status", "seed", "epochs", "top-1", "top-5", "test loss", "sleeps"]
    return table(header, rows) if rows else []


def _layer_lines(histories: Mapping[str, WeightHistory]) -> list[str]:
    """The last value of every measure, one line per run and layer, and what sleeps did."""
    found = {
        (label, layer): values
        for label, history in histories.items()
        for layer, values in _run_values(history)["layers"].items()
    }
    distances = {name: _distance(name) for values in found.values() for name in values}
    headings = COLUMNS | {name: heading for name, heading in distances.items() if heading}
    shown = [name for name in headings if any(name in values for values in found.values())]
    rows = [
        [label, layer, *(_shown(name, values.get(name, math.nan)) for name in shown)]
        for (label, layer), values in found.items()
    ]
    header = ["run", "layer", *(headings[name] for name in shown)]
    return ["", *table(header, rows)] if rows else []


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


def _refuse_existing(paths: Sequence[Path], options: AnalyzeOptions) -> None:
    """Refuse to replace results unasked."""
    taken = [path for path in paths if path.exists()]
    if taken and not options.overwrite:
        raise InvalidArgument(
            f"{taken[0]} exists already: choose another --out, or pass --overwrite"
        )
