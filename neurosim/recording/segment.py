"""One file of a run: opened, checked for damage and for what must not be read, and read.

Only plain numbers and text are ever read, so a file from elsewhere cannot run code.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil  # h5py's lock around every call into HDF5

from neurosim.errors import RunFileError
from neurosim.recording.schema import (
    RESERVED,
    SCHEMA,
    VERSION,
    Status,
    data_type,
    is_alive,
    plain_value,
    reason,
)

# What h5py raises on damaged files.
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, MemoryError)
_READ_ATTEMPTS = 27  # with doubling pauses: 0.13 s in all

_REQUIRED = {
    **dict.fromkeys(("run_id", "kind", "config", "libraries", "created"), str),
    **dict.fromkeys(("host", "process", "device"), str),
    **dict.fromkeys(("segment", "seed", "pid"), int),
}


@dataclass(frozen=True)
class Description:
    """What a dataset is: its axes by name, and its shape as of the last refresh."""

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    units: str
    description: str


class Segment:
    """A file that holds a run or the continuation of one, as of the last refresh.

    `refresh` must be called before `status`, `alive`, `message` and `heartbeat` are asked for.
    """

    status: Status
    alive: bool | None
    message: str
    heartbeat: float

    def __init__(self, path: Path):
        self.path = path
        self.file = _open(path)
        try:
            with _reading(path):
                self._load_attributes()
                self._load_datasets()
                if self.file.swmr_mode and self._is_alive() is not True:
                    self._check_end()
        except BaseException:
            self.file.close()
            raise

    def refresh(self) -> None:
        """Look at what a writer has added, and whether it still lives."""
        # A run may end between two looks: only a process that was already gone before its
        # status is read was killed.
        self.alive = self._is_alive()
        with _reading(self.path):
            if self.file.swmr_mode:
                # Columns are written before their scale, so a later look finds every row of it.
                for name in sorted(self.datasets, key=lambda name: name not in self.axes):
                    self.datasets[name].refresh()
                for dataset in self._reserved:
                    dataset.refresh()
            status, message, heartbeat = self._reserved
            self.status = Status(status.asstr()[()])
            self.message = str(message.asstr(errors="replace")[()])
            self.heartbeat = float(heartbeat[()])
        for name, dataset in self.datasets.items():
            if self.grows(name) and len(dataset) < len(self.datasets[self.dims[name][0]]):
                raise RunFileError(f"{self.path}: damaged, rows of {name!r} are missing")
        if self.status is Status.RUNNING and self.alive is False:
            self.status = Status.KILLED

    def grows(self, name: str) -> bool:
        """Whether rows are appended to a dataset."""
        return any(dim in self.axes for dim in self.dims[name][:1])

    def layout(self) -> dict[str, tuple]:
        """What all segments of a run have in common: all but the number of rows."""
        return {
            name: (self.dims[name], data_type(d), d.shape[self.grows(name) :])
            for name, d in self.datasets.items()
        }

    def describe(self, name: str) -> Description:
        """What a dataset is in this file."""
        dataset = self.datasets[name]
        with _reading(self.path):
            return Description(
                name=name,
                dims=self.dims[name],
                shape=dataset.shape,
                dtype=data_type(dataset) or dataset.dtype,
                units=str(_plain(dataset, "units", "")),
                description=str(_plain(dataset, "long_name", "")),
            )

    def read(self, name: str, selection: tuple[int | slice, ...]) -> np.ndarray:
        """Part of a dataset in this file."""
        dataset = self.datasets[name]
        with _reading(self.path):
            if data_type(dataset) == np.dtype(str):
                return np.asarray(dataset.asstr(errors="replace")[selection], dtype=str)
            return np.asarray(dataset[selection])

    def _load_attributes(self) -> None:
        root = self.file
        schema, version = _plain(root, "schema", None), _plain(root, "schema_version", None)
        if schema != SCHEMA or not isinstance(version, int):
            raise RunFileError(
                f"{self.path}: not a run file; expected HDF5 with the attribute "
                f"schema = {SCHEMA!r}, got {schema!r}"
            )
        if version > VERSION:
            raise RunFileError(
                f"{self.path}: written with schema version {version}, but this neurosim reads up "
                f"to version {VERSION}; update neurosim"
            )
        self.attributes = {name: _plain(root, name, None) for name in root.attrs}
        for name, kind in _REQUIRED.items():
            if not isinstance(self.attributes.get(name), kind):
                raise RunFileError(
                    f"{self.path}: damaged, attribute {name!r} must be {kind.__name__}, "
                    f"got {self.attributes.get(name)!r}"
                )
        self.config = json.loads(self.attributes["config"])
        self.libraries = json.loads(self.attributes["libraries"])

    def _load_datasets(self) -> None:
        found: dict[str, h5py.Dataset] = {}

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item

        self.file.visititems(visit)  # follows no links out of the file
        for name, dataset in found.items():
            if data_type(dataset) is None or dataset.is_virtual or dataset.external:
                raise RunFileError(
                    f"{self.path}: refused, dataset {name!r} is neither numbers nor text "
                    "stored in the file"
                )
        self._reserved = [found.pop(name) for name in RESERVED]
        self.datasets = found
        self.dims = {
            name: (name,) if dataset.is_scale else tuple(_scale_name(dim) for dim in dataset.dims)
            for name, dataset in found.items()
        }
        self.axes = [n for n, d in found.items() if d.is_scale and None in (d.maxshape or ())]

    def _is_alive(self) -> bool | None:
        return is_alive(*(self.attributes[name] for name in ("host", "pid", "process")))

    def _check_end(self) -> None:
        """Refuse an unfinished file that was cut: HDF5 would read zeros beyond its end."""
        ends = [0]
        for dataset in (*self.datasets.values(), *self._reserved):
            if dataset.chunks:
                dataset.id.chunk_iter(lambda chunk: ends.append(chunk.byte_offset + chunk.size))
            elif (start := dataset.id.get_offset()) is not None:
                ends.append(start + dataset.id.get_storage_size())
        if max(ends) > (size := self.path.stat().st_size):
            raise RunFileError(f"{self.path}: cut short, has {size} bytes of at least {max(ends)}")


def _open(path: Path) -> h5py.File:
    if not path.exists():
        raise RunFileError(f"{path}: no such file; expected a run file written by neurosim")
    try:
        # Checks that the file is whole, and is refused while a writer holds it or after a kill.
        return h5py.File(path, "r")
    except _DAMAGE as error:
        if isinstance(error, PermissionError | IsADirectoryError):
            raise RunFileError(f"{path}: cannot be read ({reason(error)})") from error
    try:
        return _open_unfinished(path)
    except _DAMAGE as error:
        what = "damaged or cut short" if h5py.is_hdf5(path) else "not HDF5"
        raise RunFileError(f"{path}: {what}; expected a run file written by neurosim") from error


def _open_unfinished(path: Path) -> h5py.File:
    """Open a file that a writer holds, or held when it was killed.

    As h5py.File(path, "r", swmr=True), which in a damaged file waits forever: HDF5 then reads
    100 times what has a wrong checksum, since a writer might be about to complete it, and
    doubles the pause from one nanosecond each time. h5py has no name for that number.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_LATEST, h5py.h5f.LIBVER_LATEST)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    with phil, suppress(AttributeError):  # where it cannot be found, only patience is lost
        set_attempts = ctypes.PyDLL(h5py.h5p.__file__).H5Pset_metadata_read_attempts
        set_attempts.argtypes = (ctypes.c_int64, ctypes.c_uint)
        set_attempts(access.id, _READ_ATTEMPTS)
    flags = h5py.h5f.ACC_RDONLY | h5py.h5f.ACC_SWMR_READ
    return h5py.File(h5py.h5f.open(os.fsencode(path), flags, fapl=access))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes the libraries raise into one sentence."""
    try:
        yield
    except _DAMAGE as error:
        raise RunFileError(f"{path}: damaged or cut short ({reason(error)})") from error


def _plain(item: h5py.Group | h5py.Dataset, name: str, default: Any) -> Any:
    """Value of an attribute in plain Python types; anything but numbers and text is refused."""
    if name not in item.attrs:
        return default
    if data_type(item.attrs.get_id(name)) is None:
        raise RunFileError(
            f"{item.file.filename}: refused, attribute {name!r} is neither numbers nor text"
        )
    return plain_value(item.attrs[name])


def _scale_name(dimension: Any) -> str:
    return dimension[0].name.lstrip("/")
