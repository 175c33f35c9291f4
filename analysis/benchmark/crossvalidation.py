"""How well features predict responses to stimuli that the fit has not seen.

Brain-Score's procedure: 10 splits into 90 % of the stimuli to fit and 10 % to predict, the same
share of every object in both where objects are labelled, Pearson's r of every neuroid over the
predicted stimuli (`CrossRegressedCorrelation` in brain-score/vision; splits are scikit-learn's
StratifiedShuffleSplit or ShuffleSplit with random_state 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.benchmark.regression import Array, Pls, Regression, as_regression, gram, predict
from analysis.statistics import Estimate, check_responses, pearson
from neurosim.errors import InvalidArgument, require

Split = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class Splits:
    """Random splits of stimuli into those to fit and those to predict."""

    count: int = 10
    train: float = 0.9
    seed: int = 1

    def draw(self, stimuli: int, labels: Sequence[Any] | NDArray[Any] | None = None) -> list[Split]:
        """Indices of both parts in every split, stratified by label where there are labels."""
        require(self.count >= 1, "splits", self.count, ">= 1")
        require(0 < self.train < 1, "train", self.train, "a share between 0 and 1")
        from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

        kind: Callable[..., Any] = ShuffleSplit if labels is None else StratifiedShuffleSplit
        if labels is not None and len(labels) != stimuli:
            raise InvalidArgument(f"labels must be one per stimulus ({stimuli}), got {len(labels)}")
        # Without a test size scikit-learn predicts all that is not fitted.
        chosen = kind(self.count, train_size=self.train, random_state=self.seed)
        try:
            drawn = list(chosen.split(np.zeros(stimuli), labels))
        except ValueError as error:
            raise InvalidArgument(
                f"{stimuli} stimuli cannot be split {self.train:g} to {1 - self.train:g}"
                f"{'' if labels is None else ' by object'}: {error}"
            ) from error
        if len(drawn[0][1]) < 2:
            raise InvalidArgument(f"a correlation needs 2 stimuli to predict, of {stimuli} has 1")
        return drawn


def cross_validate(
    kernel: Array,
    responses: ArrayLike,
    regression: Regression | str | None = None,
    splits: Splits | None = None,
    labels: Sequence[Any] | NDArray[Any] | None = None,
) -> Estimate:
    """Pearson's r of predicted and measured responses, for every split and neuroid.

    Args:
        kernel: `gram` of the features of all stimuli.
        responses: (stimuli, neuroids), means over repetitions. Neuroids that do not vary over the
            stimuli of a split have no correlation there.
        regression: by its name or as an object; PLS with 25 components unless given.
        splits: 10 of 90 % unless given.
        labels: the object of every stimulus, if they are known.
    """
    measured = check_responses(responses, constant=True)
    if kernel.shape != (len(measured),) * 2:
        raise InvalidArgument(
            f"features and responses must be of the same stimuli, got {len(kernel)} and "
            f"{len(measured)}"
        )
    chosen, rows = as_regression(regression or Pls()), []
    for train, test in (splits or Splits()).draw(len(measured), labels):
        predicted = predict(chosen, kernel, measured, train, test)
        rows.append(pearson(predicted, measured[test]))
    return Estimate(np.array(rows))


def predictivity(
    features: ArrayLike,
    responses: ArrayLike,
    regression: Regression | str | None = None,
    splits: Splits | None = None,
    labels: Sequence[Any] | NDArray[Any] | None = None,
) -> Estimate:
    """The same from features (stimuli x features); every neuroid has to vary."""
    check_responses(responses)
    return cross_validate(gram(features), responses, regression, splits, labels)
