"""Figs. 3 to 5: accuracy against the rank.

Claim: relaxing spatial invariance a little is better than not at all and than entirely; best late
in the network, at a low rank on CIFAR-10 and a high one on aligned faces, and at a higher one if
combining weights depend on the input.
"""

from __future__ import annotations

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant
from experiments.low_rank.study import Study
from experiments.low_rank.sweeps import by_rank, line_of, run_sweep
from neurosim.models.lrlc import DEPTHS

LAYERS = ("bias", "low-rank")
ROWS = ("conv", *(f"{layer}-{depth}" for layer in LAYERS for depth in DEPTHS), "input-dependent-3")


def variants(study: Study, options: TrainingOptions) -> list[Variant]:
    """A convolution, and the others at every rank."""
    return study.variants(ROWS, options)


def run(study: Study, options: TrainingOptions) -> Report:
    """Figs. 3 and 5: test accuracy of low-rank layers at every depth against their rank.

    `--rows` takes the baselines of Fig. 4 as well: wide-3, coord, local-3.

    Args:
        study: Which networks.
        options: What to train on, how long, and where results go.
    """
    rows = variants(study, options)
    return run_sweep(
        "lrlc-rank-sweep", rows, options, label=line_of, at=by_rank, axis="spatial rank"
    )
