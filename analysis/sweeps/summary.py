"""What a study comes to: means over seeds with intervals, and the best point of every network."""

from __future__ import annotations

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


def over_seeds(table: pd.DataFrame, metric: str, level: float = 0.95) -> pd.DataFrame:
    """Mean over seeds of every combination, with a t interval: mean, low, high, runs."""
    names = varying(table)
    done = complete(table)
    groups = done.groupby(names, dropna=False, sort=True) if names else done.groupby(lambda _: 0)
    columns = {"mean": "mean", "std": "std", "runs": "count"}
    found: Any = groups[metric].agg(**columns)
    error = found["std"] / np.sqrt(found["runs"])
    reach = error * stats.t.ppf((1 + level) / 2, np.maximum(found["runs"] - 1, 1))
    found["low"], found["high"] = found["mean"] - reach, found["mean"] + reach
    found = found.drop(columns="std")
    return found.reset_index() if names else found.reset_index(drop=True)


def best_points(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """For every network the combination whose mean over seeds is best."""
    found = over_seeds(table, metric).dropna(subset="mean")
    networks = [name for name in NETWORKS if name in found.columns]
    order = found.sort_values("mean", ascending=not rises(metric), kind="stable")
    return (
        (order.groupby(networks, sort=True) if networks else order).head(1).reset_index(drop=True)
    )
