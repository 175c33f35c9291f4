"""Supp. Fig. 1: structured against random initial combining weights.

Claim: whether a low-rank layer starts as a convolution or with random combining weights hardly
matters.
"""

from __future__ import annotations

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant
from experiments.low_rank.compare import compared, run_comparison
from experiments.low_rank.study import Study

VERSIONS = {"conv": {"combining": "conv"}, "random": {"combining": "random"}}


def variants(study: Study, options: TrainingOptions) -> list[Variant]:
    """Low-rank layers at every depth and rank, in both versions."""
    return compared(study, options, VERSIONS)


def run(study: Study, options: TrainingOptions) -> Report:
    """Supp. Fig. 1: layers that start as a convolution, or with random combining weights.

    Args:
        study: Which networks.
        options: What to train on, how long, and where results go.
    """
    return run_comparison("lrlc-init", variants(study, options), options)
