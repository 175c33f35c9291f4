"""Figures of studies: heat maps over two options, and lines over one with intervals over seeds."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import STYLE, new_figure
from analysis.sweeps.summary import combinations, over_seeds, place, varying

if TYPE_CHECKING:
    import pandas as pd

PANELS = 12  # heat maps of one figure
LINES = 10  # of one figure


def heat_maps(table: pd.DataFrame, metric: str) -> Figure | None:
    """The mean over seeds over the two options with most values, a panel for each of the rest."""
    names = _by_values(table)
    if len(names) < 2:
        return None
    y, x, *rest = names[1], names[0], *names[2:]
    means = over_seeds(table, metric)
    panels = _parts(means, rest)[:PANELS]
    width = min(4, len(panels))
    height = -(-len(panels) // width)
    low, high = means["mean"].min(), means["mean"].max()
    with matplotlib.style.context(STYLE):
        figure = new_figure(2.9 * width + 1.0, 2.5 * height + 0.4)
        axes = figure.subplots(height, width, squeeze=False)
        for ax in axes.flat[len(panels) :]:
            ax.axis("off")
        for ax, (values, part) in zip(axes.flat, panels, strict=False):
            rows, columns = _values(part[y]), _values(part[x])
            grid = np.full((len(rows), len(columns)), np.nan)
            grid[combinations(part, [y]), combinations(part, [x])] = part["mean"]
            image = ax.imshow(grid, origin="lower", aspect="auto", vmin=low, vmax=high)
            _ticks(ax, "x", columns, x)
            _ticks(ax, "y", rows, y)
            ax.set_title(_named(rest, values), fontsize="small")
        figure.colorbar(image, ax=axes.ravel().tolist(), label=metric)  # pyright: ignore
    return figure


def lines(table: pd.DataFrame, metric: str) -> Figure | None:
    """Mean over seeds with its 95% interval over the number with most values, a line each."""
    names = _by_values(table)
    numbers = (name for name in names if table[name].dtype.kind in "iuf")
    x = next((name for name in numbers if not any(v != v for v in table[name])), None)  # NaN
    if x is None:
        return None
    rest = [name for name in names if name != x]
    means = over_seeds(table, metric)
    parts = _parts(means, rest)
    with matplotlib.style.context(STYLE):
        figure = new_figure(5.6, 3.2)
        ax = figure.subplots()
        for values, part in itertools.islice(parts, LINES):
            part = part.sort_values(x)
            (line,) = ax.plot(part[x], part["mean"], "o-", ms=3, label=_named(rest, values))
            ax.fill_between(
                part[x], part["low"], part["high"], color=line.get_color(), alpha=0.15, lw=0
            )
        given = np.unique(means[x].dropna())
        if len(given) > 2 and given[0] > 0 and given[-1] / given[0] >= 30:
            ax.set_xscale("log")
        ax.set_xlabel(x)
        ax.set_ylabel(metric)
        if rest:
            ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="x-small")
    return figure


def _by_values(table: pd.DataFrame) -> list[str]:
    """Options that vary, those with most values first."""
    return sorted(varying(table), key=lambda name: -len(set(map(str, table[name]))))


def _parts(means: pd.DataFrame, names: list[str]) -> list[tuple[tuple, pd.DataFrame]]:
    """The rows of every combination of these options, with their values."""
    if means.empty:
        return [((), means)]
    parts = (part for _, part in means.groupby(combinations(means, names)))
    return [(tuple(part[name].iloc[0] for name in names), part) for part in parts]


def _values(column: Any) -> list[Any]:
    """The different values of an option in order."""
    return list({place(value): value for value in sorted(column, key=place)}.values())


def _ticks(ax: Axes, axis: str, values: Any, label: str) -> None:
    """At most eight values along an axis."""
    step = -(-len(values) // 8)
    shown = [_shown(value) for value in values[::step]]
    getattr(ax, f"set_{axis}ticks")(range(0, len(values), step), shown)
    getattr(ax, f"set_{axis}label")(label)


def _named(names: list[str], values: tuple) -> str:
    return ", ".join(f"{n} = {_shown(v)}" for n, v in zip(names, values, strict=True))


def _shown(value: Any) -> str:
    kind, number, text = place(value)
    if kind == 0:
        return "none"
    return f"{number:g}" if kind == 1 and not isinstance(value, bool | np.bool_) else text
