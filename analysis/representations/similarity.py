"""Representational similarity: dissimilarity matrices, their comparison, and its uncertainty.

Matrices are made and compared by rsatoolbox; here they are plain arrays, one (n, n) matrix of n
stimuli per model or subject. `analysis.representations.cka` holds the other measure of similarity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics import Array, is_constant, percentiles
from neurosim.errors import InvalidArgument, require, require_choice

if TYPE_CHECKING:
    from rsatoolbox.rdm.rdms import RDMs

Bootstrap = Literal["stimuli", "subjects", "both"]

DISTANCES = ("correlation", "euclidean", "poisson", "crossnobis")
COMPARISONS = {
    "spearman": "spearman",
    "rho-a": "rho-a",  # Spearman's, expected over random orders of ties
    "kendall": "kendall",  # tau-b
    "tau-a": "tau-a",
    "pearson": "corr",
    "cosine": "cosine",
}
"""By name, what rsatoolbox calls them."""


@dataclass(frozen=True)
class Similarity:
    """How similar a model's matrix is to those of all subjects, with a bootstrap interval."""

    model: str
    mean: float
    error: float  # standard deviation over bootstrap draws
    low: float
    high: float
    subjects: Array  # (subjects,)


def dissimilarities(
    patterns: ArrayLike,
    distance: str = "correlation",
    repetitions: ArrayLike | None = None,
    names: Sequence[str] | None = None,
) -> Array:
    """The (n, n) matrix of dissimilarities between patterns (n stimuli x channels).

    correlation is 1 - Pearson's r; euclidean is squared and divided by the number of channels;
    poisson is the symmetrised divergence of rates; crossnobis is euclidean, but of differences
    in different repetitions, hence 0 on average where there is only noise. It takes patterns of
    single presentations, and for each of them its stimulus in `repetitions[0]` and its
    repetition in `repetitions[1]`. Errors call stimuli by their `names`, or else by number.
    """
    require_choice("distance", distance, DISTANCES)
    from rsatoolbox.data.dataset import Dataset
    from rsatoolbox.rdm.calc import calc_rdm

    values = _patterns(patterns)
    if distance == "correlation" and (flat := np.flatnonzero(is_constant(values.T))).size:
        who = flat[0] if names is None else names[flat[0]]
        raise InvalidArgument(
            f"patterns must vary over channels for correlation, but that of stimulus {who} is "
            "constant; take distance='euclidean'"
        )
    if distance == "poisson":
        require((values >= 0).all(), "patterns", float(values.min()), "rates >= 0 for poisson")
    if distance != "crossnobis":
        return _square(calc_rdm(Dataset(values), method=distance))
    if repetitions is None:
        raise InvalidArgument("crossnobis needs repetitions: the stimulus and repetition of each")
    stimulus, fold = (np.asarray(row) for row in np.asarray(repetitions))
    if len(np.unique(fold)) < 2:
        raise InvalidArgument("crossnobis needs at least 2 repetitions, got 1")
    data = Dataset(values, obs_descriptors={"stimulus": stimulus, "fold": fold})
    return _square(calc_rdm(data, method=distance, descriptor="stimulus", cv_descriptor="fold"))


def compare(models: ArrayLike, subjects: ArrayLike, comparison: str = "spearman") -> Array:
    """Similarity (m, s) of each of m matrices with each of s, over all pairs of stimuli."""
    from rsatoolbox.rdm.compare import compare as compare_rdms

    first, second = _rdms("models", models), _rdms("subjects", subjects)
    _check_same_stimuli(first, second)
    return np.asarray(compare_rdms(first, second, method=_method(comparison)))


def noise_ceiling(subjects: ArrayLike, comparison: str = "spearman") -> tuple[float, float]:
    """How similar the best model could be to these subjects: a lower and an upper bound.

    Lower: each subject with the mean of the others. Upper: with the mean of all, itself included
    (Nili et al. 2014); means are of matrices brought to the comparison's own scale.
    """
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling

    matrices = _rdms("subjects", subjects)
    if len(matrices.dissimilarities) < 2:
        raise InvalidArgument("a noise ceiling needs at least 2 subjects, got 1")
    lower, upper = boot_noise_ceiling(matrices, method=_method(comparison))
    return float(lower), float(upper)


