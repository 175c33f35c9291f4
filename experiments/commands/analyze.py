"""What run files hold, as tables, figures and one CSV file: what `neurosim analyze` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis import figures
from analysis.convergence import figures as convergence_figures
from analysis.convergence.snr import ConvergenceCurves, convergence_curves
from analysis.figures import first_middle_last
from analysis.training import figures as training_figures
from analysis.training import training_curves
from analysis.trajectories.figures import WeightHistory, weight_comparison
from analysis.trajectories.filters import RADII, Normalisation
from analysis.trajectories.series import (
    QUANTITIES,
    Quantity,
    Wanted,
    weight_trajectories,
)
from analysis.trajectories.weights import has_weights
from experiments.commands.analyze_tables import (
    layer_lines,
    local_layers,
    run_lines,
    run_values,
    study_lines,
    study_values,
    write_csv,
)
from experiments.commands.sweep_analysis import analyze_study
from experiments.common.options import check_name
from experiments.common.result import Report, refuse_existing, results_folder
from experiments.common.run_files import run_files, sort_of, why_not
from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.progress import StatusLine
from neurosim.recording import RunReader
from neurosim.sweeps import StudyFolder

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
        check_name(self.name)
        require(len(self.radii) > 0, "--radii", self.radii, "at least one")
        require(
            self.snapshots is None or self.snapshots >= 1, "--snapshots", self.snapshots, ">= 1"
        )
        self.wanted.check()

    @property
    def wanted(self) -> Wanted:
        """What to measure."""
        return Wanted(self.quantities, self.radii, self.normalisation, self.snapshots)


def run(runs: tuple[Path, ...], options: AnalyzeOptions) -> Report:
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
        with RunReader(path) as file:
            match sort_of(file):
                case "training":
                    histories[label] = weight_history(file, options, line)
                case "convergence":
                    studies[label] = convergence_curves(file)
                case "other":
                    line.say(why_not(file))
    line.clear()
    some = studies or histories
    require(some, "runs", [*map(str, files.values())], "of training or of a convergence study")
    folder = results_folder(options.out, options.name)
    stem = folder / options.name
    drawing = _figures(studies, histories, options.radii)
    targets = {suffix: stem.with_name(f"{stem.name}{suffix}") for suffix in drawing}
    path = stem.with_name(f"{stem.name}.csv")
    taken = [path, *(p for t in targets.values() for p in figures.figure_paths(t))]
    refuse_existing(taken, overwrite=options.overwrite)
    write_csv(path, studies, histories)
    drawn = [p for suffix, figure in drawing.items() for p in figures.save(figure, targets[suffix])]
    ends = {label: study_values(study) for label, study in studies.items()}
    trained = {label: run_values(history) for label, history in histories.items()}
    lines = [*study_lines(ends), *run_lines(trained), *layer_lines(trained)]
    values = {"studies": ends, "runs": trained}
    return Report(options.name, folder, drawn, lines, values, table=path)


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
    if layers := first_middle_last(local_layers(histories)):
        drawing["-weights"] = weight_comparison(histories, layers, radii)
    return drawing
