"""Figures of weight trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.convergence.snr import log_inverse_snr
from analysis.figures import STYLE, new_figure
from analysis.training import TrainingCurves, recorded_series
from analysis.trajectories.series import Trajectory, title

EQUALITY = ("inverse_snr", "spread", "convolution_distance", "explained_by_grids")
OTHERS = ("effective_rank", "sparsity", "drift")
MOST_RADII = 4


@dataclass(frozen=True)
class WeightHistory:
    """What is known of the weights of one run."""

    curves: TrainingCurves
    trajectories: Mapping[str, Trajectory]  # by layer; none without snapshots

    def series(self, layer: str, measure: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Steps and values of a measure: as recorded in training, else from snapshots."""
        if layer in self.curves.layers and measure in self.curves.statistics:
            return recorded_series(self.curves, layer, measure)
        found = self.trajectories.get(layer)
        if found is None or measure not in found.values:
            return None
        return found.steps, found.values[measure]


def weight_comparison(
    runs: Mapping[str, WeightHistory], layers: Sequence[str], radii: Sequence[int]
) -> Figure:
    """Measures of layers over optimizer steps: a row per measure, a column per layer."""
    distances = [f"euclidean_{radius}" for radius in radii[:MOST_RADII]]
    measures = [*EQUALITY, *distances, *OTHERS]
    known = [
        measure
        for measure in measures
        if any(run.series(layer, measure) for run in runs.values() for layer in layers)
    ]
    with matplotlib.style.context(STYLE):
        figure = new_figure(2.5 * len(layers) + 1.5, 1.7 * len(known) + 0.3)
        axes = figure.subplots(len(known), len(layers), squeeze=False, sharex="col", sharey="row")
        for row, measure in zip(axes, known, strict=True):
            for ax, layer in zip(row, layers, strict=True):
                _draw_runs(ax, runs, layer, measure)
            row[0].set_ylabel(title(measure), fontsize="small")
        for ax, layer in zip(axes[0], layers, strict=True):
            ax.set_title(layer)
        for ax in axes[-1]:
            ax.set_xlabel("optimizer steps")
        axes[0, -1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        figure.align_ylabels(axes[:, 0])
    return figure


def _draw_runs(ax: Axes, runs: Mapping[str, WeightHistory], layer: str, measure: str) -> None:
    for index, (name, run) in enumerate(runs.items()):
        style = "-" if index < 7 else "--"
        steps, values = run.series(layer, measure) or ([], [])
        shown = log_inverse_snr(values) if measure == "inverse_snr" else values
        marker = "o" if 0 < len(steps) <= 20 else None
        ax.plot(steps, shown, style, color=f"C{index % 7}", marker=marker, ms=2.5, label=name)
