"""Table 1: what depth, locality and sharing are worth, each by itself.

Claim: of networks with the same fully connected embedding, locally connected ones are much better
than fully connected ones and nearly as good as convolutional ones; shallow ones that are trained
for long are not far behind deep ones; and of fully connected networks the embedding of S-CONV is
the best. (The published D-LOCAL and D-FC have other sizes than the published D-CONV's relatives,
see `neurosim.models.shallow_deep`.)
"""

from __future__ import annotations

from experiments.beta_lasso.published import COLUMNS
from experiments.beta_lasso.setting import Lasso
from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant, report, run_variants

ROWS = [(model, kind) for model in ("deep", "shallow") for kind in ("conv", "local", "dense")]


def variants(lasso: Lasso, options: TrainingOptions) -> list[Variant]:
    """D-CONV, D-LOCAL, D-FC, S-CONV, S-LOCAL, S-FC, 3-FC, all by SGD."""
    base = lasso.base(options)
    return [lasso.row(model, kind, base) for model, kind in [*ROWS, ("perceptron", "dense")]]


def run(lasso: Lasso, options: TrainingOptions) -> Report:
    """Table 1: seven architectures by SGD, 400 epochs unless told otherwise, beside the paper.

    The whole table wants a GPU and, for its last columns, --epochs 4000. A small one for a CPU:
        neurosim reproduce betalasso-table1 --channels 4 --subset 2000 --epochs 10

    Args:
        lasso: Sizes and rates; penalties mean nothing here.
        options: What to train on, how long, and where results go.
    """
    lasso.check()
    name = "betalasso-table1"
    folder, outcomes = run_variants(name, variants(lasso, options), options, (0,))
    return report(name, folder, outcomes, COLUMNS)
