"""A presentation of the rate circuit to neurons that each see an input of their own.

With noise of its own every neuron i has another x_i, so that a sleep is no longer one matrix. But
while x_i is shown only four numbers move in ways of their own: r_i, x_i.m_i, x_i.(w_i - w_i_init)
and the inhibition of the neuron's grid (`euler`); what m_i and w_i have across x_i goes by one 2x2
map for all neurons (`map_across`).

Neurons are (positions P, outputs O), their weights (P, D, O), grids (G, O). `presentation_cpu` has
the same, compiled, `presentation_triton` the steps for GPUs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neurosim.dynamics import InstantResponse, Response
from neurosim.sleep.frame import Frame


class Moving(NamedTuple):
    """What a presentation moves step by step."""

    r: Tensor  # (P, O), r_i - b
    inhibition: Tensor  # (G, O), r_inh
    m: Tensor  # (P, O), x_i.m_i
    change: Tensor  # (P, O), x_i.(w_i - w_i_init)


class Held(NamedTuple):
    """What stays as it is meanwhile."""

    start: Tensor  # (P, O), x_i.w_i_init
    energy: Tensor  # (P, O), |x_i|^2
    etas: NDArray[np.float64]  # rates of every step
    momentum: float  # of a step
    gamma: float
    response: Response
    frame: Frame


def along(x: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
    """x_i.x_i and the product of every other vector with x_i, (P, O) each, from (P, D, O)."""
    return tuple((vector * x).sum(1) for vector in (x, *vectors))


def euler(now: Moving, held: Held) -> Moving:
    """All steps of Eq. 8 along x_i."""
    r, inhibition, m, change = now
    start, energy, etas, momentum, gamma, response, frame = held
    for eta in etas.tolist():
        z = start + change
        if isinstance(response, InstantResponse):
            r = z - response.subtracted * frame.mean(z)[frame.grid]
        else:
            target = z - response.alpha * inhibition[frame.grid]
            inhibition = inhibition + response.leak * (frame.mean(r) - inhibition)
            r = r + response.leak * (target - r)
        m = momentum * m - eta * (r * energy + gamma * change)
        change = change + m
    return Moving(r, inhibition, m, change)


def map_across(etas: NDArray[np.float64], momentum: float, gamma: float) -> NDArray[np.float64]:
    """What a presentation makes of (m_i, w_i - w_i_init) across x_i, the same for all neurons.

    There r_i says nothing: m <- momentum m - eta gamma (w - w_init), and w moves by that m.
    """
    maps = np.empty((len(etas), 2, 2))  # of every step
    maps[:, :, 0] = momentum
    maps[:, :, 1] = -gamma * etas[:, None]
    maps[:, 1, 1] += 1
    while len(maps) > 1:  # products of neighbours, the later one on the left
        if len(maps) % 2:
            maps = np.concatenate([maps, np.eye(2)[None]])
        maps = maps[1::2] @ maps[::2]
    return maps[0]


def move(
    m: Tensor,
    change: Tensor,
    x: Tensor,
    across: NDArray[np.float64],
    by_m: Tensor,
    by_change: Tensor,
) -> tuple[Tensor, Tensor]:
    """m_i and w_i - w_i_init, (P, D, O): mapped, and moved by so many x_i; may overwrite them."""
    (a, b), (c, d) = across.tolist()
    return (
        a * m + b * change + by_m[:, None] * x,
        c * m + d * change + by_change[:, None] * x,
    )
