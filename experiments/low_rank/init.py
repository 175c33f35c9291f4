"""Supp. Fig. 1: structured against random initial combining weights.

Claim: whether a low-rank layer starts as a convolution or with random combining weights hardly
matters.
"""

from __future__ import annotations

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.low_rank.compare import run_comparison
from experiments.low_rank.study import Study


def run(study: Study, options: TrainingOptions) -> Report:
    """Supp. Fig. 1: layers that start as a convolution, or with random combining weights.

    Args:
        study: Which networks.
        options: What to train on, how long, and where results go.
    """
    options_of = {"conv": {"combining": "conv"}, "random": {"combining": "random"}}
    return run_comparison("lrlc-init", study, options, options_of)
