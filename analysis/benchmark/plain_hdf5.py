"""HDF5 files from elsewhere: only numbers and text are read from them, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim.errors import InvalidArgument
from neurosim.recording.schema import plain_value

# What h5py raises on damaged files.
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError)


@contextmanager
def opened(path: Path, what: str) -> Iterator[h5py.File]:
    """The file; damage becomes one sentence that says `what` was expected."""
    if not path.exists():
        raise InvalidArgument(f"{path}: no such file; expected {what}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except InvalidArgument:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split())
        raise InvalidArgument(f"{path}: damaged, cut short or not {what} ({reason})") from error


def contents(group: h5py.Group) -> list[str]:
    """Names of what the group holds."""
    return [str(name) for name in group]


def member(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group:
    """A dataset or group that is in the file itself, not behind a link out of it."""
    where = f"{group.file.filename}: {name!r} in {group.name}"
    if name not in group:
        raise InvalidArgument(f"{where} is missing")
    item = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(item, h5py.Dataset | h5py.Group):
        raise InvalidArgument(f"{where} refused, it must be stored there, not be a link or a type")
    return item


def subgroup(group: h5py.Group, name: str) -> h5py.Group:
    """A group within."""
    item = member(group, name)
    if not isinstance(item, h5py.Group):
        raise InvalidArgument(f"{group.file.filename}: {item.name} must be a group")
    return item


def values(group: h5py.Group, name: str) -> np.ndarray:
    """Numbers as they are, text as `str`; references, pickles and links elsewhere are refused."""
    dataset = member(group, name)
    where = f"{group.file.filename}: {dataset.name}"
    if not isinstance(dataset, h5py.Dataset):
        raise InvalidArgument(f"{where} must be a dataset, got a group")
    if dataset.is_virtual or dataset.external:
        raise InvalidArgument(f"{where} must be stored in the file itself")
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr(errors="replace")[()], dtype=str)
    if dataset.dtype.kind not in "biufS":
        raise InvalidArgument(f"{where} must hold numbers or text, got {dataset.dtype}")
    array = np.asarray(dataset[()])
    return np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array


def attribute(item: h5py.Group | h5py.Dataset, name: str, default: Any = None) -> Any:
    """An attribute as plain Python values."""
    if name not in item.attrs:
        return default
    kind = item.attrs.get_id(name).dtype
    if h5py.check_string_dtype(kind) is None and kind.kind not in "biufS":
        raise InvalidArgument(f"{item.file.filename}: attribute {name!r} must be numbers or text")
    return plain_value(item.attrs[name])
