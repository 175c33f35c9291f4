"""Fig. 5A: the biased rule (Eq. 21, alpha = 10) shows where finite inhibition leads.

Claim: -log SNR passes close to the minimum of Eq. 5 and then rises toward the biased limit of
Eq. 25. Settings of Fig. 4A, 10,000 inputs, mean over 10 runs.
"""

from __future__ import annotations

from experiments.common.convergence import run_study
from experiments.common.convergence_grid import ConvergenceStudy
from experiments.common.options import RunOptions
from experiments.common.result import Report

STUDY = ConvergenceStudy(rules=("instant",))


def run(options: RunOptions) -> Report:
    """Simulate and draw the figure."""
    return run_study(STUDY, "fig5a", options)
