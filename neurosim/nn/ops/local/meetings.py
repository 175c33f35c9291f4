"""Which elements of the input meet which positions of the output, and through which filters."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurosim.nn.ops.local.geometry import Geometry, Sizes


class Meetings(NamedTuple):
    """For every target, the sources that it meets, and the filters through which it does.

    Output positions are targets and elements of the input sources, or the other way round. A row
    is what shares its place along the first axis. A filter's number is tap * positions + position.
    """

    row: int  # targets of a row
    source_row: int  # sources of a row
    low: NDArray[np.int64]  # for every row of targets, sources met lie in rows from here on
    high: NDArray[np.int64]  # and below this; from row to row, neither goes back
    first: NDArray[np.int64]  # meetings of target t are those from first[t] to first[t + 1]
    sources: NDArray[np.int64]
    filters: NDArray[np.int64]


def met(geometry: Geometry) -> NDArray[np.int64]:
    """The element of the input that each position meets with each tap, or -1, (positions, taps)."""
    g = geometry
    found = np.zeros((1, 1), np.int64)
    for axis, size in enumerate(g.input_size):
        taps = np.arange(g.kernel_size[axis]) * g.dilation[axis] - g.before[axis]
        place = (np.arange(g.output_size[axis])[:, None] * g.stride[axis] + taps)[None, :, None, :]
        before = found[:, None, :, None]
        inside = (before >= 0) & (place >= 0) & (place < size)
        found = np.where(inside, before * size + place, -1).reshape(len(found) * place.shape[1], -1)
    return found


@lru_cache(maxsize=256)
def by_output(geometry: Geometry) -> Meetings:
    """What every output position sees."""
    elements = met(geometry)
    position, tap = np.nonzero(elements >= 0)
    filters = tap * len(elements) + position
    sources = elements[position, tap]
    return _meetings(position, sources, filters, geometry.output_size, geometry.input_size)


@lru_cache(maxsize=256)
def by_input(geometry: Geometry) -> Meetings:
    """By what every element of the input is seen."""
    seen = by_output(geometry)
    positions = np.repeat(np.arange(geometry.positions), np.diff(seen.first))
    order = np.argsort(seen.sources, kind="stable")
    targets, sources, filters = (x[order] for x in (seen.sources, positions, seen.filters))
    return _meetings(targets, sources, filters, geometry.input_size, geometry.output_size)


@lru_cache(maxsize=256)
def unmet(geometry: Geometry) -> NDArray[np.int64]:
    """Filters that only ever see padding."""
    position, tap = np.nonzero(met(geometry) < 0)
    return tap * geometry.positions + position


def _meetings(
    targets: NDArray[np.int64], sources: NDArray[np.int64], filters: NDArray[np.int64],
    size: Sizes, source_size: Sizes,
) -> Meetings:  # fmt: skip
    """From meetings in the order of their targets."""
    row, source_row, rows = prod(size[1:]), prod(source_size[1:]), size[0]
    first = np.searchsorted(targets, np.arange(rows * row + 1))
    low, high = np.full(rows, source_size[0]), np.zeros(rows, np.int64)
    np.minimum.at(low, targets // row, sources // source_row)
    np.maximum.at(high, targets // row, sources // source_row + 1)
    # With a dilation every other row meets every other row: a window has all of them.
    low, high = np.minimum.accumulate(low[::-1])[::-1], np.maximum.accumulate(high)
    return Meetings(row, source_row, np.minimum(low, high), high, first, sources, filters)
