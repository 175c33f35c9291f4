"""The look of every figure, and how figures are saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neurosim.files import replacing

STYLE = Path(__file__).with_name("neurosim.mplstyle")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in the house style, without touching pyplot's global state."""
    with matplotlib.style.context(STYLE):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        return figure


def first_middle_last(names: Sequence[str]) -> list[str]:
    """Three of many names, in their order; more lines than that hide each other."""
    return [names[i] for i in sorted({0, len(names) // 2, len(names) - 1})] if names else []


def figure_paths(stem: Path) -> list[Path]:
    """Where `save` writes; a stem may have dots of its own."""
    return [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf")]


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write STEM.png and STEM.pdf."""
    paths = figure_paths(stem)
    with matplotlib.style.context(STYLE):
        for path in paths:
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
            with replacing(path) as new:
                figure.savefig(new, metadata=metadata)
    return paths
