"""Reading runs: finished, still being written, or left behind by a killed process."""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np

from neurosim.errors import InvalidArgument, RunFileError, require_choice
from neurosim.recording.schema import ATTRIBUTES, Status, later_segments, segment_path
from neurosim.recording.segment import Description, Segment

Index = int | slice | EllipsisType | tuple[int | slice | EllipsisType, ...]


class RunReader:
    """A run, read lazily from its file and the segments that continue it.

    Its datasets are read by name, run["loss"], and "loss" in run tells whether there is one.
    What is read stands still between calls of `refresh`, which looks for what a writer has
    added since: appended rows are seen whole or not at all.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._segments: list[Segment] = []
        try:
            self.refresh()
        except BaseException:
            self.close()
            raise

    def refresh(self) -> None:
        """See what was written since the file was opened or last refreshed."""
        if not self._segments:
            self._segments.append(Segment(self.path))
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
    def notes(self) -> dict[str, Any]:
        """Those of them that not every run has, as given to `RunWriter.attribute`."""
        return {name: v for name, v in self.attributes.items() if name not in ATTRIBUTES}

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

    def __repr__(self) -> str:
        if not (self._segments and self._first.file):
            return f"<RunReader of {self.path}, closed>"
        what = f"{self.kind}, {self.status}, {len(self)} datasets"
        return f"<RunReader of {self.path}: {what}>"

    def __contains__(self, name: object) -> bool:
        return name in self._first.datasets

    def __iter__(self) -> Iterator[str]:
        return iter(self._first.datasets)

    def __len__(self) -> int:
        return len(self._first.datasets)

    def __bool__(self) -> bool:
        return True

    def names(self) -> list[str]:
        """Names of all datasets, dimension scales included."""
        return list(self._first.datasets)

    def dims(self, name: str) -> tuple[str, ...]:
        """Names of a dataset's axes; each is itself a dataset that holds the coordinates."""
        self._check(name)
        return self._first.dims[name]

    def describe(self, name: str) -> Description:
        """Axes, shape, dtype, units and description of a dataset."""
        self._check(name)
        about = self._first.describe(name)
        if not self.grows(name):
            return about
        return replace(about, shape=(self._stops[about.dims[0]][-1], *about.shape[1:]))

    def layout(self) -> dict[str, tuple]:
        """What a resumption has to declare again: axes, kinds and sizes, without rows."""
        return self._first.layout()

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
        return self._joined(name, selection) if self.grows(name) else self._newest(name, selection)

    @property
    def _first(self) -> Segment:
        return self._segments[0]

    def _newest(self, name: str, selection: tuple[int | slice, ...]) -> np.ndarray:
        """Each value from the last segment that wrote it."""
        fill = self.fill(name)
        values = self._first.read(name, selection)
        for segment in self._segments[1:]:
            later = segment.read(name, selection)
            unwritten = later == fill if fill == fill else np.isnan(later)
            values = later if fill is None else np.where(unwritten, values, later)
        return values

    def _joined(self, name: str, selection: tuple[int | slice, ...]) -> np.ndarray:
        """Rows of all segments, one after the other."""
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
            segment = Segment(path)
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
