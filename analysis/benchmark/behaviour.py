"""Image-level consistency with behaviour: i2n of Rajalingham, Issa et al. (2018).

As Brain-Score has it (`I2n` and `ProbabilitiesMapping` in brain-score/vision): a multinomial
logistic regression on the standardised penultimate layer (C = 1e-3) gives the probability of
every object. For an image of object o and a distractor d, p(d) / (p(o) + p(d)) is the rate of
choosing wrongly, of people the share of wrong choices among the trials with that pair. Its d' is
z(1 - rate) - z(mean rate of choosing o for images of d), cut at +-5; the mean over all images of
o is taken away ("n": normalised), because it is known from objects alone. The score is the
correlation over images and distractors with a random half of the trials, and the ceiling that
of both halves, so that score / sqrt(ceiling) is 1 at best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from analysis.statistics import Array, mean_of_known
from neurosim.errors import InvalidArgument, require

Words = NDArray[np.str_]

PENALTY = 1e-3
CAP = 5.0
DRAWS, SEED = 2, 0


@dataclass(frozen=True, eq=False)
class Trials:
    """Two-alternative choices: which image, its object, the other one, and what was chosen."""

    stimulus: Words
    truth: Words
    distractor: Words
    choice: Words

    def __post_init__(self) -> None:
        for name in ("stimulus", "truth", "distractor", "choice"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), str))
        columns = (self.stimulus, self.truth, self.distractor, self.choice)
        if len({len(column) for column in columns}) != 1:
            raise InvalidArgument("trials must have as many images as truths and choices")
        require(len(self.choice) >= 2, "trials", len(self.choice), "2 or more")
        neither = (self.choice != self.truth) & (self.choice != self.distractor)
        if neither.any():
            at = int(np.flatnonzero(neither)[0])
            raise InvalidArgument(
                f"a choice must be one of the two objects, got {self.choice[at]} in trial {at}"
            )

    def subset(self, which: NDArray[np.int64]) -> Trials:
        """Some of the trials."""
        columns = (self.stimulus, self.truth, self.distractor, self.choice)
        return Trials(*(column[which] for column in columns))


@dataclass(frozen=True)
class Consistency:
    """Means over draws of a half; `score` is raw / sqrt(ceiling), draw by draw."""

    raw: float
    ceiling: float
    score: float
    error: float  # standard deviation of `score` over draws, as in Brain-Score


def object_probabilities(
    features: ArrayLike, labels: ArrayLike, new: ArrayLike
) -> tuple[Array, Words]:
    """(images, objects), and the objects in order, from a classifier fitted to labelled images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, shown = np.asarray(features, float), np.asarray(new, float)
    names = np.asarray(labels, str)
    if len(known) != len(names) or known.ndim != 2 or known.shape[1:] != shown.shape[1:]:
        raise InvalidArgument(
            f"features, labels and new features must match, got shapes {known.shape}, "
            f"{names.shape} and {shown.shape}"
        )
    require(len(np.unique(names)) > 2, "labels", np.unique(names), "of 3 or more objects")
    classifier = LogisticRegression(C=PENALTY, solver="newton-cg")
    fitted = make_pipeline(StandardScaler(), classifier).fit(known, names)
    return fitted.predict_proba(shown), np.asarray(fitted.classes_, str)


def i2n(
    probabilities: ArrayLike, objects: ArrayLike, stimuli: ArrayLike, trials: Trials
) -> Consistency:
    """How a model's confusions, image by image, agree with those of people or monkeys.

    Args:
        probabilities: (images, objects).
        objects: names of the objects.
        stimuli: names of the images; all that occur in the trials must be there.
        trials: the choices.
    """
    images, truths = _images(trials)
    names = np.unique(np.concatenate([trials.choice, trials.truth]))
    rows, columns = _places("images", images, stimuli), _places("objects", names, objects)
    p = np.asarray(probabilities, float)[np.ix_(rows, columns)]
    own = p[np.arange(len(p)), np.searchsorted(names, truths)]
    wrong = _without_own(p / (p + own[:, None]), truths, names)
    model = _dprimes(wrong, truths, names)

    random, found = np.random.RandomState(SEED), []
    for _ in range(DRAWS):
        order = np.arange(len(trials.choice))
        random.shuffle(order)
        halves = np.split(order, [len(order) // 2])
        people = [
            _dprimes(_rates(trials.subset(half), images, truths, names), truths, names)
            for half in halves
        ]
        found.append((_correlation(model, people[0]), _correlation(*people)))
    raw, ceiling = np.array(found).T
    if not (ceiling > 0).all():
        raise InvalidArgument(
            f"the halves of the trials must agree, got a correlation of {ceiling.min():.2g}: "
            "more trials are needed"
        )
    scores = raw / np.sqrt(ceiling)
    return Consistency(*(float(v) for v in (raw.mean(), ceiling.mean(), scores.mean())),
                       error=float(scores.std()))  # fmt: skip


def _places(what: str, wanted: Words, known: ArrayLike) -> list[int]:
    """Where the names stand among those that are known."""
    place = {str(name): number for number, name in enumerate(np.asarray(known, str))}
    if lacking := [name for name in wanted if name not in place]:
        raise InvalidArgument(f"probabilities must be of all {what} shown, lack {lacking[0]}")
    return [place[name] for name in wanted]


def _images(trials: Trials) -> tuple[Words, Words]:
    """The images in the trials and their objects."""
    images, first = np.unique(trials.stimulus, return_index=True)
    truths = trials.truth[first]
    place = np.searchsorted(images, trials.stimulus)
    if (truths[place] != trials.truth).any():
        raise InvalidArgument("every image must have one object in all trials")
    return images, truths


def _rates(trials: Trials, images: Words, truths: Words, objects: Words) -> Array:
    """Share of trials in which each object was chosen, of those that offered it; NaN for none."""
    row = np.searchsorted(images, trials.stimulus)
    chosen, offered = (np.zeros((len(images), len(objects))) for _ in range(2))
    np.add.at(chosen, (row, np.searchsorted(objects, trials.choice)), 1)
    for column in (trials.truth, trials.distractor):
        known = np.isin(column, objects)
        np.add.at(offered, (row[known], np.searchsorted(objects, column[known])), 1)
    rates = np.where(offered > 0, chosen / np.maximum(offered, 1), np.nan)
    return _without_own(rates, truths, objects)


def _without_own(rates: Array, truths: Words, objects: Words) -> Array:
    """NaN where the object is that of the image: there is no distractor."""
    return np.where(truths[:, None] == objects, np.nan, rates)


def _dprimes(rates: Array, truths: Words, objects: Words) -> Array:
    """d' of every image and distractor, less the mean over the images of its object."""
    # Mean rate of choosing o for images of d, by d and o.
    swapped = np.array([mean_of_known(rates[truths == name], 0) for name in objects])
    column = np.searchsorted(objects, truths)
    with np.errstate(invalid="ignore"):  # inf - inf: never wrong, and never right either
        d = norm.ppf(1 - rates) - norm.ppf(swapped[:, column].T)
    d = np.clip(d, -CAP, CAP)
    for name in objects:
        d[truths == name] -= mean_of_known(d[truths == name], 0)
    return d


def _correlation(one: Array, other: Array) -> float:
    """Over all images and distractors that both know."""
    both = ~(np.isnan(one) | np.isnan(other))
    require(both.sum() > 1, "trials", int(both.sum()), "of 2 or more images with distractors")
    return float(np.corrcoef(one[both], other[both])[0, 1])
