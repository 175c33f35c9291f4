"""Numbers published by Ott et al. 2020: Tables 1, 2 and B.1 to B.3, in published.csv beside this
file, and the medians of the file of results from which its Fig. 6 is drawn."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple


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
    found: dict[Key, float] = {}
    with Path(__file__).with_suffix(".csv").open(newline="") as file:
        for row in csv.DictReader(file):
            names = (row["dataset"], row["model"], row["aug_type"])
            found[Key(*names, float(row["aug"]), row["quantity"])] = float(row["value"])
    return found
