"""Ceilings of responses whose noise is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from sklearn.model_selection import ShuffleSplit

from analysis.benchmark.ceiling import ceiled, ceiled_error, internal_consistency, spearman_brown
from analysis.benchmark.crossvalidation import predictivity
from analysis.benchmark.regression import Ridge
from neurosim.errors import InvalidArgument


def value(result: Any) -> float:
    """The statistic alone."""
    return float(result[0])


def recorded(noise: float, repetitions: int, stimuli: int = 1200, neurons: int = 12, seed: int = 0):
    """Signals of variance 1, and repetitions with noise of a given standard deviation."""
    random = np.random.default_rng(seed)
    signal = random.standard_normal((stimuli, neurons))
    shape = (stimuli, repetitions, neurons)
    return signal, signal[:, None] + noise * random.standard_normal(shape)


@pytest.mark.parametrize(("noise", "repetitions"), [(0.5, 4), (1.0, 10), (2.0, 6)])
def test_ceiling_is_the_signals_share_of_the_variance(noise: float, repetitions: int) -> None:
    """1 / (1 + sigma^2 / R) for R repetitions, and the signal itself scores 1 against it."""
    signal, responses = recorded(noise, repetitions)
    found = internal_consistency(responses)
    expected = 1 / (1 + noise**2 / repetitions)
    assert found.mean == pytest.approx(expected, abs=0.03)
    score = predictivity(signal, responses.mean(1), Ridge())
    assert score.mean == pytest.approx(np.sqrt(expected), abs=0.03)
    assert ceiled(score.mean, found.mean) == pytest.approx(1, abs=0.05)


def test_pure_noise_has_no_ceiling() -> None:
    _, responses = recorded(1.0, 6)
    noise = responses - responses.mean(1, keepdims=True)
    noise = np.random.default_rng(1).permuted(noise, axis=0)
    assert abs(internal_consistency(noise).mean) < 0.08


def test_equal_to_the_published_procedure_written_out() -> None:
    """Brain-Score: halves of the repetitions, their means, r over stimuli, corrected, median."""
    _, responses = recorded(1.5, 5, stimuli=40, neurons=6)
    medians = []
    for one, other in ShuffleSplit(10, train_size=0.5, random_state=1).split(np.zeros(5)):
        first, second = responses[:, one].mean(1), responses[:, other].mean(1)
        r = np.array([value(scipy.stats.pearsonr(first[:, i], second[:, i])) for i in range(6)])
        medians.append(np.median(2 * r / (1 + r)))
    found = internal_consistency(responses)
    assert found.mean == pytest.approx(np.mean(medians), abs=1e-12)
    assert found.error == pytest.approx(np.std(medians) / np.sqrt(10), abs=1e-12)


def test_missing_repetitions_are_left_out() -> None:
    """Some stimuli shown less often: the ceiling stays between those of both counts."""
    _, responses = recorded(1.0, 8)
    full = internal_consistency(responses).mean
    responses[::2, 4:] = np.nan
    half = internal_consistency(responses).mean
    assert internal_consistency(responses[:, :4]).mean - 0.02 < half < full


def test_missing_neurons_of_some_repetitions() -> None:
    _, responses = recorded(1.0, 4, stimuli=200)
    responses[:50, :3, 0] = np.nan
    found = internal_consistency(responses).neuroids
    assert found[0] == pytest.approx(found[1:].mean(), abs=0.1)


def test_spearman_brown() -> None:
    """Doubling twice is quadrupling; 0 and 1 stay."""
    r = np.array([0.0, 0.2, 0.7, 1.0])
    np.testing.assert_allclose(spearman_brown(spearman_brown(r)), spearman_brown(r, 4))
    np.testing.assert_allclose(spearman_brown(r)[[0, 3]], [0, 1])


def test_ceiled_score_and_its_error() -> None:
    assert ceiled(0.6, 0.72) == pytest.approx(0.5)
    draws = 0.6 + 0.01 * np.random.default_rng(2).standard_normal(20_000)
    assert ceiled_error(0.6, 0.01, 0.72) == pytest.approx((draws**2 / 0.72).std(), rel=0.05)
    assert np.isnan(ceiled(0.6, 0.0))


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        (np.zeros((5, 1, 3)), "at least 2 repetitions, got 1"),
        (np.zeros((5, 3)), "stimuli, repetitions, neuroids"),
        (np.full((5, 2, 3), np.inf), "must be finite"),
    ],
)
def test_bad_input(responses: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        internal_consistency(responses)
