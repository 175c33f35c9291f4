"""Supp. Fig. 3: accuracy against the number of parameters.

Claim: parameters do not explain why low-rank layers are better: wide convolutions with as many
are less accurate, and so are locally connected layers, which have more.
"""

from __future__ import annotations

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant
from experiments.low_rank.study import Found, Study
from experiments.low_rank.sweeps import run_sweep
from neurosim.training.build import build_data, build_network

ROWS = ("conv", "bias-3", "low-rank-3", "input-dependent-3", "wide-3", "local-3")


def variants(study: Study, options: TrainingOptions) -> list[Variant]:
    """A row of each sort, with the third layer replaced."""
    return study.variants(ROWS, options)


def run(study: Study, options: TrainingOptions) -> Report:
    """Supp. Fig. 3: test accuracy against the network's parameters.

    Args:
        study: Which networks.
        options: What to train on, how long, and where results go.
    """
    rows = variants(study, options)
    data = build_data(rows[0].settings.data, seed=0)
    counts = {}
    for variant in rows:
        network = build_network(variant.settings.network, data, data.image_size)
        counts[variant.name] = sum(parameter.numel() for parameter in network.parameters())

    def at(found: Found) -> float:
        return counts[found.name]

    return run_sweep(
        "lrlc-params", rows, options, label=lambda one: one.row, at=at, axis="parameters"
    )
