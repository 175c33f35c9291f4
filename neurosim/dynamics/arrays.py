"""Arrays of float64, in which the circuit is computed."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurosim.errors import InvalidArgument, require

Array = NDArray[np.float64]


def check_array(
    name: str, values: ArrayLike, ndim: int | None = None, *, copy: bool = True
) -> Array:
    """`values` as a C-contiguous float64 array of `ndim` axes (default: any), all finite.

    By default a copy, because callers may change theirs.
    """
    try:
        array = np.array(values, dtype=np.float64, order="C", copy=True if copy else None)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name} must be an array of numbers: {error}") from error
    require(ndim is None or array.ndim == ndim, f"{name}.ndim", array.ndim, str(ndim))
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise InvalidArgument(f"{name} must be finite, got {array[where]} at index {where}")
    return array


def check_weights(name: str, values: ArrayLike, dimension: int | None = None) -> Array:
    """Weights of groups of neurons, (..., N, D); D is `dimension` if that is given."""
    weights = check_array(name, values, copy=False)
    expected = "(..., N, D)" if dimension is None else f"(..., N, {dimension})"
    valid = weights.ndim >= 2 and dimension in (None, weights.shape[-1])
    require(valid, f"{name}.shape", weights.shape, expected)
    return weights
