"""`Operator.apply` compiled for CPUs: weights never leave the cache between two products.

A product of an operator with the weights of one position has few columns, one per output channel.
So those of some positions are put side by side, enough to fill a tile of `sum_of_products`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurosim.compiled import compiled
from neurosim.compiled.threads import run_parts
from neurosim.compiled.tiles import VECTOR, Left, Out, Right, Values, copy, sum_of_products
from neurosim.sleep import taps_cpu
from neurosim.sleep.frame import Frame

if TYPE_CHECKING:
    from neurosim.sleep.operator import Operator

TOGETHER = 4  # vectors that the columns of a product fill


class Sizes(NamedTuple):
    """Of weights (taps, positions, C, O); every part of the O has its operator (D, D)."""

    outputs: int
    channels: int
    dimension: int
    parts: int
    together: int  # positions side by side
    columns: int  # of a product: so many times O / parts, filled up to whole vectors


def apply(operator: Operator, storage: Tensor, frame: Frame) -> None:
    """See `Operator.apply`; numbers do not depend on threads."""
    if len(frame.positions) == 0:
        return
    _, _, channels, outputs = storage.shape
    parts, dimension, _ = operator.deviation.shape
    width, lanes = outputs // parts, VECTOR // storage.itemsize
    together = max(1, TOGETHER * lanes // width)
    columns = -(-together * width // lanes) * lanes
    sizes = Sizes(outputs, channels, dimension, parts, together, columns)
    shared = _of_means(operator, storage, frame)
    count = len(frame.positions)
    threads = min(torch.get_num_threads(), -(-count // together))
    scratch = storage.new_empty(threads, 2 * dimension * columns).numpy()
    values, deviation = storage.view(-1).numpy(), operator.deviation.mT.reshape(-1).numpy()
    of_means, rows, grid = shared.reshape(-1).numpy(), frame.rows.numpy(), frame.grid.numpy()
    bounds = (np.linspace(0, -(-count // together), threads + 1, dtype=int) * together).tolist()

    def part(number: int) -> None:
        start, stop = bounds[number], min(bounds[number + 1], count)
        _apply(values, deviation, of_means, rows, grid, scratch[number], sizes, start, stop)

    run_parts(part, threads)
    torch.autograd.graph.increment_version(storage)  # which writing behind torch's back does not


def _of_means(operator: Operator, storage: Tensor, frame: Frame) -> Tensor:
    """What every member of a grid gets from the grid's mean, (grids, D, O).

    Members share one order of taps, so that means can be made in the order of memory.
    """
    _, positions, _, outputs = storage.shape
    order, bounds = frame.in_order
    by_tap = taps_cpu.means(storage, order, bounds)  # (taps, grids, C O)
    first = frame.grid.argsort(stable=True)[bounds[:-1]]  # a member of every grid
    taps = torch.div(frame.rows[first], positions, rounding_mode="floor")  # (grids, elements)
    means = by_tap[taps, torch.arange(len(taps))[:, None]]  # (grids, elements, C O)
    parts, dimension, _ = operator.deviation.shape
    means = means.reshape(len(taps), dimension, parts, outputs // parts)
    return torch.einsum("pij,gipo->gjpo", operator.mean - operator.deviation, means)


@compiled
def _apply(
    storage: Values, deviation: Values, shared: Values,
    rows: NDArray[np.int64], grid: NDArray[np.int64], scratch: Values, s: Sizes,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Positions from `start` to `stop`."""
    width, row = s.outputs // s.parts, s.channels * s.outputs
    weights, slept = scratch[: s.dimension * s.columns], scratch[s.dimension * s.columns :]
    scratch[:] = 0  # where columns stay empty
    once, vectors = np.zeros(1, np.int64), s.columns // (VECTOR // storage.itemsize)
    out, a = Out(slept, s.columns), Left(deviation, once, s.dimension, 1)
    b = Right(weights, once, s.columns)
    for first in range(start, stop, s.together):
        count = min(s.together, stop - first)
        for part in range(s.parts):
            for p in range(count):
                column, of_grid = p * width, grid[first + p] * s.dimension * s.outputs
                for e in range(rows.shape[1]):
                    source = rows[first + p, e] * row + part * width
                    target = e * s.channels * s.columns + column
                    copy(storage, source, s.outputs, s.channels, width, weights, target, s.columns)
                source = of_grid + part * width
                copy(shared, source, s.outputs, s.dimension, width, slept, column, s.columns)
            firsts = (0, part * s.dimension * s.dimension, 0)
            sum_of_products(out, a, b, firsts, 1, s.dimension, s.dimension, vectors, True)
            for p in range(count):
                for e in range(rows.shape[1]):
                    source = e * s.channels * s.columns + p * width
                    target = rows[first + p, e] * row + part * width
                    copy(slept, source, s.columns, s.channels, width, storage, target, s.outputs)
