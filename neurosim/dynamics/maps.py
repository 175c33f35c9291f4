"""What one presentation does to one mode of the population, as a small matrix.

While x is constant everything is linear. Split the momentum m and the change e = w - w_init
of a mode into the part along x and the rest. Along x the mode is the vector

    (rho, r_inh, p, e, c),  rho = r - b,  p = m.x,  e = (w - w_init).x,  c = w_init.x

and one step multiplies it by a 5 x 5 matrix (c stays); the rest of m and e only decays,

    m <- momentum m - eta gamma e,   e <- e + m,

by a 2 x 2 matrix that is the same for all neurons, modes and directions. So a presentation
of any number of steps is one product of each, which depends on |x|^2 and on the schedule, not
on the weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neurosim.compiled import compiled
from neurosim.dynamics.arrays import Array
from neurosim.dynamics.circuit import Mode, Plasticity, Response


class PresentationMaps(NamedTuple):
    """The maps of `count` presentations, one mode."""

    along: Array  # (count, 4, 5): (rho, r_inh, p, e) from (rho, r_inh, p, e, c)
    across: Array  # (count, 2, 2): (m, e) from (m, e), perpendicular to x


@compiled
def _step_columns(energy, etas, leak, inhibition, gain, momentum, gamma, along, across):
    """Send the unit vectors through all steps, all presentations side by side."""
    count = len(energy)
    rho, r_inh = np.empty(count), np.empty(count)
    p, e = np.empty(count), np.empty(count)
    for column in range(5):
        rho[:] = column == 0
        r_inh[:] = column == 1
        p[:] = column == 2
        e[:] = column == 3
        c = 1.0 if column == 4 else 0.0
        for step in range(len(etas)):
            for k in range(count):
                old = rho[k]
                rho[k] += leak * (-old + gain * (e[k] + c) - inhibition * r_inh[k])
                r_inh[k] += leak * (-r_inh[k] + old)
                p[k] = momentum * p[k] - etas[step, k] * (rho[k] * energy[k] + gamma * e[k])
                e[k] += p[k]
        along[:, 0, column], along[:, 1, column] = rho, r_inh
        along[:, 2, column], along[:, 3, column] = p, e
    for column in range(2):
        p[:] = column == 0
        e[:] = column == 1
        for step in range(len(etas)):
            for k in range(count):
                p[k] = momentum * p[k] - etas[step, k] * gamma * e[k]
                e[k] += p[k]
        across[:, 0, column], across[:, 1, column] = p, e


def presentation_maps(
    response: Response, plasticity: Plasticity, mode: Mode, energy: Array, etas: Array
) -> PresentationMaps:
    """The maps of presentations with |x|^2 = energy (count,) and rates etas (steps, count)."""
    count = len(energy)
    maps = PresentationMaps(np.empty((count, 4, 5)), np.empty((count, 2, 2)))
    _step_columns(
        np.ascontiguousarray(energy),
        np.ascontiguousarray(etas),
        mode.leak,
        mode.inhibition,
        mode.gain,
        plasticity.step_momentum(response),
        plasticity.gamma,
        *maps,
    )
    return maps
