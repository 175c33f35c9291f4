"""How well responses could be predicted at best: their consistency over repetitions.

As Brain-Score has it (`InternalConsistency` in brain-score/vision): repetitions are split in
halves 10 times, each half is averaged, the halves' Pearson r over stimuli is taken for every
neuroid and corrected for their length by Spearman and Brown, 2 r / (1 + r). A ceiling is a
reliability: of responses that are signal plus noise, the signal's share of the variance. A
model's r is at most its root, so the ceiled score is r^2 / ceiling.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from analysis.statistics import Array, Estimate, mean_of_known, pearson
from neurosim.errors import InvalidArgument, require

HALVES, SEED = 10, 1


def internal_consistency(responses: ArrayLike, halves: int = HALVES, seed: int = SEED) -> Estimate:
    """The ceiling of every split in halves and every neuroid.

    `responses` are (stimuli, repetitions, neuroids); NaN where a repetition is missing.
    """
    from sklearn.model_selection import ShuffleSplit

    measured = check_repetitions(responses)
    count = measured.shape[1]
    require(halves >= 1, "halves", halves, ">= 1")
    if count < 2:
        raise InvalidArgument(
            f"a ceiling needs at least 2 repetitions, got {count}: without them scores are raw"
        )
    rows = []
    split = ShuffleSplit(halves, train_size=0.5, random_state=seed).split(np.zeros(count))
    for one, other in split:
        first, second = (average_repetitions(measured[:, half]) for half in (one, other))
        rows.append(spearman_brown(_correlation(first, second)))
    return Estimate(np.array(rows))


def spearman_brown(correlation: ArrayLike, longer: float = 2) -> Array:
    """The reliability of a test `longer` times as long as the parts of which it is known."""
    r = np.asarray(correlation, float)
    with np.errstate(divide="ignore"):
        return longer * r / (1 + (longer - 1) * r)


def ceiled(score: float, ceiling: float) -> float:
    """r^2 / ceiling: the explained share of the variance that can be explained.

    The sign of r is lost, as it is in Brain-Score: for a raw score below 0 ask the raw score.
    """
    return score**2 / ceiling if ceiling > 0 else math.nan


def ceiled_error(score: float, error: float, ceiling: float) -> float:
    """Its standard error, for a given error of r: the slope 2 |r| / ceiling times it.

    (Brain-Score passes on the error of r itself.)
    """
    return 2 * abs(score) * error / ceiling if ceiling > 0 else math.nan


def average_repetitions(responses: Array) -> Array:
    """(stimuli, repetitions, neuroids) -> (stimuli, neuroids); NaN where there are none."""
    return mean_of_known(responses, 1)


def check_repetitions(responses: ArrayLike) -> Array:
    """Responses with their repetitions, refused if they have other axes or are infinite."""
    array = np.asarray(responses, float)
    axes = "(stimuli, repetitions, neuroids)"
    require(array.ndim == 3, "responses", f"shape {array.shape}", axes)
    if np.isinf(array).any():
        raise InvalidArgument("responses must be finite, or NaN where a repetition is missing")
    return array


def _correlation(first: Array, second: Array) -> Array:
    """Per neuroid, over the stimuli that both halves have."""
    known = ~(np.isnan(first) | np.isnan(second))
    if known.all():
        return pearson(first, second)
    columns = []
    for one, other, rows in zip(first.T, second.T, known.T, strict=True):
        enough = rows.sum() > 1
        pair = pearson(one[rows, None], other[rows, None])[0] if enough else np.nan
        columns.append(pair)
    return np.array(columns)
