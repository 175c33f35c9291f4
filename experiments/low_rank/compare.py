"""Low-rank layers in several versions, against their rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant
from experiments.low_rank.study import Found, Study
from experiments.low_rank.sweeps import by_rank, run_sweep
from neurosim.errors import InvalidArgument
from neurosim.models.lrlc import DEPTHS

ROWS = tuple(f"low-rank-{depth}" for depth in DEPTHS)


def compared(
    study: Study, options: TrainingOptions, versions: Mapping[str, Mapping[str, Any]]
) -> list[Variant]:
    """Every row at every rank in every version, whose settings of the network are given."""
    for row in study.rows or ():
        if row not in ROWS:
            raise InvalidArgument(f"--rows must be some of {', '.join(ROWS)}, got {row!r}")
    variants = []
    for version, network in versions.items():
        for variant in study.variants(ROWS, options, **network):
            row, _, rank = variant.name.rpartition("-k")
            published = variant.published if version == next(iter(versions)) else {}
            full = f"{row}-{version}-k{rank}"
            variants.append(replace(variant, name=full, published=published))
    return variants


def run_comparison(name: str, variants: Sequence[Variant], options: TrainingOptions) -> Report:
    """Accuracy against the rank, a line for every row and version."""

    def label(found: Found) -> str:
        return found.row

    return run_sweep(name, variants, options, label=label, at=by_rank, axis="spatial rank")
