"""Table 2: low-rank layers outperform baselines.

Claim: neither knowing positions (CoordConv) nor as many parameters in a wide convolution makes a
network as good as one with a low-rank third layer, and locally connected layers are worse at any
depth. `--rows fc` adds the fully connected head of Supp. Tables 2 to 4.
"""

from __future__ import annotations

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant
from experiments.low_rank.study import Study, run_table

ROWS = ("low-rank-3", "coord", "local-1", "local-2", "local-3", "wide-3")


def variants(study: Study, options: TrainingOptions) -> list[Variant]:
    """A low-rank third layer, and other baselines."""
    return study.variants(ROWS, options)


def run(study: Study, options: TrainingOptions) -> Report:
    """Table 2: low-rank, CoordConv, locally connected and wide, beside the paper.

    Args:
        study: Which networks.
        options: What to train on, how long, and where results go.
    """
    return run_table("lrlc-table2", variants(study, options), options)
