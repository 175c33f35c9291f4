"""Reading run files: finished, still being written, or left behind by a killed process.

Only plain numbers and text are ever read, so a file from elsewhere cannot run code.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil  # h5py's lock around every call into HDF5

from neurosim.errors import InvalidArgument, RunFileError, require_choice
from neurosim.recording.schema import (
    RESERVED,
    SCHEMA,
    VERSION,
    Status,
    data_type,
    is_alive,
    later_segments,
    reason,
    segment_path,
)

Index = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]

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


class RunReader:
    """A run, read lazily from its file and the segments that continue it.

    What is read stands still between calls of `refresh`, which looks for what a writer has
    added since: appended rows are seen whole or not at all.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._segments: list[_Segment] = []
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """See what was written since the file was opened or last refreshed."""
        if not self._segments:
            self._segments.append(_Segment(self.path))
        self._check_open()
        self._open_segments()
        for segment in self._segments:
            segment.refresh()
        self._stops = {axis: self._rows(axis) for axis in self._first.axes}

    def close(self) -> None:
        """Release the file."""
        for segment in self._segments:
            segment.file.close()

    def __enter__(self) -> RunReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kind(self) -> str:
        """What sort of run it is, such as 'convergence'."""
        return self.attributes["kind"]

    @property
    def config(self) -> Any:
        """Configuration of the run, as it was given to the writer."""
        return self._first.config

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return self.attributes["seed"]

    @property
    def created(self) -> str:
        """When the run was begun: ISO 8601, UTC."""
        return self.attributes["created"]

    @property
    def libraries(self) -> dict[str, str]:
        """Versions of the libraries that were installed when the run was begun."""
        return self._first.libraries

    @property
    def attributes(self) -> dict[str, Any]:
        """All root attributes of the run's first file."""
        return self._first.attributes

    @property
    def segments(self) -> list[Path]:
        """Files of the run: its own and those of its resumptions, in order."""
        return [segment.path for segment in self._segments]

    @property
    def status(self) -> Status:
        """How the run stands.

        'killed' is concluded when the file says 'running' and its process is gone. That can be
        told on the writer's own host only; elsewhere `age` shows whether it still makes progress.
        """
        return self._segments[-1].status

    @property
    def writer_alive(self) -> bool | None:
        """Whether the writing process lives; None where that cannot be told, as on another host."""
        return self._segments[-1].alive

    @property
    def message(self) -> str:
        """What the writer said at the end, such as the error of a failed run."""
        return self._segments[-1].message

    @property
    def age(self) -> float:
        """Seconds since the writer last flushed."""
        return max(0.0, time.time() - self._segments[-1].heartbeat)

    def names(self) -> list[str]:
        """Names of all datasets, dimension scales included."""
        return list(self._first.datasets)

    def dims(self, name: str) -> tuple[str, ...]:
        """Names of a dataset's axes; each is itself a dataset that holds the coordinates."""
        self._check(name)
        return self._first.dims[name]

    def describe(self, name: str) -> Description:
        """Axes, shape, dtype, units and description of a dataset."""
        dims, dataset = self.dims(name), self._first.datasets[name]
        with _reading(self.path):
            shape = dataset.shape
            if self.grows(name):
                shape = (self._stops[dims[0]][-1], *shape[1:])
            return Description(
                name=name,
                dims=dims,
                shape=shape,
                dtype=data_type(dataset) or dataset.dtype,
                units=str(_plain(dataset, "units", "")),
                description=str(_plain(dataset, "long_name", "")),
            )

    def grows(self, name: str) -> bool:
        """Whether rows are appended to a dataset while the run goes on."""
        self._check(name)
        return self._first.grows(name)

    def fill(self, name: str) -> Any:
        """Value of the entries nobody wrote yet: NaN or 0; None for appended rows and text."""
        about = self.describe(name)
        marked = not self.grows(name) and about.dtype.kind in "biufc"
        return self._first.datasets[name].fillvalue if marked else None

    def __getitem__(self, name: str) -> np.ndarray:
        return self.read(name)

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """Read part of a dataset: integers and forward slices, as in numpy."""
        selection = _selection(name, index, self.describe(name).shape)
        if not self.grows(name):
            fill = self.fill(name)
            values = self._first.read(name, selection)
            for segment in self._segments[1:]:
                later = segment.read(name, selection)
                unwritten = later == fill if fill == fill else np.isnan(later)
                values = later if fill is None else np.where(unwritten, values, later)
            return values

        stops = self._stops[self.dims(name)[0]]
        starts = [0, *stops[:-1]]
        first, *rest = selection
        rows = range(stops[-1])[first]
        if isinstance(rows, int):
            number = bisect_right(stops, rows)
            return self._segments[number].read(name, (rows - starts[number], *rest))
        parts = []
        for segment, start, stop in zip(self._segments, starts, stops, strict=True):
            if part := rows[bisect_left(rows, start) : bisect_left(rows, stop)]:
                piece = slice(part.start - start, part.stop - start, part.step)
                parts.append(segment.read(name, (piece, *rest)))
        if not parts:
            return self._first.read(name, (slice(0), *rest))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def _first(self) -> _Segment:
        return self._segments[0]

    def _check_open(self) -> None:
        if not self._first.file:
            raise RunFileError(f"{self.path}: the reader is closed; open the file again")

    def _check(self, name: str) -> None:
        self._check_open()
        require_choice(f"{self.path}: dataset", name, self._first.datasets)

    def _open_segments(self) -> None:
        """Open the files that continue this one, newly found ones included."""
        for number, path in enumerate(later_segments(self.path), start=1):
            if number < len(self._segments):
                continue
            expected = segment_path(self.path, number)
            if path != expected:
                raise RunFileError(f"{expected}: segment of a run is missing, but {path} exists")
            segment = _Segment(path)
            self._segments.append(segment)  # closed with the others
            mine = (segment.attributes["run_id"], segment.attributes["segment"])
            if mine != (self.attributes["run_id"], number):
                raise RunFileError(
                    f"{path}: not segment {number} of the run in {self.path}; move it elsewhere"
                )
            if segment.layout() != self._first.layout():
                raise RunFileError(f"{path}: its datasets differ from those of {self.path}")

    def _rows(self, axis: str) -> list[int]:
        """Where the rows of each segment stop: a resumption replaces what it repeats."""
        keep, limit = [], None
        for segment in reversed(self._segments):
            values = segment.read(axis, (slice(None),))
            keep.append(len(values) if limit is None else int(np.searchsorted(values, limit)))
            if len(values) and (limit is None or values[0] < limit):
                limit = values[0]
        return [int(stop) for stop in np.cumsum(keep[::-1])]


