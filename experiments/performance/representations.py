"""PLS and CKA beside plain references: two parts of `python -m experiments.performance.analysis`.

- pls: 25 components on 3,200 stimuli x 25,088 features x 168 neuroids, one split in 90 % to fit
  and 10 % to predict, beside scikit-learn's PLSRegression(scale=False) with its own tolerance;
  predictions are compared with scikit-learn run to tol=1e-12, in standard deviations of the
  responses. Then all 10 splits, and the peak memory of a process that does them.
- cka: linear CKA, unbiased and biased, of 10,000 x 25,088 activations with 10,000 x 512, and the
  peak memory of the process; values are compared with the Gram matrices' on fewer stimuli.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
from sklearn.cross_decomposition import PLSRegression

from analysis.benchmark.crossvalidation import Splits, predictivity
from analysis.benchmark.regression import Pls, gram, predict
from analysis.representations.cka import linear_cka
from experiments.performance.parts import Disagreement, Findings, listed, seconds

COMPONENTS = 25


@dataclass(frozen=True)
class Sizes:
    """Of the problem."""

    stimuli: int = 3200
    features: int = 25088
    neuroids: int = 168
    images: int = 10_000  # for CKA


QUICK = Sizes(600, 4096, 64, 1500)


def responses_of(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Features that share 100 sources with responses, both with noise; responses of variance 1."""
    random = np.random.default_rng(0)
    sources = random.standard_normal((sizes.stimuli, 100), np.float32)
    sources *= np.arange(1, 101, dtype=np.float32) ** -0.5  # as natural images have it
    noise = random.standard_normal((sizes.stimuli, sizes.features), np.float32)
    features = sources @ random.standard_normal((100, sizes.features), np.float32) + noise
    responses = sources @ random.standard_normal((100, sizes.neuroids), np.float32)
    responses += random.standard_normal(responses.shape, np.float32) * responses.std()
    return features, (responses / responses.std(0)).astype(float)


def pls(quick: bool) -> Findings:
    """Dual PLS beside NIPALS on the features."""
    sizes = QUICK if quick else Sizes()
    features, responses = responses_of(sizes)
    train, test = Splits(count=1).draw(sizes.stimuli)[0]

    def ours() -> np.ndarray:
        used, new = features[train], features[test]
        kernel = np.vstack([gram(used), gram(used, new).T])
        rows = np.arange(len(kernel))
        known = np.concatenate([responses[train], responses[test]])
        return predict(Pls(COMPONENTS), kernel, known, rows[: len(train)], rows[len(train) :])

    def sklearn(tol: float, iterations: int) -> np.ndarray:
        model = PLSRegression(COMPONENTS, scale=False, tol=tol, max_iter=iterations)
        return model.fit(features[train], responses[train]).predict(features[test])

    fast, predicted = seconds(ours)
    plain, _ = seconds(lambda: sklearn(1e-6, 500))
    exact, reference = seconds(lambda: sklearn(1e-12, 100_000))
    fast = min(fast, seconds(ours)[0])
    difference = float(np.abs(predicted - reference).max())
    if not difference < 1e-5:
        raise Disagreement(f"predictions differ from scikit-learn's by {difference:.1e}")
    every, _ = seconds(lambda: predictivity(features, responses, Pls(COMPONENTS)))
    return listed(
        "PLS, 25 components",
        {
            "largest difference of a prediction": difference,
            "ours, one split, s": fast,
            "scikit-learn, one split, s": plain,
            "times faster": plain / fast,
            "scikit-learn with tol=1e-12, s": exact,
            "times faster than that": exact / fast,
            "ours, 10 splits, s": every,
            "times faster than 10 splits of scikit-learn": 10 * plain / every,
            "peak of a process with 10 splits, MiB": peak("pls", sizes),
        },
    )


def activations_of(sizes: Sizes) -> tuple[np.ndarray, np.ndarray]:
    """Two representations that share some sources."""
    random = np.random.default_rng(1)
    sources = random.standard_normal((sizes.images, 64), np.float32)
    wide = sources @ random.standard_normal((64, sizes.features), np.float32)
    wide += random.standard_normal((sizes.images, sizes.features), np.float32)
    narrow = sources @ random.standard_normal((64, 512), np.float32)
    return wide, narrow + 3 * random.standard_normal(narrow.shape, np.float32)


def plain_cka(x: np.ndarray, z: np.ndarray, unbiased: bool) -> float:
    """From whole Gram matrices in double precision."""
    kernels = [features.astype(float) @ features.T.astype(float) for features in (x, z)]
    n = len(x)

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        if not unbiased:
            centring = np.eye(n) - 1 / n
            return float(np.trace(k @ centring @ m @ centring))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
        return float((k * m).sum() + sums - 2 / (n - 2) * (k.sum(0) @ m.sum(0)))

    first, second = kernels
    return hsic(first, second) / (hsic(first, first) * hsic(second, second)) ** 0.5


def cka(quick: bool) -> Findings:
    """Blocks of stimuli, or features against features, beside whole Gram matrices."""
    sizes = QUICK if quick else Sizes()
    wide, narrow = activations_of(sizes)
    few = slice(0, 1200)
    worst = max(
        abs(linear_cka(wide[few], narrow[few], unbiased=u) - plain_cka(wide[few], narrow[few], u))
        for u in (False, True)
    )
    if not worst < 1e-5:
        raise Disagreement(f"CKA differs from that of whole Gram matrices by {worst:.1e}")
    biased, low = seconds(lambda: linear_cka(wide, narrow, unbiased=False))
    unbiased, high = seconds(lambda: linear_cka(wide, narrow))
    return listed(
        "linear CKA",
        {
            "largest difference on 1,200 stimuli": worst,
            "biased": low,
            "unbiased": high,
            "biased, s": biased,
            "unbiased, s": unbiased,
            "peak of a process with both, MiB": peak("cka", sizes),
            "a matrix of features x features alone, MiB": sizes.features**2 * 4 / 2**20,
            "the activations themselves, MiB": wide.nbytes / 2**20,
        },
    )


def workload(part: str, sizes: Sizes) -> None:
    """What the peak memory of is measured."""
    if part == "pls":
        features, responses = responses_of(sizes)
        predictivity(features, responses, Pls(COMPONENTS))
    else:
        wide, narrow = activations_of(sizes)
        linear_cka(wide, narrow)


PEAK = """
import sys
from experiments.performance.parts import own_peak
from experiments.performance.representations import Sizes, workload
workload(sys.argv[1], Sizes(*map(int, sys.argv[2:])))
print(own_peak())
"""


def peak(part: str, sizes: Sizes) -> float:
    """Peak memory of a process that makes the data and does the work once."""
    numbers = [str(n) for n in (sizes.stimuli, sizes.features, sizes.neuroids, sizes.images)]
    command = [sys.executable, "-c", PEAK, part, *numbers]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
