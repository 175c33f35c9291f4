"""Reading a pickle that may hold plain containers and arrays of bytes, and nothing else.

The Python batches of CIFAR are pickles, and a pickle can call any function. Here the three
names of numpy that they refer to stand for inert classes, every other name is refused, and so
neither Python nor numpy runs anything that the file asks for.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from typing import Any

import numpy as np

from neurosim.data.errors import DataError


class _Dtype:
    """Stands for `numpy.dtype`; bytes are the only element there is."""

    def __init__(self, code: object, *_: object) -> None:
        if code not in (b"u1", "u1"):
            raise pickle.UnpicklingError(f"an array of {code!r} instead of bytes")

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment, which bytes do not have."""


class _Array:
    """Stands for `numpy.ndarray` and for the function that makes an empty one."""

    def __init__(self, *_: object) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, columns_first, data = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("an array without a dtype")
        order = "F" if columns_first else "C"
        self.values = np.frombuffer(data, np.uint8).reshape(shape, order=order)


class _Unpickler(pickle.Unpickler):
    """Finds nothing but what an array needs."""

    names = {  # noqa: RUF012 (a constant)
        ("numpy", "dtype"): _Dtype,
        ("numpy", "ndarray"): _Array,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name of numpy; any other is refused."""
        if (module, name) not in self.names:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return self.names[module, name]


def read_pickle(data: bytes, name: str) -> dict[str, Any]:
    """The dictionary that a pickle of Python 2 or 3 holds, arrays of bytes included."""
    try:
        content = _Unpickler(BytesIO(data), encoding="bytes").load()
    except Exception as error:  # a damaged pickle may ask for anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{name} is refused, it is not a plain pickle of arrays: {reason}"
        ) from None
    if not isinstance(content, dict):
        raise DataError(f"{name} must hold a dictionary, got {type(content).__name__}")
    return {
        key.decode() if isinstance(key, bytes) else str(key): (
            value.values if isinstance(value, _Array) else value
        )
        for key, value in content.items()
    }