class _Segment:
    """One file: checked when opened, and its datasets."""

    def __init__(self, path: Path):
        self.path = path
        self.file = _open(path)
        try:
            with _reading(path):
                self._load()
        except BaseException:
            self.file.close()
            raise

    def _load(self) -> None:
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

        found: dict[str, h5py.Dataset] = {}

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item

        root.visititems(visit)  # follows no links out of the file
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

        if root.swmr_mode and self._is_alive() is not True:
            self._check_end()

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

    def layout(self) -> dict[str, tuple]:
        """What two segments of a run have in common: all but the number of rows."""
        return {
            name: (self.dims[name], data_type(d), d.shape[self.grows(name) :])
            for name, d in self.datasets.items()
        }

    def grows(self, name: str) -> bool:
        return self.dims[name][:1] != () and self.dims[name][0] in self.axes

    def refresh(self) -> None:
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

    def read(self, name: str, selection: tuple[int | slice, ...]) -> np.ndarray:
        dataset = self.datasets[name]
        with _reading(self.path):
            if data_type(dataset) == np.dtype(str):
                return np.asarray(dataset.asstr(errors="replace")[selection], dtype=str)
            return np.asarray(dataset[selection])


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


def _scale_name(dimension: Any) -> str:
    return dimension[0].name.lstrip("/")


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
    value = item.attrs[name]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _selection(name: str, index: Index, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
    """One non-negative integer or forward slice for each axis."""
    given = index if isinstance(index, tuple) else (index,)
    if (n := sum(item is Ellipsis for item in given)) == 0:
        given = (*given, Ellipsis)
    fill = (slice(None),) * (len(shape) - len(given) + 1)
    at = next(i for i, item in enumerate(given) if item is Ellipsis)
    full = (*given[:at], *fill, *given[at + 1 :])
    if n > 1 or len(full) != len(shape):
        raise InvalidArgument(f"index of {name!r} must fit its shape {shape}, got {index!r}")
    items: list[int | slice] = []
    for item, size in zip(full, shape, strict=True):
        if isinstance(item, slice) and (item.step is None or item.step > 0):
            items.append(slice(*item.indices(size)))
        elif isinstance(item, int | np.integer) and -size <= item < size:
            items.append(int(item) % size)
        else:
            raise InvalidArgument(
                f"index of {name!r} must be integers or forward slices within {shape}, "
                f"got {index!r}"
            )
    return tuple(items)
