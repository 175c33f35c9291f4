"""Figures of convergence studies: -log SNR, noise, orders of integrators."""

from __future__ import annotations

import math
from itertools import cycle
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.convergence.integrators import IntegratorOrder
from analysis.convergence.names import label
from analysis.convergence.noise import NoiseCurves
from analysis.convergence.snr import ConvergenceCurves, log_inverse_snr
from analysis.figures import STYLE, new_figure

LINES = ["-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (8, 3))]
LIMIT_LINES = {"eq5": ":", "eq25": "--", "circuit": "-."}
LIMIT_MARKS = {"eq5": "s", "eq25": "<", "circuit": "o"}
MOST_LIMITS = 9
"""Of a panel with more, limits are marks at its right edge: lines would hide the curves."""
LIMIT_NAMES = {"eq5": "Eq. 5", "eq25": "Eq. 25", "circuit": "own limit"}
MOST_CURVES = 200
"""A figure with more curves than this shows their ends instead."""


def convergence(curves: ConvergenceCurves, limits: list[str] | None = None) -> Figure:
    """-log SNR over presentations: colour is gamma, line is kernel size, a panel the rest.

    Thin straight lines, or marks at the right if there are many, are the limits of theory, in the
    colour of the settings that they belong to. `limits` chooses among them; by default all that the
    run file holds.
    """
    if len(curves.mean) > MOST_CURVES:
        return _final_values(curves)
    varying = curves.varying
    inner = [axis for axis in ("gamma", "kernel") if axis in varying]
    spare = [axis for axis in varying if axis not in inner]
    while spare and len(inner) < 2:  # a grid over other axes uses colours and lines for those
        inner.append(spare.pop())
    settings = range(len(curves.mean))
    panels: dict[tuple[str, ...], list[int]] = {}
    for g in settings:
        panels.setdefault(tuple(str(varying[a][g]) for a in spare), []).append(g)
    theory = {p: _limits(curves, members, inner, limits) for p, members in panels.items()}
    marked = max(map(len, theory.values())) > MOST_LIMITS
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with matplotlib.style.context(STYLE):
        figure = new_figure(3.6 * columns + 0.4, 2.8 * rows)
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes_of_none in axes.flat[len(panels) :]:
            axes_of_none.set_visible(False)
        for (panel, members), ax in zip(panels.items(), axes.flat, strict=False):
            _draw_panel(ax, curves, members, inner)
            _draw_limits(ax, curves, theory[panel], marked=marked)
            if spare:
                ax.set_title(", ".join(label(a, varying[a][members[0]]) for a in spare))
        for ax in axes[-1]:
            ax.set_xlabel("presentations")
        for ax in axes[:, 0]:
            ax.set_ylabel("−log SNR")
        _convergence_legend(axes[0, -1], curves, inner, limits, marked=marked)
    return figure


def _final_values(curves: ConvergenceCurves) -> Figure:
    """Where each of very many settings ended, in the order of the grid."""
    with matplotlib.style.context(STYLE):
        figure = new_figure(5.0, 3.0)
        ax = figure.subplots()
        ax.plot(curves.mean[:, -1], ".", ms=2)
        ax.set_xlabel("setting, in the order of the grid")
        ax.set_ylabel("final −log SNR")
    return figure


def _levels(curves: ConvergenceCurves, axis: str) -> list[Any]:
    """The values of an axis in their order, without repetitions."""
    return list(dict.fromkeys(curves.grid[axis]))


def _colour(index: int, count: int) -> Any:
    if count <= 7:
        return f"C{index}"
    from matplotlib import colormaps

    return colormaps["viridis"](index / (count - 1))


def _limit_names(curves: ConvergenceCurves, limits: list[str] | None) -> list[str]:
    known = [name for name, values in curves.limits.items() if np.isfinite(values).any()]
    return [name for name in known if limits is None or name in limits]


def _draw_panel(ax: Axes, curves: ConvergenceCurves, members: list[int], inner: list[str]) -> None:
    for g in members:
        colour, line = _setting_colour(curves, inner, g), LINES[0]
        if len(inner) > 1:
            levels = _levels(curves, inner[1])
            line = LINES[levels.index(curves.grid[inner[1]][g]) % len(LINES)]
        ax.plot(curves.presentations, curves.mean[g], color=colour, linestyle=line)
        ax.fill_between(
            curves.presentations, curves.low[g], curves.high[g], color=colour, alpha=0.15, lw=0
        )


def _limits(
    curves: ConvergenceCurves, members: list[int], inner: list[str], limits: list[str] | None
) -> list[tuple[str, float, Any]]:
    """Name, -log SNR and colour of all that theory says of some settings, once each."""
    found: dict[tuple[str, float, Any], None] = {}
    for name in _limit_names(curves, limits):
        depends = _depends(curves, name, inner)
        for g in members:
            value = float(log_inverse_snr(curves.limits[name][g]))
            colour = _setting_colour(curves, inner, g) if depends else "0.2"
            if np.isfinite(value):
                found[name, round(value, 6), colour] = None
    return list(found)


def _draw_limits(
    ax: Axes, curves: ConvergenceCurves, theory: list[tuple[str, float, Any]], *, marked: bool
) -> None:
    for name, value, colour in theory:
        if marked:
            end = 1.03 * curves.presentations[-1]
            ax.plot(end, value, color=colour, marker=LIMIT_MARKS[name], ms=4, mfc="none")
        else:
            style = LIMIT_LINES[name]
            ax.axhline(value, color=colour, lw=0.9, linestyle=style, zorder=0, alpha=0.9)


def _setting_colour(curves: ConvergenceCurves, inner: list[str], g: int) -> Any:
    """The colour of a setting: its level along the first inner axis."""
    if not inner:
        return "C0"
    levels = _levels(curves, inner[0])
    return _colour(levels.index(curves.grid[inner[0]][g]), len(levels))


def _depends(curves: ConvergenceCurves, name: str, inner: list[str]) -> bool:
    """Whether a limit differs along the axis that colours stand for."""
    if not inner:
        return False
    levels = curves.grid[inner[0]]
    by_level: dict[Any, set[float]] = {}
    for value, level in zip(curves.limits[name], levels, strict=True):
        by_level.setdefault(level, set()).add(float(value))
    return len(by_level) == 1 or not set.intersection(*by_level.values())


def _convergence_legend(
    ax: Axes,
    curves: ConvergenceCurves,
    inner: list[str],
    limits: list[str] | None,
    *,
    marked: bool,
) -> None:
    handles = []
    for position, axis in enumerate(inner):
        levels = _levels(curves, axis)
        shown = levels if len(levels) <= 8 else [levels[0], levels[-1]]
        for value in shown:
            index = levels.index(value)
            style: dict[str, Any] = {"color": "0.4", "linestyle": LINES[index % len(LINES)]}
            if position == 0:
                style = {"color": _colour(index, len(levels))}
            handles.append(Line2D([], [], label=label(axis, value), **style))
    for name in _limit_names(curves, limits):
        style = {"color": "0.2", "lw": 0.9, "linestyle": LIMIT_LINES[name]}
        if marked:
            style = {"color": "0.2", "lw": 0, "marker": LIMIT_MARKS[name], "ms": 4, "mfc": "none"}
        handles.append(Line2D([], [], label=LIMIT_NAMES[name], **style))
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))


