"""Checks that stand between what a caller hands over and what goes into a run file."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from neurosim.errors import InvalidArgument, require

Index = int | slice | tuple[int | slice, ...]


def as_json(config: Mapping[str, Any]) -> str:
    """The configuration as it is recorded."""
    try:
        return json.dumps(_finite(config), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"config must be representable as JSON: {error}") from error


def _finite(value: Any) -> Any:
    """The same configuration with inf and NaN as text, which JSON has no numbers for."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def clip_text(message: str, size: int) -> bytes:
    """The message in at most `size` bytes of UTF-8, cut between characters if need be."""
    encoded = message.replace("\0", " ").encode(errors="replace")
    if len(encoded) <= size:
        return encoded
    return encoded[: size - 3].decode(errors="ignore").encode() + "…".encode()


def number_type(name: str, dtype: DTypeLike | None, kinds: str) -> np.dtype:
    """The dtype, if it is one of the `kinds` that numpy abbreviates so."""
    words = {"b": "booleans", "i": "integers", "u": "unsigned", "f": "floats", "c": "complex"}
    allowed = "a numpy dtype of " + ", ".join(words[kind] for kind in kinds)
    try:
        found = np.dtype(dtype) if dtype is not None else None
    except TypeError:
        found = None
    if found is None or found.kind not in kinds:
        raise InvalidArgument(f"{name} must be {allowed}, got {dtype!r}")
    return found


def plain_array(name: str, values: Any) -> np.ndarray:
    """Numbers as they are and text as objects, which is how h5py wants it."""
    array = np.asarray(values)
    text = array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat)
    if text or array.dtype.kind == "U":
        return array.astype(object)
    require(array.dtype.kind in "biufc", f"{name!r}", array.dtype.name, "numbers or text")
    return array


def leading_region(
    name: str, shape: tuple[int, ...], index: Index
) -> tuple[tuple[int | slice, ...], tuple[int, ...]]:
    """Leading index, checked, and the shape of what it leaves to write."""
    items = index if isinstance(index, tuple) else (index,)
    region: list[int | slice] = []
    left: list[int] = []
    if len(items) > len(shape):
        raise InvalidArgument(f"index of {name!r} must fit its shape {shape}, got {index!r}")
    for item, size in zip(items, shape, strict=False):
        if isinstance(item, slice) and item.step in (None, 1):
            region.append(slice(*item.indices(size)))
            left.append(len(range(size)[item]))
            continue
        try:
            number = operator.index(item)  # type: ignore[arg-type]
        except TypeError:
            number = -1
        if not 0 <= number < size:
            raise InvalidArgument(f"index of {name!r} must lie within {shape}, got {index!r}")
        region.append(number)
    return tuple(region), (*left, *shape[len(items) :])


def fit(name: str, values: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Values in the shape and dtype of their place, unless they would not be the same there."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidArgument(f"{name!r} must be an array of shape {shape}: {error}") from error
    if array.shape != shape:
        raise InvalidArgument(f"{name!r} must have the shape {shape} there, got {array.shape}")
    if dtype.kind in "iu" and array.dtype.kind in "iu":
        fits = array.size == 0 or (
            np.iinfo(dtype).min <= array.min() and array.max() <= np.iinfo(dtype).max
        )
    else:
        fits = np.can_cast(array.dtype, dtype, "same_kind")
    if not fits:
        raise InvalidArgument(f"{name!r} must hold {dtype} values, got {array.dtype}")
    return array.astype(dtype, copy=False)
