"""How a layer's answer changes when an image is translated.

Both indices compare two distances between activations, each squared and averaged over images and
units:

    index = 1 - D(f(shift x), g f(x)) / D(f(shift x), g f(x'))

where x' is another image. For invariance g changes nothing; for equivariance g shifts the map by
as many of its own pixels as the image was shifted. 1 means that nothing but g has happened, 0
that the answer is as far from what it should be as the answer to another image. A convolution
with stride s is equivariant to shifts by multiples of s, up to the border; global averages of it
are invariant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurosim.errors import InvalidArgument, require, require_choice

Layer = Callable[[NDArray[np.float32]], ArrayLike]
"""From images (n, channels, height, width) to (n, channels, rows, columns) or (n, features)."""

Fill = Literal["wrap", "edge"]
_EQUAL = 1e-12


@dataclass(frozen=True)
class TranslationIndices:
    """Both indices for one shift; equivariance is NaN where it means nothing.

    Where a layer has no map, or the shift is no whole number of its pixels.
    """

    shift: tuple[int, int]
    invariance: float
    equivariance: float


def translation_indices(
    layer: Layer,
    images: ArrayLike,
    shifts: list[tuple[int, int]],
    *,
    fill: Fill = "wrap",
    margin: int = 0,
) -> list[TranslationIndices]:
    """Invariance and equivariance to each of the shifts, in pixels down and to the right.

    Args:
        layer: the network up to the layer.
        images: (n, channels, height, width), at least 2.
        shifts: translations.
        fill: what comes in at the border: the other side of the image, or its outermost pixels.
        margin: rows and columns at a map's border that equivariance leaves out, besides those
            that a shift brings in.
    """
    require_choice("fill", fill, ("wrap", "edge"))
    require(margin >= 0, "margin", margin, ">= 0")
    shown = np.asarray(images, np.float32)
    right = shown.ndim == 4 and len(shown) >= 2
    require(right, "images", f"shape {shown.shape}", "2 or more of (channels, height, width)")
    still = np.asarray(layer(shown), float)
    found = []
    for shift in shifts:
        moved = np.asarray(layer(translate(shown, shift, fill)), float)
        step = _map_shift(shift, shown.shape[2:], still.shape[2:])
        equivariance = np.nan
        if step is not None:
            area = _interior(still.shape[2:], step, margin, fill)
            expected = np.roll(still, step, axis=(2, 3))
            equivariance = _index(moved[:, :, *area], expected[:, :, *area])
        found.append(TranslationIndices(shift, _index(moved, still), equivariance))
    return found


def translate(images: NDArray, shift: tuple[int, int], fill: Fill = "wrap") -> NDArray:
    """Images (..., height, width) moved down and to the right; negative is up and left."""
    rows, columns = images.shape[-2:]
    require(abs(shift[0]) < rows and abs(shift[1]) < columns, "shift", shift, "within the image")
    if fill == "wrap":
        return np.roll(images, shift, axis=(-2, -1))
    # Every pixel comes from where the shift takes it back to, or the nearest there is.
    down, right = (
        np.clip(np.arange(size) - step, 0, size - 1)
        for size, step in zip((rows, columns), shift, strict=True)
    )
    return images[..., down[:, None], right]


def _index(moved: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """1 - mean distance to what the same image predicts / to what the other images predict."""
    m, e = (values.reshape(len(values), -1) for values in (moved, expected))
    n = len(m)
    same = ((m - e) ** 2).sum()
    # Over all pairs of images |m_i - e_j|^2 sums to this, without making the pairs.
    pairs = n * ((m**2).sum() + (e**2).sum()) - 2 * float(m.sum(0) @ e.sum(0))
    others = (pairs - same) / (n - 1)
    if not others > _EQUAL * ((m**2).sum() + (e**2).sum()):
        raise InvalidArgument("a layer must tell images apart, but this one gives all the same")
    return float(1 - same / others)


def _map_shift(
    shift: tuple[int, int], image: tuple[int, ...], layer: tuple[int, ...]
) -> tuple[int, int] | None:
    """The shift in pixels of the layer's map, if it is a whole number of them."""
    if len(layer) != 2:
        return None
    steps = [s * size / whole for s, size, whole in zip(shift, layer, image, strict=True)]
    return (round(steps[0]), round(steps[1])) if all(s == round(s) for s in steps) else None


def _interior(
    size: tuple[int, ...], step: tuple[int, int], margin: int, fill: Fill
) -> tuple[slice, slice]:
    """Rows and columns whose answer does not depend on what came in at the border."""
    slices = []
    for length, moved in zip(size, step, strict=True):
        brought = moved if fill == "edge" else 0
        start, stop = margin + max(0, brought), length - margin + min(0, brought)
        if start >= stop:
            raise InvalidArgument(
                f"margin {margin} and shift {step} leave nothing of a map of {tuple(size)}"
            )
        slices.append(slice(start, stop))
    return slices[0], slices[1]
