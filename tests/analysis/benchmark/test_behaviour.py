"""i2n against the procedure written out trial by trial, and observers whose score is known."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import norm, pearsonr
from sklearn.linear_model import LogisticRegression

from analysis.benchmark.behaviour import Trials, i2n, object_probabilities
from neurosim.errors import InvalidArgument

OBJECTS = np.array(["bear", "car", "dog", "elephant"])


def observer(seed: int = 0, images: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names and objects of images, and the chance of every object on every image."""
    random = np.random.default_rng(seed)
    truths = np.repeat(OBJECTS, images // 4)
    logits = random.standard_normal((images, 4)) + 2.0 * (truths[:, None] == OBJECTS)
    p = np.exp(logits)
    return np.array([f"i{n:03d}" for n in range(images)]), truths, p / p.sum(1, keepdims=True)


def ask(names: np.ndarray, truths: np.ndarray, p: np.ndarray, each: int, seed: int = 1) -> Trials:
    """`each` trials of every image with every distractor."""
    random = np.random.default_rng(seed)
    rows = []
    for image, truth, chances in zip(names, truths, p, strict=True):
        own = int(np.flatnonzero(truth == OBJECTS)[0])
        for other in range(4):
            if other != own:
                right = chances[own] / (chances[own] + chances[other])
                for _ in range(each):
                    choice = own if random.random() < right else other
                    rows.append((image, truth, OBJECTS[other], OBJECTS[choice]))
    order = random.permutation(len(rows))
    return Trials(*(np.array(column)[order] for column in zip(*rows, strict=True)))


def written_out(p: np.ndarray, names: np.ndarray, truths: np.ndarray, trials: Trials):
    """The published procedure with dictionaries of images and objects."""

    def dprimes(rates: dict) -> dict:
        by_pair = defaultdict(list)
        for (image, other), rate in rates.items():
            by_pair[truth[image], other].append(rate)
        d = {}
        for (image, other), rate in rates.items():
            false = np.mean(by_pair[other, truth[image]]) if by_pair[other, truth[image]] else None
            if false is not None:
                with np.errstate(invalid="ignore"):
                    value = norm.ppf(1 - rate) - norm.ppf(false)
                d[image, other] = np.clip(value, -5, 5)
        means = defaultdict(list)
        for (image, other), value in d.items():
            means[truth[image], other].append(value)
        return {key: value - np.nanmean(means[truth[key[0]], key[1]]) for key, value in d.items()}

    def of_people(which: list[int]) -> dict:
        chosen, offered = defaultdict(int), defaultdict(int)
        for t in which:
            chosen[trials.stimulus[t], trials.choice[t]] += 1
            for name in (trials.truth[t], trials.distractor[t]):
                offered[trials.stimulus[t], name] += 1
        return {key: chosen[key] / n for key, n in offered.items() if key[1] != truth[key[0]]}

    truth = dict(zip(names, truths, strict=True))
    model = {}
    for image, chances in zip(names, p, strict=True):
        own = chances[list(OBJECTS).index(truth[image])]
        for name, chance in zip(OBJECTS, chances, strict=True):
            if name != truth[image]:
                model[image, name] = chance / (chance + own)
    model, random, raw, ceilings = dprimes(model), np.random.RandomState(0), [], []
    for _ in range(2):
        order = list(range(len(trials.choice)))
        random.shuffle(order)
        first, second = (dprimes(of_people(half)) for half in
                         (order[: len(order) // 2], order[len(order) // 2 :]))  # fmt: skip

        def r(a: dict, b: dict) -> float:
            keys = [k for k in a if k in b and np.isfinite(a[k]) and np.isfinite(b[k])]
            return float(pearsonr([a[k] for k in keys], [b[k] for k in keys])[0])  # type: ignore[arg-type]

        raw.append(r(model, first))
        ceilings.append(r(first, second))
    return np.array(raw), np.array(ceilings)


@pytest.mark.parametrize("each", [2, 10])
def test_equal_to_the_published_procedure_written_out(each: int) -> None:
    names, truths, p = observer()
    trials = ask(names, truths, p, each)
    other = observer(seed=3)[2]
    raw, ceilings = written_out(other, names, truths, trials)
    found = i2n(other, OBJECTS, names, trials)
    assert found.raw == pytest.approx(raw.mean(), abs=1e-10)
    assert found.ceiling == pytest.approx(ceilings.mean(), abs=1e-10)
    assert found.score == pytest.approx((raw / np.sqrt(ceilings)).mean(), abs=1e-10)
    assert found.error == pytest.approx((raw / np.sqrt(ceilings)).std(), abs=1e-10)


def test_the_observer_itself_scores_at_the_ceiling_and_a_stranger_at_zero() -> None:
    names, truths, p = observer(images=80)
    trials = ask(names, truths, p, 60)
    itself = i2n(p, OBJECTS, names, trials)
    assert itself.ceiling > 0.7
    assert itself.score == pytest.approx(1, abs=0.05)
    assert abs(i2n(observer(5, 80)[2], OBJECTS, names, trials).score) < 0.2


def test_the_order_of_images_and_objects_does_not_count() -> None:
    names, truths, p = observer()
    trials = ask(names, truths, p, 5)
    random = np.random.default_rng(6)
    rows, columns = random.permutation(40), random.permutation(4)
    found = i2n(p[rows][:, columns], OBJECTS[columns], names[rows], trials)
    assert found == i2n(p, OBJECTS, names, trials)


def test_probabilities_are_those_of_a_logistic_regression() -> None:
    random = np.random.default_rng(7)
    labels = np.repeat(OBJECTS, 15)
    centres = random.standard_normal((4, 6))
    features = np.repeat(centres, 15, 0) * 3 + random.standard_normal((60, 6)) * [1, 9, 1, 1, 1, 1]
    new = random.standard_normal((5, 6))
    found, objects = object_probabilities(features, labels, new)
    mean, std = features.mean(0), features.std(0)
    model = LogisticRegression(C=1e-3, tol=1e-10, max_iter=10_000)
    expected = model.fit((features - mean) / std, labels).predict_proba((new - mean) / std)
    assert objects.tolist() == OBJECTS.tolist()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(found.sum(1), 1)


def words(*texts: str) -> np.ndarray:
    return np.array(texts)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n, t, p, tr: i2n(p[:-1], OBJECTS, n[:-1], tr), "all images shown, lack i039"),
        (lambda n, t, p, tr: i2n(p[:, 1:], OBJECTS[1:], n, tr), "all objects shown, lack bear"),
        (lambda n, t, p, tr: Trials(words("i"), words("a"), words("b"), words("c")), "2 or more"),
        (
            lambda n, t, p, tr: Trials(*(words(x, x) for x in "iabc")),
            "must be one of the two objects, got c in trial 0",
        ),
        (
            lambda n, t, p, tr: i2n(
                p, OBJECTS, n,
                Trials(words("i000", "i000"), words("bear", "car"), words("car", "bear"),
                       words("car", "car")),
            ),
            "one object in all trials",
        ),
        (lambda n, t, p, tr: object_probabilities(p, t[:-1], p), "must match"),
        (lambda n, t, p, tr: object_probabilities(p[:20], t[:20], p), "3 or more objects"),
    ],
)  # fmt: skip
def test_bad_input(call, message: str) -> None:
    names, truths, p = observer()
    with pytest.raises(InvalidArgument, match=message):
        call(names, truths, p, ask(names, truths, p, 3))
