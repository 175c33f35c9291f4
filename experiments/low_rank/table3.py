"""Table 3: fixed against input-dependent combining weights.

Claim: where images are not aligned (CIFAR-10) combining weights that depend on the input are
better than fixed ones; where they are (MNIST, CelebA) they help little or harm.
"""

from __future__ import annotations

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant
from experiments.low_rank.study import Study, run_table

ROWS = ("input-dependent-3", "low-rank-3")


def variants(study: Study, options: TrainingOptions) -> list[Variant]:
    """Combining weights of the input, and fixed ones."""
    return study.variants(ROWS, options)


def run(study: Study, options: TrainingOptions) -> Report:
    """Table 3: input-dependent and fixed combining weights at the third layer, beside the paper.

    Args:
        study: Which networks.
        options: What to train on, how long, and where results go.
    """
    return run_table("lrlc-table3", variants(study, options), options)
