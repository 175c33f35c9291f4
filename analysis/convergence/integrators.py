"""Observed orders of convergence, from an `integrators` run file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.convergence.noise import fit_slope
from analysis.statistics import Array
from neurosim.recording import RunReader


@dataclass(frozen=True)
class IntegratorOrder:
    """The errors of one method, and the order at which they fall."""

    method: str
    steps: Array  # dt, or the relative tolerance of adaptive methods
    evaluations: Array
    errors: Array
    order: float


def integrator_orders(run: RunReader) -> list[IntegratorOrder]:
    """One entry per method; the order is the slope of log error against log 1/evaluations.

    For fixed steps evaluations are inversely proportional to the step.
    """
    methods = run["method"].tolist()
    steps, evaluations, errors = run["step"], run["evaluations"], run["error"]
    orders = []
    for method in dict.fromkeys(methods):
        own = np.array([name == method for name in methods])
        order = -fit_slope(evaluations[own], errors[own])
        orders.append(IntegratorOrder(method, steps[own], evaluations[own], errors[own], order))
    return orders
