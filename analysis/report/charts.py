"""Line charts as SVG, in the colours of the page, with the values for its script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.report.markup import Markup, data, element
from analysis.statistics import Array

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 10, 46
MOST_POINTS = 300
MOST_LINES = 14
COLOURS = 7
MOST_MARKS = 60
"""Sleeps beyond this number are ticks at the top instead of lines."""


@dataclass(frozen=True)
class Line:
    """Values over time; NaN is a gap."""

    name: str
    x: ArrayLike
    y: ArrayLike


@dataclass(frozen=True)
class Chart:
    """Lines in one frame."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    marks: ArrayLike = ()  # where the network slept
    logarithmic: bool = False


@dataclass(frozen=True)
class Scale:
    """From values to pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, values: ArrayLike) -> Array:
        """Pixels of values."""
        share = (np.asarray(values, float) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


def chart(drawn: Chart) -> Markup:
    """A figure that the keyboard can reach; empty text where there is nothing to draw."""
    lines = [thinned(line, drawn.logarithmic) for line in drawn.lines[:MOST_LINES]]
    lines = [(name, x, y) for name, x, y in lines if np.isfinite(y).any()]
    if not lines:
        return Markup("")
    finite = np.concatenate([y[np.isfinite(y)] for _, _, y in lines])
    times = np.concatenate([x for _, x, _ in lines])
    across = Scale(*_range(times, margin=0), LEFT, WIDTH - RIGHT)
    up = Scale(*_range(finite, margin=0.05), HEIGHT - BOTTOM, TOP)
    marks = np.asarray(drawn.marks, float)
    marks = marks[(marks >= across.low) & (marks <= across.high)]
    about = f"{drawn.title}: {drawn.y_label} over {drawn.x_label}"
    svg = element(
        "svg",
        element("title", about),
        _grid(across, up, drawn),
        _marks(across(marks)),
        *(
            element("path", d=_path(across(x), up(y)), class_=f"line {_colour(number)}")
            for number, (_, x, y) in enumerate(lines)
        ),
        element("line", class_="cursor", y1=TOP, y2=HEIGHT - BOTTOM, x1=0, x2=0, hidden=True),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=about,
    )
    legend = [
        element("li", element("span", class_=f"key {_colour(number)}"), name)
        for number, (name, _, _) in enumerate(lines)
    ]
    if len(marks):
        legend.append(element("li", element("span", class_="key sleep"), "sleep"))
    values = {
        "frame": [LEFT, WIDTH - RIGHT, across.low, across.high],
        "label": drawn.x_label,
        "power": drawn.logarithmic,
        "lines": [[name, _numbers(x), _numbers(y)] for name, x, y in lines],
    }
    return element(
        "figure",
        element("figcaption", drawn.title),
        svg,
        element("ul", *legend, class_="legend"),
        element("output", class_="readout", aria_live="polite"),
        data(values),
        class_="chart",
        tabindex="0",
        aria_label=f"{about}; arrow keys read values",
    )


def thinned(line: Line, logarithmic: bool = False) -> tuple[str, Array, Array]:
    """A line of at most MOST_POINTS points: of more, the extremes of every stretch."""
    x, y = np.asarray(line.x, float), np.asarray(line.y, float)
    if logarithmic:
        y = np.log10(np.where(y > 0, y, np.nan))
    y = np.where(np.isfinite(y), y, np.nan)
    if len(x) <= MOST_POINTS:
        return line.name, x, y
    kept: list[int] = []
    for stretch in np.array_split(np.arange(len(x)), MOST_POINTS // 2):
        known = stretch[~np.isnan(y[stretch])]
        if len(known):
            kept += sorted({known[np.argmin(y[known])], known[np.argmax(y[known])]})
    return line.name, x[kept], y[kept]


def ticks(low: float, high: float, most: int = 6) -> Array:
    """Round numbers between two."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return step * np.arange(first, last + 1, dtype=float)


def _range(values: Array, margin: float) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        room = abs(high) / 10 or 1.0
        return low - room, high + room
    room = margin * (high - low)
    return low - room, high + room


def _grid(across: Scale, up: Scale, drawn: Chart) -> Markup:
    parts = []
    for value in ticks(up.low, up.high):
        if drawn.logarithmic and value % 1:
            continue
        y = f"{float(up(value)):.1f}"
        shown = f"1e{value:.0f}" if drawn.logarithmic else f"{value:.6g}"
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", shown, x=LEFT - 6, y=y, dy="0.35em", class_="y"))
    for value in ticks(across.low, across.high):
        x = f"{float(across(value)):.1f}"
        parts.append(element("text", f"{value:.6g}", x=x, y=HEIGHT - BOTTOM + 18, class_="x"))
    middle = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(element("text", drawn.x_label, x=middle[0], y=HEIGHT - 6, class_="x"))
    turned = f"rotate(-90 15 {middle[1]})"
    parts.append(element("text", drawn.y_label, x=15, y=middle[1], transform=turned, class_="x"))
    return element("g", *parts, aria_hidden="true")


def _marks(places: Array) -> Markup | None:
    if not len(places):
        return None
    bottom = HEIGHT - BOTTOM if len(places) <= MOST_MARKS else TOP + 8
    return element("path", d="".join(f"M{x:.1f} {TOP}V{bottom}" for x in places), class_="sleep")


def _path(x: Array, y: Array) -> str:
    """Straight lines between known points; a point alone is a dot."""
    parts, pen = [], False
    for a, b in zip(x, y, strict=True):
        if not math.isnan(b):
            parts.append(f"{'L' if pen else 'M'}{a:.1f} {b:.1f}{'' if pen else 'h0'}")
        pen = not math.isnan(b)
    return "".join(parts)


def _numbers(values: Array) -> list[float | None]:
    return [None if math.isnan(v) else float(f"{v:.5g}") for v in values]


def _colour(number: int) -> str:
    return f"c{number % COLOURS}" + (" dashed" if number >= COLOURS else "")
