"""Numbers published by Ott et al. 2020: Tables 1, 2 and B.1 to B.3, in published.csv beside this
file, and the medians of the file of results from which its Fig. 6 is drawn."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from experiments.common.published import read_published


class Key(NamedTuple):
    """One number: dataset, cnn or fcn, kind and strength of augmentation, quantity."""

    dataset: str
    model: str
    aug_type: str
    aug: float
    quantity: str  # acc (training), val_acc, translation, swap


@cache
def published() -> dict[Key, float]:
    """All numbers; the zeros of Tables B.1 to B.3 are those of Tables 1 and 2, rounded."""

    def key(row: dict[str, str]) -> Key:
        names = (row["dataset"], row["model"], row["aug_type"])
        return Key(*names, float(row["aug"]), row["quantity"])

    return read_published(__file__, key, "value")
