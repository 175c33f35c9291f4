"""Linear centred kernel alignment of two representations of the same stimuli.

With Gram matrices K = X X^T and L = Z Z^T of n stimuli, CKA = HSIC(K, L) / sqrt(HSIC(K, K)
HSIC(L, L)) (Kornblith et al. 2019). The plain estimate of HSIC, the sum of products of the
centred matrices, grows with features per stimulus until anything is similar to anything; the
unbiased one (Song et al. 2012, Eq. 5) leaves the diagonals out and is about 0 for independent
features. Neither an n x n nor a p x p matrix is ever whole: sums over entries of K L go over
blocks of stimuli, or, where features are fewer than stimuli, through X^T Z.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.arguments import as_array
from neurosim.errors import InvalidArgument, require

BLOCK = 1024
Matrix = NDArray[np.floating]


def linear_cka(x: ArrayLike, z: ArrayLike, *, unbiased: bool = True) -> float:
    """Similarity of features (stimuli x p) and (stimuli x q): 1 if equal up to a rotation.

    The unbiased estimate can be below 0. Blocks are multiplied in the precision of the features
    (at least single) and summed in double precision.
    """
    both = [_centred("x", x), _centred("z", z)]
    count = len(both[0])
    if len(both[1]) != count:
        raise InvalidArgument(f"both must be of the same stimuli, got {count} and {len(both[1])}")
    if unbiased:
        require(count >= 4, "stimuli", count, "at least 4 for unbiased CKA")
    products = _products(*both)
    diagonals = [np.einsum("ij,ij->i", f, f, dtype=float) for f in both]
    hsic = {
        (a, b): _unbiased(products[a, b], diagonals[a], diagonals[b]) if unbiased
        else products[a, b]
        for a, b in products
    }  # fmt: skip
    scale = hsic[0, 0] * hsic[1, 1]
    if not (hsic[0, 0] > 0 and scale > 0):
        raise InvalidArgument("both must vary over stimuli for CKA, got a constant one")
    return hsic[0, 1] / math.sqrt(scale)


def _unbiased(product: float, first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """n (n - 3) HSIC without the diagonals, from the sum of products with them.

    Centring changes nothing about this estimate, and makes the rows of K sum to 0, hence those
    of K without its diagonal k to -k.
    """
    n = len(first)
    both, sums = float(first @ second), float(first.sum() * second.sum())
    return (product - both) + sums / ((n - 1) * (n - 2)) - 2 / (n - 2) * both


def _products(first: Matrix, second: Matrix) -> dict[tuple[int, int], float]:
    """Sums of K K, K L and L L over all entries, by the numbers of the two."""
    n, both = len(first), (first, second)
    pairs: list[tuple[int, int]] = list(combinations_with_replacement((0, 1), 2))
    widths = [features.shape[1] for features in both]
    if sum(widths[a] * widths[b] for a, b in pairs) < n * sum(widths):
        return {(a, b): _squares(both[a].T, both[b]) for a, b in pairs}
    total = dict.fromkeys(pairs, 0.0)
    for start in range(0, n, BLOCK):
        # K is symmetric: the block on the diagonal once, what lies right of it twice.
        for begin, end, weight in ((start, start + BLOCK, 1), (start + BLOCK, n, 2)):
            blocks = [f[start : start + BLOCK] @ f[begin:end].T for f in both]
            for a, b in pairs:
                total[a, b] += weight * _sum(blocks[a], blocks[b])
    return total


def _squares(left: Matrix, right: Matrix) -> float:
    """The sum of squares of X^T Z, which is that of K L."""
    parts = (left[start : start + BLOCK] @ right for start in range(0, len(left), BLOCK))
    return sum(_sum(part, part) for part in parts)


def _sum(a: Matrix, b: Matrix) -> float:
    """The sum of products of entries, in double precision."""
    return float(np.einsum("ij,ij->", a, b, dtype=float))


def _centred(name: str, values: ArrayLike) -> Matrix:
    """Features less their means, in single precision if they are, else in double.

    Scaled, which changes no similarity, by a power of 2 that keeps their fourth powers in range.
    """
    array = as_array(values)
    shape = f"{array.dtype} of shape {array.shape}"
    right = array.ndim == 2 and array.dtype.kind in "biuf" and array.size
    require(right, name, shape, "a matrix of numbers (stimuli x features)")
    require(np.isfinite(array).all(), name, "NaN or Inf in it", "finite")
    kind = np.float32 if array.dtype.kind == "f" and array.dtype.itemsize <= 4 else np.float64
    features = array.astype(kind)
    _, power = np.frexp(np.abs(features).max())
    features = np.ldexp(features, -power)
    constant = features.max(0) == features.min(0)  # whose mean may differ by rounding
    features -= features.mean(0, dtype=float).astype(kind)
    features[:, constant] = 0
    return features
