"""How far the filters of neighbouring positions are apart (Ott et al. 2020, Sec. 5.4).

All filters of a position are one vector, divided by the norm of the whole layer. The neighbours
of a centre lie on the ring max(|di|, |dj|) = r around it, and centres are at least r from the
border. Published are the means over all pairs for r = 1 and 4, in the first layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from analysis.trajectories.weights import parts
from neurosim.errors import require, require_choice

Array = NDArray[np.float64]
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
    sums, counts = np.zeros((len(possible), 2)), np.zeros((len(possible), 2))
    flat = filters.reshape(math.prod(size), -1)
    layer = _Layer.of(flat)
    for strip in _strips(size, flat.shape[1], max(possible, default=0)) if possible else ():
        pairs = _pairs(size, possible, strip)
        values = _between(flat, layer, strip, pairs)
        if normalisation == "layer":
            values[0] /= layer.norm
        elif normalisation == "position":
            values[0] = np.sqrt(2 * values[1])
        for index, ring in enumerate(pairs.rings):
            known = np.isfinite(values[:, ring])
            sums[index] += np.where(known, values[:, ring], 0).sum(1)
            counts[index] += known.sum(1)
    with np.errstate(invalid="ignore"):
        means = dict(zip(possible, sums / counts, strict=True))
    found = np.array([means.get(radius, (np.nan, np.nan)) for radius in chosen]).reshape(-1, 2)
    return FilterDistances(chosen, found[:, 0], found[:, 1])


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
    """Rows (along the first axis) of centres, and those that hold all their neighbours."""

    start: int
    stop: int
    low: int
    high: int
    rows: int  # of the whole layer


class _Pairs(NamedTuple):
    """Centres and neighbours of all radii, one radius after the other."""

    centre: NDArray[np.int64]  # numbers of positions
    neighbour: NDArray[np.int64]
    rings: tuple[slice, ...]  # the pairs of each radius


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
        yield _Strip(start, stop, max(start - reach, 0), min(stop + reach, rows), rows)


@lru_cache(maxsize=4)
def _pairs(size: tuple[int, ...], radii: tuple[int, ...], strip: _Strip) -> _Pairs:
    numbers = np.arange(math.prod(size)).reshape(size)
    centres, neighbours, counts = [], [], []
    for radius in radii:
        inside = [slice(radius, length - radius) for length in size]
        rows = slice(max(strip.start, radius), max(min(strip.stop, size[0] - radius), radius))
        centre = numbers[(rows, *inside[1:])].reshape(-1, 1)
        steps = np.indices((2 * radius + 1,) * len(size)).reshape(len(size), -1) - radius
        ring = steps[:, np.abs(steps).max(0) == radius]
        strides = [math.prod(size[axis + 1 :]) for axis in range(len(size))]
        neighbour = centre + strides @ ring  # never across a border
        centres.append(np.broadcast_to(centre, neighbour.shape).ravel())
        neighbours.append(neighbour.ravel())
        counts.append(neighbour.size)
    stops = np.cumsum([0, *counts]).tolist()
    rings = tuple(slice(*ends) for ends in pairwise(stops))
    return _Pairs(np.concatenate(centres), np.concatenate(neighbours), rings)


def _between(flat: NDArray[np.floating], layer: _Layer, strip: _Strip, pairs: _Pairs) -> Array:
    """Euclidean and cosine distance of every pair, (2, pairs).

    With the lengths a and b of two filters, and d^2 = |u|^2 + |v|^2 - 2 u.v between them, the
    cosine distance is 1 - u.v / (a b) = (d^2 - (a - b)^2) / (2 a b). Differences are the same
    without the mean of all filters, and nearly equal ones do not cancel then.
    """
    across = len(flat) // strip.rows
    low, start, stop, high = (
        across * row for row in (strip.low, strip.start, strip.stop, strip.high)
    )
    window = flat[low:high] - layer.mean
    squares = _squares(window)
    products = window[start - low : stop - low] @ window.T
    centre, neighbour = pairs.centre - low, pairs.neighbour - low  # within the window
    both = squares[centre] + squares[neighbour]
    squared = both - 2.0 * np.take(products, (centre + low - start) * len(window) + neighbour)
    if window.dtype == np.float32:
        near = np.flatnonzero(squared < NEAR * both)
        squared[near] = _squared(window, centre[near], neighbour[near])
    squared = np.maximum(squared, 0)
    a, b = layer.lengths[pairs.centre], layer.lengths[pairs.neighbour]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (squared - (a - b) ** 2) / (2 * a * b)
    return np.stack([np.sqrt(squared), np.clip(cosine, 0, 2)])


def _squared(
    window: NDArray[np.floating], centre: NDArray[np.int64], neighbour: NDArray[np.int64]
) -> Array:
    """Squared distances of pairs by plain differences."""
    found = np.empty(len(centre))
    for part in parts(len(centre), 8 * window.shape[1]):
        difference = window[centre[part]] - window[neighbour[part]]
        found[part] = _squares(difference)
    return found


def _squares(values: NDArray[np.floating]) -> Array:
    """Squared length of every row."""
    return np.einsum("pw,pw->p", values, values, dtype=_precision(values)).astype(np.float64)


def _precision(values: NDArray[np.floating]) -> np.dtype:
    """In which products are taken: that of the weights, but at least single."""
    return np.promote_types(values.dtype, np.float32)
