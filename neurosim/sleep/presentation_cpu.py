"""The same as `presentation`, compiled for CPUs: rate circuits, in float32 or float64.

Steps along the inputs are many and small, so that calling torch for each takes longer than its
arithmetic; weights are passed over once before them and once after, without intermediate results.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurosim.compiled import compiled
from neurosim.dynamics import RateCircuit, Response
from neurosim.sleep.presentation import Held, Moving
from neurosim.sleep.taps_cpu import DTYPES

Floats = NDArray[np.floating]


def can_compile(weights: Tensor, response: Response) -> bool:
    """Whether these functions do, for weights (P, D, O) that are contiguous."""
    known = weights.device.type == "cpu" and weights.dtype in DTYPES
    return known and isinstance(response, RateCircuit)


def along(x: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
    """As `presentation.along`."""
    found = [torch.empty_like(x[:, 0]) for _ in (x, *vectors)]
    for vector, product in zip((x, *vectors), found, strict=True):
        _along(x.numpy(), vector.numpy(), product.numpy())
    return tuple(found)


@compiled
def _along(x: Floats, vector: Floats, product: Floats) -> None:
    positions, dimension, outputs = x.shape
    for p in range(positions):
        total = product[p]
        total[:] = 0
        for d in range(dimension):
            here, there = x[p, d], vector[p, d]
            for o in range(outputs):
                total[o] += here[o] * there[o]


def euler(now: Moving, held: Held) -> Moving:
    """As `presentation.euler`."""
    start, energy, etas, momentum, gamma, response, frame = held
    assert isinstance(response, RateCircuit)  # see `can_compile`
    after = Moving(*(values.clone(memory_format=torch.contiguous_format) for values in now))
    kind = start.numpy().dtype.type
    _euler(
        after.r.numpy().ravel(),
        after.m.numpy().ravel(),
        after.change.numpy().ravel(),
        start.numpy().ravel(),
        energy.numpy().ravel(),
        after.inhibition.numpy(),
        frame.grid.numpy(),
        frame.members.to(start.dtype).numpy(),
        etas.astype(kind),
        kind(gamma),
        kind(momentum),
        kind(response.alpha),
        kind(response.leak),
    )
    return after


@compiled
def _euler(
    r: Floats,
    m: Floats,
    change: Floats,
    start: Floats,
    energy: Floats,
    inhibition: Floats,
    of: NDArray[np.int64],
    sizes: Floats,
    etas: Floats,
    gamma: float,
    momentum: float,
    alpha: float,
    leak: float,
) -> None:
    # Each loop over neurons writes one array: the compiler then uses vector instructions.
    grids, outputs = inhibition.shape
    received, sums = np.empty_like(r), np.empty_like(inhibition)
    for step in range(len(etas)):
        eta = etas[step]
        sums[:] = 0
        for p in range(len(of)):
            first, rates, total = p * outputs, inhibition[of[p]], sums[of[p]]
            for o in range(outputs):
                received[first + o] = rates[o]
            for o in range(outputs):
                total[o] += r[first + o]
        for g in range(grids):
            for o in range(outputs):
                inhibition[g, o] += leak * (sums[g, o] / sizes[g] - inhibition[g, o])
        for i in range(len(r)):
            r[i] += leak * (start[i] + change[i] - alpha * received[i] - r[i])
        for i in range(len(r)):
            m[i] = momentum * m[i] - eta * (r[i] * energy[i] + gamma * change[i])
        for i in range(len(r)):
            change[i] += m[i]


def move(
    m: Tensor,
    change: Tensor,
    x: Tensor,
    across: NDArray[np.float64],
    by_m: Tensor,
    by_change: Tensor,
) -> tuple[Tensor, Tensor]:
    """As `presentation.move`, in place."""
    a, b, c, d = across.astype(x.numpy().dtype.type).ravel()
    _move(m.numpy(), change.numpy(), x.numpy(), a, b, c, d, by_m.numpy(), by_change.numpy())
    return m, change


@compiled
def _move(
    m: Floats,
    change: Floats,
    x: Floats,
    a: float,
    b: float,
    c: float,
    d: float,
    by_m: Floats,
    by_change: Floats,
) -> None:
    positions, dimension, outputs = x.shape
    for p in range(positions):
        along_m, along_change = by_m[p], by_change[p]
        for k in range(dimension):
            m_row, change_row, seen = m[p, k], change[p, k], x[p, k]
            for o in range(outputs):
                before = m_row[o]
                m_row[o] = a * before + b * change_row[o] + along_m[o] * seen[o]
                change_row[o] = c * before + d * change_row[o] + along_change[o] * seen[o]
