"""Table 1: spatial invariance may be overly restrictive.

Claim: networks with a low-rank locally connected layer at any depth are better than convolutional
ones, best with it at the third; already a bias that varies in space helps.
"""

from __future__ import annotations

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant
from experiments.low_rank.study import Study, run_table
from neurosim.models.lrlc import DEPTHS

ROWS = ("conv", *(f"{layer}-{depth}" for layer in ("bias", "low-rank") for depth in DEPTHS))


def variants(study: Study, options: TrainingOptions) -> list[Variant]:
    """A convolution, then biases and low-rank layers at every depth."""
    return study.variants(ROWS, options)


def run(study: Study, options: TrainingOptions) -> Report:
    """Table 1: convolution, spatial bias and low-rank layers at every depth, beside the paper.

    The table takes 10 seeds of 150 epochs on a GPU. A small one for a CPU:
        neurosim reproduce lrlc-table1 --epochs 20 --batch-size 64 --seeds 0 --ranks 2 4

    Args:
        study: Which networks.
        options: What to train on, how long, and where results go.
    """
    return run_table("lrlc-table1", variants(study, options), options)
