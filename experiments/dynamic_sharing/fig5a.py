"""Fig. 5A: the biased rule (Eq. 21, alpha = 10) shows where finite inhibition leads.

Claim: -log SNR passes close to the minimum of Eq. 5 and then rises toward the biased limit of
Eq. 25. Settings of Fig. 4A, 10,000 inputs, mean over 10 runs.
"""

from __future__ import annotations

from experiments.convergence import ConvergenceStudy, run_study
from experiments.report import Report, RunOptions

STUDY = ConvergenceStudy(rules=("instant",))


def run(options: RunOptions) -> Report:
    """Simulate and draw the figure."""
    return run_study(STUDY, "fig5a", options)