def evaluate(
    models: Mapping[str, ArrayLike],
    subjects: ArrayLike,
    comparison: str = "spearman",
    *,
    bootstrap: Bootstrap = "both",
    draws: int = 1000,
    seed: int = 0,
) -> list[Similarity]:
    """Mean similarity of every model with the subjects; 95 % intervals, the same draws for all.

    Stimuli that a draw holds twice make a pair of their own, which says nothing and is left out;
    so does a draw of fewer than 3 different ones.
    """
    require_choice("bootstrap", bootstrap, ("stimuli", "subjects", "both"))
    require(draws >= 2, "draws", draws, ">= 2")
    theirs = _matrices("subjects", subjects)
    ours = np.concatenate([_matrices(name, matrix) for name, matrix in models.items()])
    if len(ours) != len(models):
        raise InvalidArgument("models must have one matrix each")
    found = compare(ours, theirs, comparison)
    random, n = np.random.default_rng(seed), theirs.shape[-1]
    means = np.empty((draws, len(ours)))
    for draw in range(draws):
        stimuli, who = np.arange(n), np.arange(len(theirs))
        if bootstrap != "subjects":
            stimuli = random.integers(n, size=n)
        if bootstrap != "stimuli":
            who = random.integers(len(theirs), size=len(theirs))
        if len(np.unique(stimuli)) < 3:
            means[draw] = np.nan
            continue
        drawn = compare(_resampled(ours, stimuli), _resampled(theirs[who], stimuli), comparison)
        means[draw] = drawn.mean(1)
    return [
        Similarity(name, float(row.mean()), _deviation(column), *percentiles(column), subjects=row)
        for name, row, column in zip(models, found, means.T, strict=True)
    ]


def _deviation(draws: Array) -> float:
    """The standard deviation of those that have a value."""
    known = draws[~np.isnan(draws)]
    return float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def _resampled(matrices: Array, stimuli: NDArray[np.int64]) -> Array:
    """Rows and columns of the drawn stimuli; NaN off the diagonal where they are the same one."""
    drawn = matrices[:, stimuli[:, None], stimuli]
    same = stimuli[:, None] == stimuli
    np.fill_diagonal(same, val=False)
    drawn[:, same] = np.nan
    return drawn


def _square(found: Any) -> Array:
    """The matrix of rsatoolbox's only one."""
    return np.asarray(found.get_matrices()[0])


def _method(comparison: str) -> str:
    require_choice("comparison", comparison, COMPARISONS)
    return COMPARISONS[comparison]


def _rdms(name: str, matrices: ArrayLike) -> RDMs:
    from rsatoolbox.rdm.rdms import RDMs

    return RDMs(_matrices(name, matrices))


def _check_same_stimuli(first: RDMs, second: RDMs) -> None:
    if first.n_cond != second.n_cond:
        raise InvalidArgument(
            f"models and subjects must be of the same stimuli, got {first.n_cond} and "
            f"{second.n_cond}"
        )


def _matrices(name: str, matrices: ArrayLike) -> Array:
    """(n, n) or (m, n, n) -> (m, n, n), symmetric with zeros on the diagonal."""
    array = np.array(matrices, float)
    array = array[None] if array.ndim == 2 else array
    square = array.ndim == 3 and array.shape[1] == array.shape[2] >= 3
    shape = f"shape {array.shape}"
    require(square, name, shape, "square matrices of 3 or more stimuli, one or several")
    scale = np.nanmax(np.abs(array), initial=0)
    level = np.allclose(array, array.transpose(0, 2, 1), atol=1e-6 * scale, equal_nan=True)
    zero = np.allclose(np.einsum("mii->mi", array), 0, atol=1e-6 * scale)
    require(level and zero, name, "others", "symmetric matrices with zeros on the diagonal")
    return array


def _patterns(patterns: ArrayLike) -> Array:
    array = np.asarray(patterns, float)
    require(array.ndim == 2 and array.size, "patterns", f"shape {array.shape}", "a matrix")
    require(np.isfinite(array).all(), "patterns", "NaN or Inf in it", "finite")
    return array
