"""Numbers of Pogodin et al. 2021: Tables 4 to 13, in published.csv beside this file."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from experiments.common.published import read_published


class Key(NamedTuple):
    """One cell: padding is None for ImageNet, variants are conv, lc, reps4, ws10, ws10-conv1."""

    dataset: str
    padding: int | None
    variant: str
    quantity: str  # top1, top5, their spread over runs (top1_spread), lr, weight_decay


@cache
def published() -> dict[Key, float]:
    """All cells; accuracies in per cent, spreads are max minus min over 5 runs."""

    def key(row: dict[str, str]) -> Key:
        padding = int(row["padding"]) if row["padding"] else None
        return Key(row["dataset"], padding, row["variant"], row["quantity"])

    return read_published(__file__, key, "value")


def cell(dataset: str, padding: int | None, variant: str, quantity: str) -> float | None:
    """A published number, or None where the paper has none."""
    return published().get(Key(dataset, padding, variant, quantity))
