"""Test accuracies of Neyshabur 2020: Tables 1 and 2, in published.csv beside this file."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from experiments.common.published import read_published


class Key(NamedTuple):
    """One cell: variants are D-CONV, S-FC, 3-FC and so on, and S-FC beta50."""

    dataset: str
    variant: str
    epochs: int


@cache
def published() -> dict[Key, float]:
    """All cells, in per cent. Table 2's rows by SGD are Table 1's after 4,000 epochs."""
    return read_published(
        __file__, lambda row: Key(row["dataset"], row["variant"], int(row["epochs"]))
    )


def cells(dataset: str, variant: str) -> dict[str, float | None]:
    """Published accuracies after 400 and 4,000 epochs, None where the paper has none."""
    return {f"top1_{n}": published().get(Key(dataset, variant, n)) for n in (400, 4000)}


COLUMNS = {"top1_400": "paper, 400 ep.", "top1_4000": "paper, 4,000 ep."}
