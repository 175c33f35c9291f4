"""Fig. 5B: the rate circuit (Eq. 8, alpha = 10) follows the trend of the biased rule.

Claim: the curves of Fig. 5A and of the circuit have the same shape, a very good solution first
and then a slow drift as the bias sets in. The simulation is that of Fig. 4B.
"""

from __future__ import annotations

from experiments.common.convergence import run_study
from experiments.common.options import RunOptions
from experiments.common.result import Report
from experiments.dynamic_sharing.fig4b import STUDY


def run(options: RunOptions) -> Report:
    """Simulate and draw the figure."""
    return run_study(STUDY, "fig5b", options)
