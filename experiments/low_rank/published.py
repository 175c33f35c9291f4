"""Numbers of Elsayed et al. 2020: Supp. Tables 2 to 4, in published.csv beside this file."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from experiments.common.published import read_published


class Key(NamedTuple):
    """One cell; rows are named as in `experiments.low_rank.study`."""

    dataset: str
    row: str
    split: str


@cache
def published() -> dict[Key, float]:
    """Mean top-1 accuracies over 10 runs in per cent; the file has their standard errors, too."""
    return read_published(__file__, lambda row: Key(row["dataset"], row["row"], row["split"]))


def cell(dataset: str, row: str, split: str) -> float | None:
    """A published number, or None where the paper has none."""
    return published().get(Key(dataset, row, split))
