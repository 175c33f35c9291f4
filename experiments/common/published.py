"""Published numbers: a CSV file beside each paper's module of this name."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Key = TypeVar("Key")


def read_published(
    module: str, key: Callable[[dict[str, str]], Key], value: str = "top1"
) -> dict[Key, float]:
    """One column of the file beside a module (its `__file__`), by what `key` makes of a row."""
    with Path(module).with_suffix(".csv").open(newline="") as file:
        return {key(row): float(row[value]) for row in csv.DictReader(file)}
