"""Fig. 4B: the rate circuit (Eq. 8) equalises weights within minutes of simulated time.

Claim: with alpha = 10 and a new input every 150 ms, -log SNR first falls toward the ideal
rule's minimum and then rises slowly as finite inhibition shrinks the mean weight. 100 neurons,
10,000 inputs ~ N(0, 1), tau 30 ms, Euler steps of 1 ms, mean over 10 runs. Beside the paper's
limits (Eqs. 5 and 25) the figure shows the circuit's own, which lies above both because r lags
each new input.
"""

from __future__ import annotations

from experiments.common.convergence import run_study
from experiments.common.convergence_grid import ConvergenceStudy
from experiments.common.options import RunOptions
from experiments.common.result import Report

STUDY = ConvergenceStudy()


def run(options: RunOptions) -> Report:
    """Simulate and draw the figure."""
    return run_study(STUDY, "fig4b", options)
