"""Regressions from a Gram matrix equal scikit-learn's from the features."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import linear_model
from sklearn.cross_decomposition import PLSRegression
from sklearn.exceptions import ConvergenceWarning

from analysis.benchmark.regression import (
    Linear,
    Pls,
    Ridge,
    as_regression,
    gram,
    predict,
    regress,
)
from neurosim.errors import InvalidArgument


def problem(seed: int, n: int, p: int, q: int, shift: float = 3.0):
    """Features and responses with common sources, and features of 9 new stimuli."""
    random = np.random.default_rng(seed)
    sources = random.standard_normal((n + 9, 12)) * np.arange(1, 13) ** -0.7
    x = sources @ random.standard_normal((12, p)) + 0.3 * random.standard_normal((n + 9, p))
    y = sources @ random.standard_normal((12, q)) + random.standard_normal((n + 9, q))
    return x[:n] + shift, y[:n] / y.std() + shift, x[n:] + shift


@given(
    seed=st.integers(0, 2**16),
    n=st.integers(20, 60),
    p=st.integers(5, 200),
    q=st.integers(1, 12),
    components=st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_pls_equals_nipals(seed: int, n: int, p: int, q: int, components: int) -> None:
    x, y, new = problem(seed, n, p, q)
    plain = PLSRegression(components, scale=False, tol=1e-24, max_iter=200_000)
    with warnings.catch_warnings():
        # Beyond 1e-24 rounding may keep the power iteration from settling.
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = plain.fit(x, y).predict(new).reshape(9, q)
    exact = Pls(components, tolerance=None)
    np.testing.assert_allclose(regress(exact, x, y, new), expected, atol=1e-6)


def test_pls_with_25_components_and_many_features() -> None:
    x, y, new = problem(0, 150, 2000, 40)
    plain = PLSRegression(25, scale=False, tol=1e-20, max_iter=100_000).fit(x, y)
    exact = regress(Pls(tolerance=None), x, y, new)
    np.testing.assert_allclose(exact, plain.predict(new), atol=1e-7)
    np.testing.assert_allclose(regress(Pls(), x, y, new), exact, atol=1e-4)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-6, 1e-12])
def test_pls_stops_where_scikit_learn_does(tolerance: float) -> None:
    """Equal predictions also of fits that are far from converged, without structure in them."""
    random = np.random.default_rng(12)
    x, y = random.standard_normal((100, 400)), random.standard_normal((100, 30)) + 2
    plain = PLSRegression(10, scale=False, tol=tolerance, max_iter=100_000).fit(x[:90], y[:90])
    found = regress(Pls(10, tolerance), x[:90], y[:90], x[90:])
    np.testing.assert_allclose(found, plain.predict(x[90:]), atol=1e-8)


def test_pls_with_all_components_is_least_squares() -> None:
    x, y, new = problem(1, 40, 6, 3)
    expected = linear_model.LinearRegression().fit(x, y).predict(new)
    np.testing.assert_allclose(regress(Pls(20), x, y, new), expected, atol=1e-9)


def test_pls_of_targets_without_variance_predicts_their_mean() -> None:
    x, _, new = problem(2, 30, 50, 1)
    predicted = regress(Pls(3), x, np.full((30, 2), 7.0), new)
    np.testing.assert_allclose(predicted, 7.0)


@pytest.mark.parametrize("shape", [(40, 300, 5), (60, 8, 3)])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e4])
def test_ridge(shape: tuple[int, int, int], penalty: float) -> None:
    x, y, new = problem(3, *shape)
    expected = linear_model.Ridge(penalty).fit(x, y).predict(new)
    np.testing.assert_allclose(regress(Ridge(penalty), x, y, new), expected, atol=1e-8)


@pytest.mark.parametrize("shape", [(40, 300, 5), (60, 8, 3)])
def test_linear(shape: tuple[int, int, int]) -> None:
    x, y, new = problem(4, *shape)
    expected = linear_model.LinearRegression().fit(x, y).predict(new)
    np.testing.assert_allclose(regress(Linear(), x, y, new), expected, atol=1e-8)


@pytest.mark.parametrize("regression", [Pls(5), Ridge(10.0), Linear()])
def test_predictions_do_not_depend_on_the_coordinates(regression: Pls) -> None:
    """Rotating features or moving their origin changes nothing."""
    x, y, new = problem(5, 40, 30, 4)
    rotation, _ = np.linalg.qr(np.random.default_rng(6).standard_normal((30, 30)))
    expected = regress(regression, x, y, new)
    np.testing.assert_allclose(
        regress(regression, x @ rotation, y, new @ rotation), expected, atol=1e-9
    )
    np.testing.assert_allclose(
        regress(regression, x + 1e3, y + 5, new + 1e3), expected + 5, atol=1e-7
    )


def test_single_precision_features_lose_nothing() -> None:
    """Features far from 0 with a small spread: their Gram matrix in single precision is noise."""
    x, y, new = problem(7, 60, 500, 4)
    near, far = x.astype(np.float32), new.astype(np.float32)
    expected = regress(Pls(10), near.astype(float), y, far.astype(float))
    np.testing.assert_allclose(regress(Pls(10), near, y, far), expected, atol=1e-12)


def test_one_gram_matrix_serves_every_split() -> None:
    x, y, _ = problem(8, 50, 200, 3)
    kernel = gram(x)
    random = np.random.default_rng(9)
    for _ in range(3):
        rows = random.permutation(50)
        train, test = rows[:40], rows[40:]
        expected = regress(Pls(6), x[train], y[train], x[test])
        np.testing.assert_allclose(predict(Pls(6), kernel, y, train, test), expected, atol=1e-9)


@pytest.mark.parametrize("regression", [Pls(2), Ridge(), Linear()])
def test_a_value_that_is_missing_is_not_predicted_from(regression) -> None:
    """PLS gave finite predictions for all neuroids from targets with one NaN, all of them wrong."""
    x, y, new = problem(12, 20, 30, 3)
    y[4, 1] = np.nan
    message = "targets must be finite, got NaN or Inf in 1 of 3 columns, the first .* number 1"
    with pytest.raises(InvalidArgument, match=message):
        regress(regression, x, y, new)
    kernel = gram(x)
    with pytest.raises(InvalidArgument, match="targets must be finite"):
        predict(regression, kernel, y, range(10), range(10, 20))
    predict(regression, kernel, y, range(5, 15), range(15, 20))  # which do not learn from it
    kernel[3, 3] = np.inf
    with pytest.raises(InvalidArgument, match="kernel must be finite"):
        predict(regression, kernel, y, range(2, 4), range(15, 20))


def test_a_regression_has_a_name() -> None:
    x, y, new = problem(13, 40, 30, 3)
    np.testing.assert_array_equal(regress("ridge", x, y, new), regress(Ridge(), x, y, new))
    with pytest.raises(InvalidArgument, match=r"one of pls, ridge, linear.*the class Pls itself"):
        regress(Pls, x, y, new)


def test_tensors_are_matrices_too() -> None:
    x, y, new = problem(14, 40, 30, 3)
    tensors = [torch.tensor(values, requires_grad=True) for values in (x, y, new)]
    np.testing.assert_array_equal(regress(Ridge(), *tensors), regress(Ridge(), x, y, new))


def test_gram_matrix_over_several_blocks_of_columns() -> None:
    x = np.random.default_rng(10).standard_normal((7, 9000)).astype(np.float32)
    centred = x.astype(float) - x.astype(float).mean(0)
    np.testing.assert_allclose(gram(x), centred @ centred.T, rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: regress(Pls(0), x, y, x), "components must be from 1 to 19"),
        (lambda x, y: regress(Pls(20), x, y, x), "components must be from 1 to 19"),
        (lambda x, y: regress(Pls(2, 0.0), x, y, x), "tolerance must be > 0"),
        (lambda x, y: regress(Ridge(0.0), x, y, x), "penalty must be > 0"),
        (lambda x, y: regress(Pls(2), x, y[:-1], x), "must match, got 20 and 19 stimuli"),
        (lambda x, y: regress(Pls(2), x, y, x[:, :-1]), "features must be as many in both"),
        (lambda x, y: regress(Pls(2), np.where(x == x[0, 0], np.nan, x), y, x), "NaN or Inf"),
        (lambda x, y: regress(Pls(2), x[0], y, x), "features must be a matrix of numbers"),
        (lambda x, y: as_regression("plss"), "did you mean 'pls'"),
    ],
)
def test_bad_input(call, message: str) -> None:
    x, y, _ = problem(11, 20, 30, 2)
    with pytest.raises(InvalidArgument, match=message):
        call(x, y)
