"""Predicting responses from features: PLS, ridge and least squares, from a Gram matrix alone.

A network's layer has far more features than there are stimuli, and every regression here is
linear with weights that are combinations of stimuli, B = X^T A. With the Gram matrix K = X X^T
of centred features X (n stimuli) the dual coefficients A (n x neuroids) are all there is to
find, and predictions are K_new A. The Gram matrix of all stimuli is made once and serves every
split of a cross-validation, centred anew on each split's training stimuli.

Defaults are Brain-Score's (`pls`, `ridge` and `linear` in the metrics of brain-score/vision):
PLS with 25 components and scale=False, ridge with a penalty of 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh, lstsq, solve, solve_triangular

from analysis.arguments import as_array
from analysis.statistics import Array
from neurosim.errors import InvalidArgument, require, require_choice

FEATURES_AT_ONCE = 4096
ITERATIONS = 100_000
SMALLEST = 1e-12
"""Relative size below which what is left to explain, or to explain with, is rounding."""


@runtime_checkable
class Regression(Protocol):
    """Dual coefficients A (n x q), from a centred Gram matrix and centred targets (n x q)."""

    def dual(self, kernel: Array, targets: Array) -> Array:
        """A, with which predictions are K_new A."""
        ...


@dataclass(frozen=True)
class Pls:
    """Partial least squares: the regression form of PLS2, without scaling (kernel NIPALS).

    Component by component, c is the leading eigenvector of Y^T K Y, t = K Y c the scores, made
    orthogonal to earlier ones; then Y loses its part along t (Rosipal & Trejo 2001). With
    U = [Y c ...] as of each component, A = U (T^T K U)^-1 T^T Y, and T^T K U is triangular.
    """

    components: int = 25
    tolerance: float | None = 1e-12
    """Squared change of the weights below which the power iteration for c stops, as scikit-learn
    counts it (1e-6 is its default, and Brain-Score's); None for the eigenvector itself."""

    def dual(self, kernel: Array, targets: Array) -> Array:
        """A, from at most as many components as the features have dimensions."""
        n, allowed = len(kernel), len(kernel) - 1
        require(
            1 <= self.components <= allowed,
            "components",
            self.components,
            f"from 1 to {allowed}, one less than the {n} stimuli to fit",
        )
        positive = self.tolerance is None or self.tolerance > 0
        require(positive, "tolerance", self.tolerance, "> 0, or None for the exact eigenvector")
        left, seen = targets.copy(), kernel @ targets  # Y, and K Y
        start = np.linalg.norm(seen)
        scores = np.empty((n, self.components))
        weights, carried = np.empty_like(scores), np.empty_like(scores)  # U, and K U
        for component in range(self.components):
            if not np.linalg.norm(seen) > SMALLEST * start:  # of targets or of features
                scores, weights, carried = (a[:, :component] for a in (scores, weights, carried))
                break
            direction = _leading(left.T @ seen, self.tolerance)
            weights[:, component], carried[:, component] = left @ direction, seen @ direction
            earlier, score = scores[:, :component], carried[:, component].copy()
            for _ in range(2):  # once leaves rounding behind
                score -= earlier @ (earlier.T @ score)
            score /= np.linalg.norm(score)
            scores[:, component] = score
            explained = score @ left
            left -= np.outer(score, explained)
            seen -= np.outer(kernel @ score, explained)
        return weights @ solve_triangular(scores.T @ carried, scores.T @ targets)


def _leading(product: Array, tolerance: float | None) -> Array:
    """The leading eigenvector c of Y^T K Y, or where scikit-learn's NIPALS stops on its way.

    It starts from the first column of Y that is not 0 and compares weights w = X^T Y c, of length
    1, of which only products are known here: |X^T Y d|^2 = d^T (Y^T K Y) d.
    """
    last = len(product) - 1
    if tolerance is None:
        return eigh(product, subset_by_index=(last, last))[1][:, 0]
    direction, start = np.zeros(len(product)), int(np.argmax(np.diag(product) > 0))
    direction[start] = 1 / np.sqrt(product[start, start])
    for _ in range(ITERATIONS if last else 0):  # of one neuroid there is only one direction
        longer = product @ direction
        image = product @ longer
        length = np.sqrt(longer @ image)
        step = longer / length - direction
        direction = longer / length
        if step @ (product @ step) < tolerance:
            break
    return direction


@dataclass(frozen=True)
class Ridge:
    """Least squares with `penalty` |B|^2: A = (K + penalty I)^-1 Y."""

    penalty: float = 1.0

    def dual(self, kernel: Array, targets: Array) -> Array:
        """A, of the one penalty for all targets."""
        require(self.penalty > 0, "penalty", self.penalty, "> 0 (Linear() has none)")
        return solve(kernel + self.penalty * np.eye(len(kernel)), targets, assume_a="pos")


@dataclass(frozen=True)
class Linear:
    """Least squares, of all solutions the one with the smallest |B|: A = K^+ Y."""

    def dual(self, kernel: Array, targets: Array) -> Array:
        """A, where features vary beyond rounding."""
        rank = len(kernel) * np.finfo(float).eps
        return lstsq(kernel, targets, cond=rank, lapack_driver="gelsy")[0]  # type: ignore[index]


REGRESSIONS: dict[str, Regression] = {"pls": Pls(), "ridge": Ridge(), "linear": Linear()}
"""By their names in Brain-Score, with its settings."""


def as_regression(regression: Regression | str) -> Regression:
    """One of `REGRESSIONS` by its name, or a regression as it is."""
    if isinstance(regression, str):
        require_choice("regression", regression, REGRESSIONS)
        return REGRESSIONS[regression]
    valid = isinstance(regression, Regression) and not isinstance(regression, type)
    require(valid, "regression", regression, f"one of {', '.join(REGRESSIONS)}, or an object")
    return regression


def _check_finite(name: str, values: Array) -> None:
    """NaN in one column would be in the predictions of all: PLS fits them together."""
    if not np.isfinite(values).all():
        wrong = np.flatnonzero(~np.isfinite(values).all(0))
        raise InvalidArgument(
            f"{name} must be finite, got NaN or Inf in {len(wrong)} of {values.shape[1]} columns, "
            f"the first of which is number {wrong[0]}"
        )


def gram(features: ArrayLike, others: ArrayLike | None = None) -> Array:
    """X X^T, or X Z^T, in double precision, of features less the mean of X.

    Features are converted a few columns at a time, so that besides them only the result and a
    block are in memory. Subtracting a mean changes nothing about a regression, which centres its
    kernel anyway, but keeps digits where features are large compared with their spread.
    """
    x = _matrix("features", features)
    z = x if others is None else _matrix("features", others)
    if z.shape[1] != x.shape[1]:
        raise InvalidArgument(f"features must be as many in both, got {x.shape} and {z.shape}")
    result = np.zeros((len(x), len(z)))
    for start in range(0, x.shape[1], FEATURES_AT_ONCE):
        block = x[:, start : start + FEATURES_AT_ONCE].astype(float)
        mean = block.mean(0)
        block -= mean
        other = block if z is x else z[:, start : start + FEATURES_AT_ONCE] - mean
        result += block @ other.T  # of a block with itself, BLAS computes only half
    if not np.isfinite(result).all():
        raise InvalidArgument("features must be finite, got NaN or Inf")
    return result


def predict(
    regression: Regression | str,
    kernel: Array,
    targets: ArrayLike,
    train: ArrayLike,
    test: ArrayLike,
) -> Array:
    """Targets of the `test` stimuli, from a fit to the `train` stimuli; both are indices.

    A `regression` may be given by its name in `REGRESSIONS`.
    `kernel` is the Gram matrix of all stimuli, `targets` their responses (stimuli x neuroids).
    """
    rows, new = np.asarray(train), np.asarray(test)
    known = np.asarray(targets, float)[rows]
    _check_finite("targets", known)
    fitted, crossed = kernel[np.ix_(rows, rows)], kernel[np.ix_(new, rows)]
    if not (np.isfinite(fitted).all() and np.isfinite(crossed).all()):
        raise InvalidArgument("kernel must be finite, got NaN or Inf")
    mean = fitted.mean(0)
    crossed = crossed - mean
    crossed -= crossed.mean(1, keepdims=True)
    fitted = fitted - mean - mean[:, None] + mean.mean()
    offset = known.mean(0)
    dual = as_regression(regression).dual(fitted, known - offset)
    return crossed @ dual + offset


def regress(
    regression: Regression | str, features: ArrayLike, targets: ArrayLike, new: ArrayLike
) -> Array:
    """Fit targets (n x q) to features (n x p) and predict those of `new` features (m x p)."""
    x, z = _matrix("features", features), _matrix("new", new)
    count = len(x)
    y = _matrix("targets", targets)
    if len(y) != count:
        raise InvalidArgument(f"features and targets must match, got {count} and {len(y)} stimuli")
    kernel = np.vstack([gram(x), gram(x, z).T])  # new stimuli need no Gram matrix of their own
    return predict(regression, kernel, y, np.arange(count), np.arange(count, len(kernel)))


def _matrix(name: str, values: ArrayLike) -> np.ndarray:
    array = as_array(values)
    shape = f"{array.dtype} of shape {array.shape}"
    require(array.ndim == 2 and array.dtype.kind in "biuf", name, shape, "a matrix of numbers")
    require(array.size, name, shape, "a matrix that is not empty")
    return array
