"""Cross-validated predictivity: Brain-Score's procedure, and data whose score is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from sklearn.cross_decomposition import PLSRegression
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit

from analysis.benchmark.crossvalidation import Splits, cross_validate, predictivity
from analysis.benchmark.regression import Pls, Ridge, gram
from analysis.statistics import Estimate, pearson
from neurosim.errors import InvalidArgument


def value(result: Any) -> float:
    """The statistic alone."""
    return float(result[0])


def test_pearson_equals_scipy() -> None:
    random = np.random.default_rng(0)
    a, b = random.standard_normal((2, 30, 5)) + 100
    expected = [value(scipy.stats.pearsonr(x, y)) for x, y in zip(a.T, b.T, strict=True)]
    np.testing.assert_allclose(pearson(a, b), expected, rtol=1e-10)
    b[:, 2] = 4.2
    assert np.isnan(pearson(a, b)).tolist() == [False, False, True, False, False]


def test_splits_are_brain_scores() -> None:
    labels = np.repeat(["cat", "dog", "car"], 20)
    zeros = np.zeros(60)
    plain = ShuffleSplit(10, train_size=0.9, random_state=1).split(zeros)
    balanced = StratifiedShuffleSplit(10, train_size=0.9, random_state=1).split(zeros, labels)
    for drawn, expected in ((Splits().draw(60), plain), (Splits().draw(60, labels), balanced)):
        for (train, test), (known, new) in zip(drawn, expected, strict=True):
            np.testing.assert_array_equal(train, known)
            np.testing.assert_array_equal(test, new)
            assert set(train) | set(test) == set(range(60))
    for _, test in Splits().draw(60, labels):
        assert np.unique(labels[test], return_counts=True)[1].tolist() == [2, 2, 2]


def test_score_equals_the_published_procedure_written_out() -> None:
    """scikit-learn and scipy, split by split and neuron by neuron."""
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(5), 24)
    sources = random.standard_normal((120, 10))
    features = sources @ random.standard_normal((10, 300)) + random.standard_normal((120, 300))
    responses = sources @ random.standard_normal((10, 7)) + random.standard_normal((120, 7))
    medians = []
    splits = StratifiedShuffleSplit(10, train_size=0.9, random_state=1)
    for train, test in splits.split(features, labels):
        model = PLSRegression(25, scale=False, tol=1e-16, max_iter=50_000)
        predicted = model.fit(features[train], responses[train]).predict(features[test])
        r = [value(scipy.stats.pearsonr(predicted[:, i], responses[test, i])) for i in range(7)]
        medians.append(np.median(r))
    found = predictivity(features, responses, Pls(), labels=labels)
    assert found.mean == pytest.approx(np.mean(medians), abs=1e-6)
    assert found.error == pytest.approx(np.std(medians) / np.sqrt(10), abs=1e-6)


def test_a_model_that_contains_the_neurons_predicts_them_all() -> None:
    random = np.random.default_rng(2)
    responses = random.standard_normal((200, 10))
    features = np.hstack([responses * 5, 0.01 * random.standard_normal((200, 30))])
    assert predictivity(features, responses, Pls(10)).mean > 0.999


def test_an_unrelated_model_predicts_nothing() -> None:
    random = np.random.default_rng(3)
    found = predictivity(
        random.standard_normal((400, 1000)), random.standard_normal((400, 30)), Ridge(100.0)
    )
    assert abs(found.mean) < 0.05


def test_median_leaves_out_what_has_no_correlation() -> None:
    values = np.array([[0.1, np.nan, 0.5], [0.3, 0.4, np.nan]])
    found = Estimate(values)
    np.testing.assert_allclose(found.splits, [0.3, 0.35])
    np.testing.assert_allclose(found.neuroids, [0.2, 0.4, 0.5])
    low, high = found.interval()
    assert 0.1 <= low <= found.mean <= high <= 0.5
    assert np.isnan(Estimate(values[:1]).error)  # one split tells nothing of others


def test_interval_covers_what_other_neurons_would_give() -> None:
    """95 % intervals from 40 neurons hold the median of all neurons about 95 times in 100."""
    random = np.random.default_rng(4)
    held = [
        low <= 0.5 <= high
        for low, high in (
            Estimate(0.5 + 0.2 * random.standard_normal((1, 40))).interval(draws=300)
            for _ in range(200)
        )
    ]
    assert 0.88 <= np.mean(held) <= 0.99


def test_neuroids_that_rarely_respond_count_where_they_do() -> None:
    """Those constant in the half that a model is scored on are no reason to score nothing."""
    random = np.random.default_rng(5)
    x, y = random.standard_normal((40, 5)), random.standard_normal((40, 3))
    sparse = np.hstack([y, np.zeros((40, 1))])
    found, whole = (cross_validate(gram(x), responses, Ridge()) for responses in (sparse, y))
    np.testing.assert_array_equal(found.values[:, :3], whole.values)
    assert np.isnan(found.values[:, 3]).all()
    assert found.mean == whole.mean
    with pytest.raises(InvalidArgument, match=r"neuroid 0 \(and 2 more\) is constant"):
        cross_validate(gram(x), np.ones((40, 3)), Ridge())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x, np.where(y == y[0, 1], np.nan, y)), "NaN or Inf in neuroid 1"),
        (lambda x, y: (x, np.hstack([y, np.ones((40, 2))])), r"neuroid 3 \(and 1 more\) is const"),
        (lambda x, y: (x[:-1], y), "same stimuli, got 39 and 40"),
        (lambda x, y: (x, y[:, 0]), "must be a matrix"),
    ],
)
def test_bad_responses(change, message: str) -> None:
    random = np.random.default_rng(5)
    x, y = change(random.standard_normal((40, 5)), random.standard_normal((40, 3)))
    with pytest.raises(InvalidArgument, match=message):
        predictivity(x, y, Ridge())


@pytest.mark.parametrize(
    ("splits", "labels", "message"),
    [
        (Splits(count=0), None, "splits must be >= 1"),
        (Splits(train=1.0), None, "train must be a share"),
        (Splits(), ["a"] * 3, r"one per stimulus \(40\), got 3"),
        (Splits(), ["a"] * 39 + ["b"], "cannot be split 0.9 to 0.1 by object"),
        (Splits(train=0.98), None, "a correlation needs 2 stimuli"),
    ],
)
def test_bad_splits(splits: Splits, labels, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        splits.draw(40, labels)
