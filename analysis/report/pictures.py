"""Filters of a layer as pictures: one per output channel and snapshot, a tile per position."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from analysis.report.markup import Markup, element
from analysis.trajectories.weights import RecordedLayer, read_rows
from neurosim.recording import RunReader

MOST_POSITIONS = 16  # along each axis, from the middle of the map
LIMIT = 99.5
"""Percentile of |weight| that is shown in full colour."""
BLUE, WHITE, RED = (33, 102, 172), (247, 247, 247), (178, 24, 43)
GAP = 255


def filter_pictures(
    run: RunReader, layer: RecordedLayer, snapshots: Sequence[int], channels: int
) -> Markup:
    """Pictures of a two-dimensional local layer's first output channels, a frame per snapshot.

    Filters on three inputs are shown in colour, others by the weights on their first input.
    """
    steps, shown = run["snapshot"], []
    for output in range(min(channels, layer.outputs)):
        frames = np.stack([_filters(run, layer, number, output) for number in snapshots])
        limit = full_colour(frames)
        images = [
            element(
                "img",
                src=_png(_tiled(frame, limit)),
                alt=f"filters of {layer.name}, output {output}, after step {steps[number]}",
                data_frame=index,
                hidden=index < len(snapshots) - 1,
            )
            for index, (number, frame) in enumerate(zip(snapshots, frames, strict=True))
        ]
        name = f"output {output}"
        shown.append(element("figure", *images, element("figcaption", name), class_="filters"))
    return element("div", *shown, class_="pictures")


def full_colour(frames: NDArray[np.float64]) -> float:
    """The size of a weight from which on it is shown in full colour."""
    known = np.abs(frames[np.isfinite(frames)])
    return (float(np.percentile(known, LIMIT)) if known.size else 0.0) or 1.0


def is_shown(layer: RecordedLayer) -> bool:
    """Whether there are pictures of a layer."""
    return len(layer.size) == 2


def middle(size: int) -> slice:
    """Positions along an axis that are shown."""
    start = max(0, (size - MOST_POSITIONS) // 2)
    return slice(start, start + min(size, MOST_POSITIONS))


def _filters(
    run: RunReader, layer: RecordedLayer, snapshot: int, output: int
) -> NDArray[np.float64]:
    """(rows, columns, kernel, kernel, colours) of one output channel."""
    rows, columns = map(middle, layer.size)
    inputs = slice(0, 3 if layer.inputs == 3 else 1)
    if layer.low_rank:
        whole = read_rows(run, layer, snapshot, rows)
        weight = whole[:, columns, output, inputs].astype(float)
    else:
        index = (snapshot, rows, columns, output, inputs)
        weight = run.read(f"weights/{layer.name}/weight", index).astype(float)
    return np.moveaxis(weight, 2, -1)


def _tiled(filters: NDArray[np.float64], limit: float) -> NDArray[np.uint8]:
    """Tiles side by side with a gap between: palette numbers, or red, green, blue and opacity."""
    rows, columns, height, width, colours = filters.shape
    # A run that diverged: as if nothing were there.
    share = np.clip(np.where(np.isfinite(filters), filters, 0) / limit, -1, 1)
    if colours == 1:
        values = np.rint((share + 1) / 2 * (GAP - 1))
        blank = np.full(1, GAP)
    else:
        opaque = np.full((*share.shape[:-1], 1), 255)
        values = np.concatenate([np.rint((share + 1) / 2 * 255), opaque], -1)
        blank = np.zeros(4)
    gap = 1 if max(height, width) > 1 else 0
    tiles = np.empty((rows, columns, height + gap, width + gap, len(blank)), np.uint8)
    tiles[:] = blank
    tiles[:, :, :height, :width] = values
    whole = tiles.swapaxes(1, 2).reshape(rows * (height + gap), columns * (width + gap), -1)
    return whole[: len(whole) - gap, : whole.shape[1] - gap]


def _png(image: NDArray[np.uint8]) -> str:
    """The picture as an address that holds it."""
    buffer = io.BytesIO()
    if image.shape[-1] == 1:
        picture = Image.fromarray(np.ascontiguousarray(image[..., 0]), mode="P")
        picture.putpalette(_palette())
        picture.save(buffer, "PNG", transparency=GAP, optimize=True)
    else:
        Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _palette() -> list[int]:
    """Blue for negative weights, white for 0, red for positive; one more for gaps."""
    share = np.linspace(-1, 1, GAP)[:, None]
    ends = np.where(share < 0, BLUE, RED)
    colours = np.rint(WHITE + np.abs(share) * (ends - np.array(WHITE))).astype(int)
    return [*colours.ravel().tolist(), *WHITE]
