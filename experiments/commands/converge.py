"""A convergence study over any grid: what `neurosim converge` does."""

from __future__ import annotations

from experiments.common.convergence import run_study
from experiments.common.convergence_grid import ConvergenceStudy
from experiments.common.options import RunOptions, check_name
from experiments.common.result import Report


def run(study: ConvergenceStudy, options: RunOptions, name: str = "converge") -> Report:
    """Run a convergence study: every combination of the listed values, one run file, one figure.

    Example: how does the final -log SNR depend on inhibition and presentation time?
        neurosim converge --alphas 1 3 10 30 --durations 50 150 450 --kernels 3 --gammas 0.01

    Args:
        study: The grid.
        options: Where results go.
        name: Name of the run file and figures.
    """
    check_name(name)
    return run_study(study, name, options)
