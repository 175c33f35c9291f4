"""How far the filters of neighbouring positions are apart (Ott et al. 2020, Sec. 5.4).

All filters of a position are one vector, divided by the norm of the whole layer. The neighbours
of a centre lie on the ring max(|di|, |dj|) = r around it, and centres are at least r from the
border. Published are the means over all pairs for r = 1 and 4, in the first layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import Array
from neurosim.compiled import compiled
from neurosim.errors import require, require_choice

Normalisation = Literal["layer", "position", "none"]

RADII = (1, 4)
STRIP_BYTES = 2**26  # of filters and their products that are worked on at once
NEAR = 1e-4
"""Below this share of |u|^2 + |v|^2, d^2 from products in single precision is too inexact."""


@dataclass(frozen=True)
class FilterDistances:
    """Mean distances between filters and their neighbours, one entry per radius.

    NaN where a map is too small to have such neighbours. A filter of zeros has no direction:
    it is left out of means over angles.
    """

    radii: tuple[int, ...]
    euclidean: Array
    cosine: Array


def all_radii(size: Sequence[int]) -> tuple[int, ...]:
    """Every radius at which a map of this size has neighbours."""
    return tuple(range(1, (min(size) + 1) // 2))


def filter_distances(
    filters: NDArray[np.floating],
    radii: Sequence[int] | None = RADII,
    normalisation: Normalisation = "layer",
) -> FilterDistances:
    """Mean distances between filters (*size, weights) at every radius; None for all radii.

    `normalisation` divides filters by the norm of the layer, as published, or each by its own
    ("position"), or leaves them as they are ("none").
    """
    require_choice("normalisation", normalisation, get_args(Normalisation))
    size = filters.shape[:-1]
    chosen = all_radii(size) if radii is None else tuple(radii)
    valid = all(radius >= 1 for radius in chosen) and len(set(chosen)) == len(chosen)
    require(valid, "radii", chosen, "whole numbers >= 1 without repetitions")
    possible = tuple(radius for radius in chosen if min(size) > 2 * radius)
    flat = filters.reshape(math.prod(size), -1)
    layer = _Layer.of(flat)
    sums = np.zeros((len(possible), 4))
    for strip in _strips(size, flat.shape[1], max(possible, default=0)) if possible else ():
        window = flat[strip.low : strip.high] - layer.mean
        products = window[strip.start - strip.low : strip.stop - strip.low] @ window.T
        squares, lengths = _squares(window), layer.lengths[strip.low : strip.high]
        near = NEAR if window.dtype == np.float32 else 0.0
        for total, radius in zip(sums, possible, strict=True):
            total += _sums_over_pairs(
                window,
                squares,
                lengths,
                products,
                strip.start - strip.low,
                _centres(size, radius, strip) - strip.low,
                _ring(size, radius),
                near,
                normalisation == "position",
            )
    with np.errstate(invalid="ignore"):
        means = dict(zip(possible, sums[:, :2] / sums[:, 2:], strict=True))
    found = np.array([means.get(radius, (np.nan, np.nan)) for radius in chosen]).reshape(-1, 2)
    scale = layer.norm if normalisation == "layer" else 1.0
    return FilterDistances(chosen, found[:, 0] / scale, found[:, 1])


class _Layer(NamedTuple):
    """What all filters of a layer have in common."""

    mean: NDArray[np.floating]  # (weights,)
    lengths: Array  # (positions,), of every filter
    norm: float  # of all weights

    @classmethod
    def of(cls, flat: NDArray[np.floating]) -> _Layer:
        squares = _squares(flat)
        norm = max(math.sqrt(squares.sum()), np.finfo(float).tiny)
        return cls(flat.mean(0, dtype=_precision(flat)), np.sqrt(squares), norm)


class _Strip(NamedTuple):
    """Positions of the centres, and those that hold all their neighbours: whole rows."""

    start: int
    stop: int
    low: int
    high: int


def _strips(size: tuple[int, ...], width: int, reach: int) -> Iterator[_Strip]:
    """Rows whose neighbourhoods and products, in double precision, fit into STRIP_BYTES."""
    rows, across = size[0], math.prod(size[1:])
    height = rows
    while height > 1:
        window = min(rows, height + 2 * reach) * across
        if 8 * window * (width + height * across) <= STRIP_BYTES:
            break
        height = (height + 1) // 2
    for start in range(0, rows, height):
        stop = min(start + height, rows)
        ends = (start, stop, max(start - reach, 0), min(stop + reach, rows))
        yield _Strip(*(across * row for row in ends))


def _centres(size: tuple[int, ...], radius: int, strip: _Strip) -> NDArray[np.int64]:
    """Positions of a strip that are at least `radius` from every border."""
    inside = np.arange(math.prod(size)).reshape(size)
    inside = inside[tuple(slice(radius, length - radius) for length in size)].ravel()
    return inside[(inside >= strip.start) & (inside < strip.stop)]


def _ring(size: tuple[int, ...], radius: int) -> NDArray[np.int64]:
    """How far on in the order of positions the neighbours of a centre are."""
    steps = np.indices((2 * radius + 1,) * len(size)).reshape(len(size), -1) - radius
    strides = np.array([math.prod(size[axis + 1 :]) for axis in range(len(size))])
    return strides @ steps[:, np.abs(steps).max(0) == radius]


@compiled
def _sums_over_pairs(
    window: NDArray[np.floating],
    squares: Array,
    lengths: Array,
    products: NDArray[np.floating],
    first: int,
    centres: NDArray[np.int64],
    ring: NDArray[np.int64],
    near: float,
    unit: bool,
) -> Array:
    """Sums of Euclidean and cosine distances, and how many of each are finite, (4,).

    With the lengths a and b of two filters, and d^2 = |u|^2 + |v|^2 - 2 u.v between them, the
    cosine distance is 1 - u.v / (a b) = (d^2 - (a - b)^2) / (2 a b). Differences are the same
    without the mean of all filters, and nearly equal ones do not cancel then: `window` holds
    filters without it, `products` those of its rows from `first` on with all of its rows. The
    Euclidean distance is that of filters of length 1 if `unit`.
    """
    found = np.zeros(4)
    for centre in centres:
        for step in ring:
            other = centre + step
            both = squares[centre] + squares[other]
            squared = both - 2.0 * products[centre - first, other]
            if squared < near * both:  # cancelled: from plain differences
                squared = 0.0
                for weight in range(window.shape[1]):
                    difference = float(window[centre, weight]) - float(window[other, weight])
                    squared += difference * difference
            if squared < 0.0:
                squared = 0.0
            a, b = lengths[centre], lengths[other]
            cosine = np.nan  # a filter of zeros has no direction
            if a > 0.0 and b > 0.0:
                cosine = min(max((squared - (a - b) ** 2) / (2.0 * a * b), 0.0), 2.0)
            euclidean = math.sqrt(2.0 * cosine) if unit else math.sqrt(squared)
            if np.isfinite(euclidean):
                found[0] += euclidean
                found[2] += 1.0
            if np.isfinite(cosine):
                found[1] += cosine
                found[3] += 1.0
    return found


def _squares(values: NDArray[np.floating]) -> Array:
    """Squared length of every row."""
    return np.einsum("pw,pw->p", values, values, dtype=_precision(values)).astype(np.float64)


def _precision(values: NDArray[np.floating]) -> np.dtype:
    """In which products are taken: that of the weights, but at least single."""
    return np.promote_types(values.dtype, np.float32)
