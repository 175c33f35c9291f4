"""Figures of training runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.style
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.convergence.snr import log_inverse_snr
from analysis.figures import STYLE, first_middle_last, new_figure
from analysis.statistics import Array
from analysis.training.curves import TrainingCurves
from analysis.training.sleeps import recorded_series


def comparison(variants: Mapping[str, Sequence[TrainingCurves]]) -> Figure:
    """Accuracy over epochs, one line per variant: mean over seeds, and the range as a band."""
    with matplotlib.style.context(STYLE):
        figure = new_figure(5.6, 3.2)
        ax = figure.subplots()
        for index, (name, runs) in enumerate(variants.items()):
            length = min(len(run.epochs) for run in runs)
            values = np.array([run.top1[:length] for run in runs])
            epochs = runs[0].epochs[:length]
            colour = f"C{index % 10}"
            style = "-" if index < 10 else "--"
            ax.plot(epochs, values.mean(0), color=colour, ls=style, label=name)
            ax.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15, lw=0)
        ax.set_xlabel("epochs")
        ax.set_ylabel("top-1 accuracy")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


class Point(NamedTuple):
    """A mean at some place, and its standard error; NaN where there is none."""

    at: float
    mean: float
    error: float


def against(
    lines: Mapping[str, Sequence[Point]], axis: str, what: str = "top-1 accuracy, %"
) -> Figure:
    """One quantity against another with standard errors; dotted for what does not depend on it."""
    with matplotlib.style.context(STYLE):
        figure = new_figure(5.0, 3.2)
        ax = figure.subplots()
        for index, (name, points) in enumerate(lines.items()):
            colour = f"C{index % 10}"
            placed = sorted(point for point in points if not math.isnan(point.at))
            for point in points:
                if math.isnan(point.at):
                    ax.axhline(point.mean, color=colour, ls=":", label=name)
            if placed:
                at, mean, error = map(np.array, zip(*placed, strict=True))
                bars = np.nan_to_num(error)
                ax.errorbar(at, mean, bars, color=colour, marker="o", ms=3, capsize=2, label=name)
        ax.set_xlabel(axis)
        ax.set_ylabel(what)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def over_epochs(
    panels: Mapping[str, Mapping[str, Sequence[Array]]], legend: str = "", columns: int = 2
) -> Figure:
    """One panel per quantity, one line per condition: mean over runs, and their range as a band.

    Runs may end at different epochs: means are those of the runs that are still going on.
    """
    rows = -(-len(panels) // columns)
    with matplotlib.style.context(STYLE):
        figure = new_figure(3.0 * columns + 1.0, 2.3 * rows)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, (title, lines) in zip(axes, panels.items(), strict=False):
            colours = colormaps["viridis"](np.linspace(0, 0.9, max(2, len(lines))))
            for (name, runs), colour in zip(lines.items(), colours, strict=False):
                values = np.full((len(runs), max(map(len, runs), default=0)), np.nan)
                for row, run in zip(values, runs, strict=True):
                    row[: len(run)] = run
                if not np.isfinite(values).any():  # a map too small for its radius
                    continue
                epochs = np.arange(1, values.shape[1] + 1)
                ax.plot(epochs, np.nanmean(values, 0), color=colour, label=name)
                low, high = np.nanmin(values, 0), np.nanmax(values, 0)
                ax.fill_between(epochs, low, high, color=colour, alpha=0.15, lw=0)
            ax.set_title(title)
            ax.set_xlabel("epochs")
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        axes[min(columns, len(panels)) - 1].legend(
            loc="upper left", bbox_to_anchor=(1.0, 1.0), title=legend
        )
    return figure


def routes(points: Sequence[tuple[str, str, Mapping[str, float]]], across: str) -> Figure:
    """Every quantity against the one called `across`, for networks on several routes.

    Points are (route, label, quantities); those of a route are joined in their order.
    """
    shown = [name for name in points[0][2] if name != across]
    with matplotlib.style.context(STYLE):
        figure = new_figure(3.1 * len(shown) + 1.0, 3.0)
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for ax, name in zip(panels, shown, strict=True):
            for number, route in enumerate(dict.fromkeys(point[0] for point in points)):
                own = [point for point in points if point[0] == route]
                x, y = ([values[axis] for *_, values in own] for axis in (across, name))
                ax.plot(x, y, "osD^v"[number % 5] + "-", color=f"C{number}", ms=4, label=route)
                for (_, label, _), at in zip(own, zip(x, y, strict=True), strict=True):
                    if ax is panels[0]:  # the others have the same networks at the same places
                        ax.annotate(label, at, xytext=(3, 3), textcoords="offset points", size=7)
            ax.set_xlabel(across)
            ax.set_ylabel(name)
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def divergence(runs: Mapping[str, TrainingCurves]) -> Figure:
    """-log SNR of every layer over training steps, a panel per run (Fig. 6)."""
    with matplotlib.style.context(STYLE):
        figure = new_figure(3.2 * len(runs) + 1.2, 2.9)
        panels = figure.subplots(1, len(runs), squeeze=False, sharey=True)[0]
        for ax, (name, run) in zip(panels, runs.items(), strict=True):
            _draw_layers(ax, run)
            ax.set_title(name)
            ax.set_xlabel("optimizer steps")
        panels[0].set_ylabel("−log SNR")
        if panels[-1].lines:
            panels[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="x-small")
    return figure


def _draw_layers(ax: Axes, run: TrainingCurves) -> None:
    """First, middle and last layer; more lines than that hide each other."""
    for layer in first_middle_last(run.layers):
        steps, values = recorded_series(run, layer, "inverse_snr")
        ax.plot(steps, log_inverse_snr(values), lw=0.7, label=layer)