def noise(curves: NoiseCurves) -> Figure:
    """|W^k - W*|^2 over k for every noise level, with the exact floors and the theorem's bounds."""
    with matplotlib.style.context(STYLE):
        figure = new_figure(4.6, 3.2)
        ax = figure.subplots()
        for index, sigma in enumerate(curves.sigma):
            colour = _colour(index, len(curves.sigma))
            ax.loglog(
                curves.presentations, curves.error[index], color=colour, label=f"σ = {sigma:g}"
            )
            ax.loglog(curves.presentations, curves.bound[index], color=colour, ls=":", lw=0.9)
            if curves.floor[index] > 0:
                ax.axhline(curves.floor[index], color=colour, ls="--", lw=0.8)
        ax.set_xlabel("presentations k")
        ax.set_ylabel("‖Wᵏ − W*‖²")
        handles, _ = ax.get_legend_handles_labels()
        for name, line in (("exact floor", "--"), ("Theorem 1's bound", ":")):
            handles.append(Line2D([], [], color="0.3", ls=line, lw=0.9, label=name))
        ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def integrators(orders: list[IntegratorOrder]) -> Figure:
    """Error against evaluations of the slope, one line per method."""
    with matplotlib.style.context(STYLE):
        figure = new_figure(4.6, 3.0)
        ax = figure.subplots()
        for order, marker in zip(orders, cycle("osD^v"), strict=False):
            name = f"{order.method}: order {order.order:.2f}"
            ax.loglog(order.evaluations, order.errors, marker=marker, ms=4, label=name)
        ax.set_xlabel("evaluations of the slope")
        ax.set_ylabel("relative error of the weights")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
