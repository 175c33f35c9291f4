"""Fig. 4A: the ideal rule (Eq. 4) makes weights nearly convolutional in a few hundred inputs.

Claim: for every kernel size, -log SNR falls to the theoretical minimum of Eq. 5,
2 log(gamma / (1 + gamma)) for C = I. 100 neurons, 2,000 inputs ~ N(0, 1) (the published code;
the text says N(1, 1)), eta_k = 0.5 / (1000 + k), momentum 0.95, mean over 10 runs.
"""

from __future__ import annotations

import math

from experiments.common.convergence import run_study
from experiments.common.convergence_grid import ConvergenceStudy
from experiments.common.options import RunOptions
from experiments.common.result import Report

STUDY = ConvergenceStudy(
    rules=("instant",), alphas=(math.inf,), presentations=2_000, record_every=2
)


def run(options: RunOptions) -> Report:
    """Simulate and draw the figure."""
    return run_study(STUDY, "fig4a", options)
