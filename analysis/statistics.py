"""Correlations, means with errors, and bootstrap intervals, that all metrics share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from neurosim.errors import InvalidArgument, require

Array = NDArray[np.float64]
ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """Values of every split and neuroid, and what they come to.

    As in Brain-Score: the median over neuroids, then the mean over splits, whose error is the
    standard deviation over splits (of n, not n - 1) divided by the root of their number. A
    neuroid that is constant within a split has no correlation there (NaN) and is left out.
    """

    values: Array  # (splits, neuroids)

    @property
    def splits(self) -> Array:
        """The median over neuroids in every split."""
        return _nanmedian(self.values, 1)

    @property
    def neuroids(self) -> Array:
        """The mean over splits of every neuroid."""
        return mean_of_known(self.values, 0)

    @property
    def mean(self) -> float:
        """The score."""
        return float(self.splits.mean())

    @property
    def error(self) -> float:
        """Standard error over splits; splits overlap, so that it says little of new stimuli.

        NaN of a single split.
        """
        count = len(self.values)
        return float(self.splits.std() / np.sqrt(count)) if count > 1 else math.nan

    def interval(
        self, level: float = 0.95, draws: int = 1000, seed: int = 0
    ) -> tuple[float, float]:
        """A bootstrap interval of the score over neuroids, as if recorded from others.

        NaN of what has one value for all of them, such as a comparison of matrices.
        """
        require(0 < level < 1, "level", level, "between 0 and 1")
        count = self.values.shape[1]
        if count == 1:
            return math.nan, math.nan
        chosen = np.random.default_rng(seed).integers(count, size=(draws, count))
        means = np.mean([_nanmedian(split[chosen], 1) for split in self.values], axis=0)
        return percentiles(means, level)


def mean_of_known(values: ArrayLike, axis: int) -> Array:
    """np.nanmean along an axis, which warns where there is nothing but NaN."""
    array = np.asarray(values, float)
    known = ~np.isnan(array)
    count = known.sum(axis)
    total = np.where(known, array, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def pearson(a: ArrayLike, b: ArrayLike) -> Array:
    """Pearson's r of each column of `a` with that of `b`; NaN where either is constant."""
    x, y = (np.asarray(values, float) for values in (a, b))
    if x.shape != y.shape or x.ndim != 2:
        raise InvalidArgument(f"both must have the same two axes, got {x.shape} and {y.shape}")
    x, y = (_unit(values) for values in (x, y))
    return np.clip((x * y).sum(0), -1, 1) + np.where(is_constant(a) | is_constant(b), np.nan, 0)


def is_constant(values: ArrayLike) -> NDArray[np.bool_]:
    """Which columns have but one value, up to rounding."""
    array = np.asarray(values, float)
    return np.ptp(array, axis=0) <= ROUNDING * np.abs(array).max(0)


def percentiles(draws: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The central interval that holds a share `level` of the draws; those without value aside."""
    known = np.asarray(draws)[~np.isnan(draws)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


class Interval(NamedTuple):
    """A mean and the bounds that the true one is thought to lie between."""

    mean: float
    low: float  # NaN of a single value, as high
    high: float

    def text(self, spec: str = ".3f") -> str:
        """As 0.123 (0.100 to 0.146), or the mean alone."""
        bounds = f" ({self.low:{spec}} to {self.high:{spec}})"
        return f"{self.mean:{spec}}" + ("" if np.isnan(self.low) else bounds)


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Of the mean over independent runs: Student's t, none of a single run."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, np.nan, np.nan)
    error = array.std(ddof=1) / np.sqrt(len(array))
    reach = float(stats.t.ppf((1 + level) / 2, len(array) - 1) * error)
    return Interval(mean, mean - reach, mean + reach)


def check_responses(
    responses: ArrayLike, what: str = "responses", *, constant: bool = False
) -> Array:
    """Responses (stimuli x neuroids), refused with NaN, Inf or a neuroid that never varies.

    With `constant` some may, but not all.
    """
    array = np.asarray(responses, float)
    require(array.ndim == 2, what, f"shape {array.shape}", "a matrix (stimuli x neuroids)")
    require(len(array) >= 2 and array.shape[1], what, f"shape {array.shape}", "not empty")
    if not np.isfinite(array).all():
        wrong = np.flatnonzero(~np.isfinite(array).all(0))
        raise InvalidArgument(
            f"{what} must be finite, got NaN or Inf in {_some('neuroid', wrong)}; "
            "leave those neuroids out"
        )
    still = np.flatnonzero(is_constant(array))
    if still.size > (array.shape[1] - 1 if constant else 0):
        raise InvalidArgument(
            f"{what} must vary over stimuli, but {_some('neuroid', still)} is constant; "
            "leave those neuroids out"
        )
    return array


def _some(word: str, numbers: NDArray[np.int64]) -> str:
    """'neuroid 3', or 'neuroid 3 (and 11 more)'."""
    more = f" (and {len(numbers) - 1} more)" if len(numbers) > 1 else ""
    return f"{word} {numbers[0]}{more}"


def _unit(values: Array) -> Array:
    centred = values - values.mean(0)
    length = np.sqrt((centred**2).sum(0))
    return centred / np.where(length > 0, length, 1)


def _nanmedian(values: Array, axis: int) -> Array:
    """np.nanmedian, which warns where there is nothing but NaN."""
    if not np.isnan(values).any():
        return np.median(values, axis)
    empty = np.isnan(values).all(axis, keepdims=True)
    filled = np.nanmedian(np.where(empty, 0, values), axis)
    return np.where(np.squeeze(empty, axis), np.nan, filled)
