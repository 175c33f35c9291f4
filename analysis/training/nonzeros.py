"""What is left of every layer over training (Neyshabur 2020, Fig. 3), and pictures of filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures import STYLE, new_figure
from neurosim.errors import RunFileError
from neurosim.recording import RunReader


def left_over_time(run: RunReader, relatives: Mapping[str, Sequence[int]] = {}) -> Figure:
    """Non-zero weights of every layer over steps; dashed, the sizes of other networks' layers."""
    if "nonzeros" not in run.names():
        raise RunFileError(f"{run.path}: holds no counts; record them with --nonzeros")
    layers, counts, steps = run["weight_layer"], run["nonzeros"], run["step"]
    with matplotlib.style.context(STYLE):
        figure = new_figure(2.9 * len(layers), 2.6)
        panels = figure.subplots(1, len(layers), squeeze=False)[0]
        for number, (ax, layer) in enumerate(zip(panels, layers, strict=True)):
            ax.semilogy(steps, np.maximum(counts[:, number], 1), label="S-FC")
            for color, (name, sizes) in enumerate(relatives.items(), start=1):
                ax.axhline(sizes[number], ls="--", lw=0.9, color=f"C{color}", label=name)
            ax.set_title(str(layer))
            ax.set_xlabel("optimizer steps")
        panels[0].set_ylabel("non-zero weights")
        panels[-1].legend()
    return figure


def last_filters(run: RunReader, layer: str = "conv1") -> NDArray[np.float64]:
    """The filters of a fully connected layer at the last snapshot, (units, C, H, W)."""
    name = f"weights/{layer}/input_shape"
    if name not in run.names():
        raise RunFileError(f"{run.path}: holds no weights of a fully connected layer {layer!r}")
    weight = run.read(f"weights/{layer}/weight", len(run["snapshot"]) - 1)
    return np.asarray(weight, float).reshape(len(weight), *run[name])


def filter_pictures(
    filters: Mapping[str, NDArray[np.float64]], count: int = 24, seed: int = 0
) -> Figure:
    """Some filters of each network, in a row each; grey is 0, colours are the image's channels."""
    with matplotlib.style.context(STYLE):
        figure = new_figure(0.42 * count, 0.75 * len(filters))
        rows = figure.subplots(len(filters), count, squeeze=False)
        for axes, (name, weights) in zip(rows, filters.items(), strict=True):
            used = np.flatnonzero(np.abs(weights).sum((1, 2, 3)) > 0)
            chosen = np.random.default_rng(seed).permutation(used)[:count]
            for ax in axes:
                ax.set_axis_off()
            for ax, unit in zip(axes, chosen, strict=False):
                image = weights[unit] / (2 * np.abs(weights[unit]).max()) + 0.5
                shown = image.transpose(1, 2, 0) if len(image) == 3 else image.mean(0)
                ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[0].set_title(name, loc="left", fontsize="small")
    return figure
