"""What a study comes to: means over seeds with intervals, and the best point of every network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from neurosim.errors import InvalidArgument, require_choice

if TYPE_CHECKING:
    import pandas as pd

SEEDS = ("seed", "seeds")
NETWORKS = ("network", "variants", "model", "connectivity")  # options that name networks
USUAL = ("top1", "top1_mean", "variants.top1_mean", "log_inverse_snr")  # metrics to show first
RISING = (  # the larger, the better
    "top1", "top5", "snr", "accuracy", "score", "reward", "r2", "correlation", "alignment",
)  # fmt: skip


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """The points that have results."""
    return table.loc[table["status"] == "complete"]


def choose_metric(table: pd.DataFrame, metric: str | None) -> str:
    """The metric that was asked for, or the first that is usual or a number."""
    numbers = [n for n in table.attrs["metrics"] if table[n].dtype.kind in "iufb"]
    if not numbers:
        raise InvalidArgument("the study has no numbers yet: wait for its first points")
    if metric is not None:
        require_choice("--metric", metric, numbers)
        return metric
    return next((name for name in USUAL if name in numbers), numbers[0])


def rises(metric: str) -> bool:
    """Whether more of a metric is better; of errors, losses and -log SNR less is."""
    words = metric.replace(".", "_").split("_")
    return any(word in words for word in RISING) and "inverse" not in words


def varying(table: pd.DataFrame) -> list[str]:
    """The options along which points differ, seeds aside."""
    names = [name for name in table.attrs["options"] if name not in SEEDS]
    return [name for name in names if len(set(map(str, table[name]))) > 1]


def place(value: Any) -> tuple[int, float, str]:
    """Where a value of an option stands among others: none, numbers, all else as text."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return 0, 0.0, ""
    number = isinstance(value, int | float | np.number)
    return 1 if number else 2, float(value) if number else 0.0, str(value)


def combinations(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The number of every row's combination of these options, in their order.

    By hand, because pandas does not order, or not even group, values of several kinds and None.
    """
    keys = [tuple(map(place, row)) for row in zip(*(table[name] for name in names), strict=True)]
    numbers = {key: number for number, key in enumerate(sorted(set(keys)))}
    return np.array([numbers[key] for key in keys] if names else [0] * len(table), dtype=int)


def over_seeds(table: pd.DataFrame, metric: str, level: float = 0.95) -> pd.DataFrame:
    """Mean over seeds of every combination, with a t interval: mean, low, high, runs."""
    names, done = varying(table), complete(table)
    of = combinations(done, names)
    _, first = np.unique(of, return_index=True)
    groups: Any = done[metric].groupby(of)
    mean, runs = groups.mean(), groups.count()
    reach = groups.std() / np.sqrt(runs) * stats.t.ppf((1 + level) / 2, np.maximum(runs - 1, 1))
    found = done[names].iloc[first].reset_index(drop=True)
    return found.assign(mean=mean, runs=runs, low=mean - reach, high=mean + reach)


def best_points(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """For every network the combination whose mean over seeds is best."""
    found = over_seeds(table, metric).dropna(subset="mean")
    networks = [name for name in NETWORKS if name in found.columns]
    order = found.sort_values("mean", ascending=not rises(metric), kind="stable")
    return order.groupby(combinations(order, networks)).head(1).reset_index(drop=True)
