"""A whole sleep as one matrix.

Every neuron that sees the same inputs obeys the same linear map, and the map of its deviation
from the group's mean does not depend on the other neurons. So what a sleep does to any number
of neurons is known once D virtual neurons, the rows of the identity, have slept:

    deviation_out = deviation_in @ T_dev        mean_out = mean_in @ T_mean + c

Rates start at rest and momentum at zero, where the bias cancels and c = 0.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from neurosim.dynamics.arrays import Array, check_weights
from neurosim.dynamics.blas import single_threaded
from neurosim.dynamics.circuit import Plasticity, Response
from neurosim.dynamics.collapsed import Collapsed, Rows, show
from neurosim.dynamics.inputs import Given, InputStream
from neurosim.dynamics.problem import Problem, Recorder
from neurosim.dynamics.stability import check_stability
from neurosim.errors import Diverged, require_count, require_instance


class Transfer(NamedTuple):
    """The operator of a sleep, for weights as rows."""

    deviation: Array  # (D, D), T_dev
    mean: Array  # (D, D), T_mean
    constant: Array  # (D,), c

    def apply(self, weights: ArrayLike) -> Array:
        """Weights (..., N, D) after the sleep of a group of N neurons."""
        weights = check_weights("weights", weights, len(self.mean))
        mean = weights.mean(-2, keepdims=True)
        return (weights - mean) @ self.deviation + mean @ self.mean + self.constant


def transfer(
    inputs: ArrayLike | InputStream,
    *,
    response: Response,
    plasticity: Plasticity,
    threads: int | None = None,
    check: bool = True,
) -> Transfer:
    """T_dev, T_mean and c of a sleep that shows `inputs`, (T, D) or a stream.

    The result does not depend on `threads` (default: all cores).
    """
    stream = inputs if isinstance(inputs, InputStream) else Given.of(inputs)
    require_instance("response", response, Response)
    require_instance("plasticity", plasticity, Plasticity)
    require_count("threads", threads, optional=True)
    identity = np.eye(stream.dimension)
    problem = Problem(identity, stream, response, plasticity, initial="rest")
    Collapsed().check(problem)
    if check:
        check_stability(
            response,
            plasticity,
            energy=stream.sample_energies(),
            dimension=stream.dimension,
            presentations=stream.presentations,
        )
    modes = (response.deviation_mode, response.mean_mode)
    rows = [Rows.at_rest(identity) for _ in modes]
    tiles = [part.tiles() for part in rows]
    with single_threaded(), ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for chunk in problem.chunks(0, stream.presentations):
            for mode, parts in zip(modes, tiles, strict=True):
                show(problem, chunk, mode, parts, Recorder(None), each=pool.map)
    deviation, mean = (identity + part.change for part in rows)
    if not (np.isfinite(deviation).all() and np.isfinite(mean).all()):
        raise Diverged(
            "the operator became NaN or Inf: lower plasticity.rate or response.dt, "
            "or see with check=True which bound breaks"
        )
    return Transfer(deviation, mean, np.zeros(stream.dimension))
