"""Translated digits: the papers' comparison in minutes, on any machine.

Claim: on handwritten digits, each at one fixed random place of a canvas four times its size, a
locally connected network falls far behind its convolutional twin, because it has to learn every
digit at every place; a sleep after every batch or every ten recovers most of the gap, and so
does the rate circuit itself, with finite inhibition and minutes of simulated sleep.

The circuit (`sleep.Circuit`, inhibition 100) leaves 3 to 4% of the deviations and, over 30
sleeps, most weights would fade: synaptic scaling gives each layer its norm back after a sleep.

The network has no strides: behind a stride, sharing within grids gives equivariance to shifts by
multiples of k times the stride only, which is little on a small map. After a sleep Adam's moments
are those of unshared weights, and averaging nearly sign-like steps shortens them: that is why
networks that sleep often want a larger rate. Rates (1e-2, or 3e-3 for lc) and schedules (falling
for conv, whose accuracy else jumps between epochs, constant for the others) were chosen for each
variant from a few that were tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from analysis.statistics import Interval, t_interval
from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Outcome, Variant, report, run_variants
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    SleepSettings,
    TrainSettings,
)

EVERY_TEN = SleepSettings(sleep="instant", every=1, unit="epochs")  # of 10 batches each
CIRCUIT = replace(EVERY_TEN, sleep="circuit", scaling="layer")


def variants(options: TrainingOptions) -> list[Variant]:
    """conv, lc, ws1 and ws10 by the mean, ws10 by ten minutes of the rate circuit."""
    base = options.apply(
        TrainSettings(
            data=DataSettings(dataset="digits-translated"),
            network=NetworkSettings(model="simple", connectivity="local"),
            optimisation=OptimisationSettings(
                batch_size=60, epochs=30, lr=1e-2, lr_schedule="constant"
            ),
        )
    )
    falling = replace(base.optimisation, lr_schedule="steps")
    conv = replace(base, network=replace(base.network, connectivity="conv"), optimisation=falling)
    alone = replace(base, optimisation=replace(base.optimisation, lr=3e-3))
    sleeps = {
        "ws1": SleepSettings(sleep="instant", every=1),
        "ws10": EVERY_TEN,
        "circuit10": CIRCUIT,
    }
    rows = [Variant("conv", conv), Variant("lc", alone)]
    return rows + [Variant(name, replace(base, sleep=sleep)) for name, sleep in sleeps.items()]


def run(options: TrainingOptions) -> Report:
    """Translated digits: what a sleep recovers of the gap between local and convolutional nets.

    Args:
        options: What to train on, how long, and where results go.
    """
    folder, outcomes = run_variants("digits", variants(options), options, range(5))
    found = report("digits", folder, outcomes, {})
    recovered = recovery(outcomes)
    found.values["recovered"] = recovered
    for name, (share, low, high) in recovered.items():
        interval = "" if np.isnan(low) else f" (95% interval {low:.2f} to {high:.2f})"
        found.lines.append(f"{name} recovers {share:.2f} of the gap from lc to conv{interval}")
    return found


def recovery(outcomes: Sequence[Outcome]) -> dict[str, Interval]:
    """(x - lc) / (conv - lc) of mean accuracies, with a t interval over seeds by linearisation."""
    top1 = {outcome.variant.name: outcome.last("top1") for outcome in outcomes}
    if not {"conv", "lc"} <= top1.keys():
        return {}
    conv, lc = top1.pop("conv"), top1.pop("lc")
    gap = conv.mean() - lc.mean()
    found = {}
    for name, values in top1.items():
        share = float((values.mean() - lc.mean()) / gap)
        # How the ratio of means varies with each seed, to first order.
        influence = ((values - lc) - share * (conv - lc)) / gap
        found[name] = t_interval(share + influence)
    return found
