"""Supp. Fig. 2: combining weights and biases of rows and columns, or of all positions.

Claim: factorised combining weights, (H + W) K parameters instead of H W K, are better.
"""

from __future__ import annotations

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant
from experiments.low_rank.compare import compared, run_comparison
from experiments.low_rank.study import Study

VERSIONS = {"factorized": {"sharing": None}, "full": {"sharing": "position"}}


def variants(study: Study, options: TrainingOptions) -> list[Variant]:
    """Low-rank layers at every depth and rank, in both versions."""
    return compared(study, options, VERSIONS)


def run(study: Study, options: TrainingOptions) -> Report:
    """Supp. Fig. 2: factorised against full combining weights and biases.

    Args:
        study: Which networks.
        options: What to train on, how long, and where results go.
    """
    return run_comparison("lrlc-factorized", variants(study, options), options)
