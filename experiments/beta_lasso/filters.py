"""Fig. 4: filters that were learned from a fully connected start, and pixels in any order.

Claim: by SGD, filters of S-FC are dense; by beta-LASSO they are sparse and local: more of their
weight lies near their centre than chance puts there. And "permuting all pixels in our experiments
does not change the performance of beta-LASSO" (Sec. 5), while it takes S-CONV its advantage.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from analysis import figures
from analysis.training.nonzeros import filter_pictures, last_filters
from experiments.beta_lasso.measures import remains, remains_table, write_remains
from experiments.beta_lasso.setting import Lasso, first_and_last
from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Outcome, Variant, report, run_variants
from neurosim.nn import PermutePixels
from neurosim.recording import RunReader


def variants(lasso: Lasso, options: TrainingOptions) -> list[Variant]:
    """S-CONV by SGD, S-FC by SGD and beta-LASSO; pixels in order and permuted."""
    base = lasso.base(options)
    conv, plain = (lasso.row("shallow", kind, base).settings for kind in ("conv", "dense"))
    dense = {"S-FC-sgd": plain, f"S-FC-beta{lasso.beta:g}": lasso.lasso(plain)}
    rows = [Variant("S-CONV", conv)]
    rows += [Variant(name, first_and_last(settings)) for name, settings in dense.items()]
    permuted = [(row, replace(row.settings.network, permute=True)) for row in rows]
    return rows + [
        Variant(f"{row.name}-permuted", replace(row.settings, network=network))
        for row, network in permuted
    ]


def run(lasso: Lasso, options: TrainingOptions) -> Report:
    """Fig. 4: filters by SGD and by beta-LASSO, their locality, and pixels in any order.

    Args:
        lasso: The penalty and sizes.
        options: What to train on, how long, and where results go.
    """
    lasso.check()
    name = "betalasso-filters"
    folder, outcomes = run_variants(name, variants(lasso, options), options, (0, 1, 2))
    found = report(name, folder, outcomes, {})
    left = remains(outcomes)
    found.table = write_remains(folder / f"{name}.csv", left)
    pictures = {
        outcome.variant.name: _filters(outcome)
        for outcome in outcomes
        if outcome.variant.name.startswith("S-FC")
    }
    if pictures:
        found.figures += figures.save(filter_pictures(pictures), folder / f"{name}-pictures")
    found.lines += ["", *remains_table(left)]
    found.lines += ["(of permuted networks, locality is that among permuted pixels)"]
    found.values["weights"] = [vars(one) for one in left]
    return found


def _filters(outcome: Outcome) -> np.ndarray:
    """Of the first run, as the image has them, in whatever order the network saw its pixels."""
    with RunReader(outcome.files[0]) as run:
        weights = last_filters(run)
    if not outcome.variant.settings.network.permute:
        return weights
    # A weight for place i of the permuted image is one for place order[i] of the image.
    return PermutePixels(weights.shape[2:]).undo(torch.from_numpy(weights)).numpy()
