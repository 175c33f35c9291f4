"""Dissimilarity matrices and their comparison, against scipy, rsatoolbox and known answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kendalltau, pearsonr, spearmanr

from analysis.representations.similarity import compare, dissimilarities, evaluate, noise_ceiling
from neurosim.errors import InvalidArgument

UPPER = np.triu_indices(12, 1)


def value(result: Any) -> float:
    """The statistic alone."""
    return float(result[0])


def patterns(seed: int = 0, channels: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((12, channels))


def subjects(noise: float, count: int = 5, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A matrix, and those of subjects that see the same patterns with noise."""
    random, true = np.random.default_rng(seed), patterns()
    seen = true + noise * random.standard_normal((count, *true.shape))
    return dissimilarities(true), np.array([dissimilarities(each) for each in seen])


def test_distances() -> None:
    x = patterns()
    found = dissimilarities(x)
    np.testing.assert_allclose(found, squareform(pdist(x, "correlation")), atol=1e-12)
    found = dissimilarities(x, "euclidean")
    np.testing.assert_allclose(found, squareform(pdist(x, "sqeuclidean")) / 30, atol=1e-12)
    rates = np.abs(x) + 1
    found = dissimilarities(rates, "poisson")
    assert found.shape == (12, 12)
    assert found[0, 1] > 0


def test_crossnobis_of_noise_is_zero_on_average() -> None:
    """Squared distances of pure noise are positive, those across repetitions are not."""
    random = np.random.default_rng(2)
    stimulus, repetition = np.tile(np.arange(12), 6), np.repeat(np.arange(6), 12)
    noise = random.standard_normal((72, 200))
    labels = np.array([stimulus, repetition])
    found = dissimilarities(noise, "crossnobis", labels)[UPPER]
    means = np.array([noise[stimulus == s].mean(0) for s in range(12)])
    assert abs(found.mean()) < 0.02 < dissimilarities(means, "euclidean")[UPPER].mean()
    shifted = noise + 3 * patterns(3, 200)[stimulus]
    signal = 9 * dissimilarities(patterns(3, 200), "euclidean")[UPPER]
    found = dissimilarities(shifted, "crossnobis", labels)[UPPER]
    assert value(pearsonr(found, signal)) > 0.98
    assert found.mean() == pytest.approx(signal.mean(), rel=0.05)


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("spearman", lambda a, b: value(spearmanr(a, b))),
        ("kendall", lambda a, b: value(kendalltau(a, b))),
        ("pearson", lambda a, b: value(pearsonr(a, b))),
        ("cosine", lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
    ],
)
def test_comparisons_equal_scipy(name: str, statistic) -> None:
    a, b = (dissimilarities(patterns(seed)) for seed in (3, 4))
    found = compare([a, b], [a, b], name)
    assert found[0, 1] == pytest.approx(statistic(a[UPPER], b[UPPER]), abs=1e-10)
    np.testing.assert_allclose(np.diag(found), 1, atol=1e-10)


@pytest.mark.parametrize("comparison", ["spearman", "rho-a", "kendall", "tau-a", "pearson"])
def test_the_true_matrix_lies_between_the_noise_ceilings(comparison: str) -> None:
    true, theirs = subjects(1.0, 8)
    lower, upper = noise_ceiling(theirs, comparison)
    assert lower < compare(true, theirs, comparison).mean() <= upper + 1e-9
    # Without noise all are alike.
    assert noise_ceiling([true, true], comparison)[0] == pytest.approx(1, abs=1e-9)


def test_noise_ceiling_is_leave_one_out_of_ranks() -> None:
    """For Spearman: each subject's ranks with the mean ranks of the others, and of all."""
    _, theirs = subjects(1.0, 4)
    ranks = np.array([np.argsort(np.argsort(each[UPPER])) for each in theirs], float)
    lower = [value(spearmanr(ranks[i], np.delete(ranks, i, 0).mean(0))) for i in range(len(ranks))]
    upper = [value(spearmanr(each, ranks.mean(0))) for each in ranks]
    assert noise_ceiling(theirs) == pytest.approx((np.mean(lower), np.mean(upper)), abs=1e-9)


def test_bootstrap_agrees_with_rsatoolbox() -> None:
    from rsatoolbox.inference.evaluate import eval_bootstrap_pattern
    from rsatoolbox.model.model import ModelFixed
    from rsatoolbox.rdm.rdms import RDMs

    true, theirs = subjects(1.5, 4)
    found = evaluate({"true": true}, theirs, bootstrap="stimuli", draws=300)[0]
    model = ModelFixed("true", RDMs(true[None]))
    np.random.seed(0)  # noqa: NPY002 (rsatoolbox draws from the global generator)
    expected = eval_bootstrap_pattern(model, RDMs(theirs), method="spearman", N=300)
    assert found.mean == pytest.approx(float(compare(true, theirs).mean()), abs=1e-12)
    assert found.error == pytest.approx(float(np.nanstd(expected.evaluations)), rel=0.25)


@pytest.mark.parametrize("comparison", ["spearman", "pearson", "kendall", "tau-a"])
def test_draws_of_too_few_stimuli_are_left_out(comparison: str) -> None:
    random = np.random.default_rng(0)
    matrix, *theirs = (dissimilarities(random.normal(size=(4, 9))) for _ in range(3))
    (found,) = evaluate({"m": matrix}, np.array(theirs), comparison, draws=200)
    assert np.isfinite([found.mean, found.error, found.low, found.high]).all()


def test_bootstrap_tells_models_apart_and_repeats() -> None:
    true, theirs = subjects(0.4, 6)
    models = {"true": true, "other": dissimilarities(patterns(9))}
    good, bad = evaluate(models, theirs, draws=100)
    assert good.low > bad.high
    assert abs(bad.mean) < 0.3
    assert good.subjects.shape == (6,)
    again = evaluate(models, theirs, draws=100)
    assert (again[0].low, again[1].high) == (good.low, bad.high)
    over = {kind: evaluate(models, theirs, bootstrap=kind, draws=100)[0].error
            for kind in ("stimuli", "subjects", "both")}  # fmt: skip
    assert over["both"] > over["subjects"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, m: dissimilarities(x, "correlations"), "did you mean 'correlation'"),
        (lambda x, m: dissimilarities(np.ones((4, 9))), "that of stimulus 0 is constant"),
        (lambda x, m: dissimilarities(x, "poisson"), "rates >= 0"),
        (lambda x, m: dissimilarities(x, "crossnobis"), "crossnobis needs repetitions"),
        (lambda x, m: compare(m, m, "spearmann"), "did you mean 'spearman'"),
        (lambda x, m: compare(m, m[:5, :5]), "same stimuli, got 12 and 5"),
        (lambda x, m: compare(x, m), "models must be square matrices"),
        (lambda x, m: compare(m + np.arange(12), m), "symmetric matrices"),
        (lambda x, m: noise_ceiling(m), "at least 2 subjects, got 1"),
        (lambda x, m: evaluate({"m": m}, m, bootstrap="all"), "bootstrap must be one of"),
    ],
)
def test_bad_input(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call(patterns(), dissimilarities(patterns()))
