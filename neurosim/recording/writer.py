"""Writing run files so that they can be read at any moment, even after `kill -9`."""

from __future__ import annotations

import ctypes
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import h5py
import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from neurosim.errors import InvalidArgument, RunFileError, require, require_choice
from neurosim.recording.reader import RunReader
from neurosim.recording.schema import (
    KINDS,
    MESSAGE_BYTES,
    RESERVED,
    SCHEMA,
    STATUS_BYTES,
    VERSION,
    Status,
    data_type,
    later_segments,
    provenance,
    reason,
    segment_path,
)
from neurosim.recording.values import (
    Index,
    clip_text,
    fit,
    leading_region,
    number_type,
    plain_array,
)

_TEXT = h5py.string_dtype("utf-8")
_ROW_CHUNK_BYTES = 2**16
_ROW_CHUNK_ROWS = 1024
_HEARTBEAT_SECONDS = 1.0


@dataclass
class _Field:
    """A declared dataset; `axis` names the scale along which rows are appended to it."""

    data: h5py.Dataset
    dims: tuple[str, ...]
    axis: str | None = None
    fixed: bool = False


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C off until the file is in order again.

    Raised inside h5py it could even get lost: Python ignores what is raised while an object is
    being discarded, and h5py discards many.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)


class RunWriter:
    """The one writer of a run file.

    Everything is declared first (`scale`, `dataset`, `constant`, `attribute`). `start` puts the
    file in place and into single-writer/multiple-reader mode: from then on values are written
    and rows appended, but its structure stands, because a reader or a kill could meet it half
    changed. HDF5 demands this and h5py does not object, so it is enforced here.

    As a context manager it closes with the status that tells how the block was left, and lets
    every exception pass. Closed before `start`, it leaves no file.
    """

    def __init__(
        self,
        path: str | Path,
        kind: str,
        config: Mapping[str, Any],
        seed: int = 0,
        overwrite: bool = False,
        device: str = "cpu",
    ):
        require_choice("kind", kind, KINDS)
        require(isinstance(seed, int | np.integer), "seed", seed, "an integer")
        attributes = {
            "schema": SCHEMA,
            "schema_version": VERSION,
            "run_id": uuid4().hex,
            "segment": 0,
            "kind": kind,
            "config": _json(config),
            "seed": int(seed),
            **provenance(device),
        }
        self.path = Path(path)
        self._overwrite = overwrite
        self._started = self._closed = False
        self._fields: dict[str, _Field] = {}
        self._rows: dict[str, int] = {}
        self._last: dict[str, Any] = {}
        self._torn: str | None = None  # the axis whose row is being written
        self._broken = ""  # why a write failed
        self._beaten = 0.0
        self._layout: dict[str, tuple] | None = None

        self._refuse_existing()
        # Under its own name the file appears only once it is fit to be read.
        name = f".{self.path.name}.{os.getpid()}-{attributes['run_id'][:8]}.tmp"
        self._temporary = self.path.with_name(name)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # The oldest format with this mode, for the sake of readers with an older HDF5.
            self._file = h5py.File(self._temporary, "x", libver=("v110", "v110"))
        except OSError as error:
            raise RunFileError(
                f"{self.path}: cannot be created ({reason(error)}); "
                "choose a folder that you may write to"
            ) from error
        try:
            self._file.attrs.update(attributes)
            self._status = self._create("status", (), h5py.string_dtype("utf-8", STATUS_BYTES))
            self._message = self._create("message", (), h5py.string_dtype("utf-8", MESSAGE_BYTES))
            self._heartbeat = self._create("heartbeat", (), np.dtype("f8"))
            self._heartbeat.attrs["units"] = "seconds since 1970-01-01"
            self._heartbeat.attrs["long_name"] = "when the writer last flushed"
            self._status[()] = str(Status.RUNNING)
        except BaseException:
            self.close()
            raise

    @classmethod
    def resume(
        cls,
        path: str | Path,
        kind: str,
        config: Mapping[str, Any],
        seed: int = 0,
        device: str = "cpu",
        *,
        abandoned: bool = False,
    ) -> RunWriter:
        """Continue the run in `path`, whose writer has ended, in a new file beside it.

        A file left by a killed writer cannot be written again safely. The new segment takes the
        same arguments and declarations; `RunReader(path)` shows all of them as one run, in
        which repeated rows appear once. A run that was killed on another host still seems to be
        running from here: say with `abandoned=True` that it is not.
        """
        path = Path(path)
        with RunReader(path) as run:
            if run.attributes["segment"]:
                raise RunFileError(f"{path}: a later segment of a run; resume its first file")
            if run.status is Status.RUNNING and not (abandoned and run.writer_alive is None):
                raise RunFileError(
                    f"{path}: still being written by process {run.attributes['pid']} on "
                    f"{run.attributes['host']}, {run.age:.0f} s ago; resume it once that has "
                    "ended (if it was killed on another host, with abandoned=True)"
                )
            given = {"kind": kind, "seed": seed, "config": json.loads(_json(config))}
            for name, value in given.items():
                if value != (recorded := getattr(run, name)):
                    raise RunFileError(
                        f"{path}: {name} must be that of the run to resume, "
                        f"{_difference(recorded, value)}; begin a new run for another {name}"
                    )
            number = len(run.segments)
            inherited = {"run_id": run.attributes["run_id"], "segment": number}
            layout = {
                name: (about.dims, about.dtype, about.shape[run.grows(name) :])
                for name in run.names()
                for about in [run.describe(name)]
            }
        writer = cls(segment_path(path, number), kind, config, seed, device=device)
        writer._file.attrs.update(inherited)
        writer._layout = layout
        return writer

    def scale(
        self,
        name: str,
        values: ArrayLike | None = None,
        *,
        dtype: DTypeLike | None = None,
        units: str = "",
        description: str = "",
    ) -> None:
        """Declare an axis: its coordinates, or the `dtype` of those that `append` will add."""
        self._check_new(name)
        if values is None:
            kind = number_type("dtype", dtype, "iuf")
            data = self._create(name, (0,), kind, maxshape=(None,), chunks=(_ROW_CHUNK_ROWS,))
            self._rows[name] = 0
        else:
            array = plain_array(name, values)
            require(array.ndim == 1, name, array.shape, "one-dimensional, as an axis is")
            if dtype is not None:
                array = fit(name, array, array.shape, number_type("dtype", dtype, "iuf"))
            data = self._store(name, array)
        data.make_scale(name.rpartition("/")[2])
        self._declare(name, _Field(data, (name,), fixed=values is not None), units, description)

    def dataset(
        self,
        name: str,
        dims: Sequence[str],
        dtype: DTypeLike = "f8",
        *,
        units: str = "",
        description: str = "",
        chunks: tuple[int, ...] | None = None,
        compression: str | None = None,
    ) -> None:
        """Declare what the run will record along axes that are declared already.

        It has its full size at once, filled with NaN or 0. If its first axis is an appendable
        one, it grows with that axis instead, by `append`.
        """
        self._check_new(name)
        kind = number_type("dtype", dtype, "biufc")
        axis, shape = self._shape(name, dims)
        fill = kind.type(np.nan) if kind.kind in "fc" else None
        if chunks is not None and len(chunks) != len(shape):
            raise InvalidArgument(f"chunks of {name!r} must fit its axes {dims}, got {chunks}")
        if axis is None:
            data = self._create(
                name, shape, kind, fillvalue=fill, chunks=chunks, compression=compression
            )
        else:
            row = max(1, kind.itemsize * int(np.prod(shape[1:])))
            # A compressed chunk that is written again takes new room in the file each time.
            rows = 1 if compression else max(1, min(_ROW_CHUNK_ROWS, _ROW_CHUNK_BYTES // row))
            data = self._create(
                name,
                shape,
                kind,
                fillvalue=fill,
                maxshape=(None, *shape[1:]),
                chunks=chunks or (rows, *(max(1, size) for size in shape[1:])),
                compression=compression,
            )
        self._declare(name, _Field(data, tuple(dims), axis), units, description)

    def constant(
        self,
        name: str,
        values: ArrayLike,
        dims: Sequence[str] = (),
        *,
        units: str = "",
        description: str = "",
    ) -> None:
        """Record numbers or text that are known before the start."""
        self._check_new(name)
        axis, shape = self._shape(name, dims)
        array = plain_array(name, values)
        if axis is not None or array.shape != shape:
            raise InvalidArgument(
                f"{name!r} must have the shape {shape} of its axes {tuple(dims)}, none of them "
                f"appendable, got {array.shape}"
            )
        field = _Field(self._store(name, array), tuple(dims), fixed=True)
        self._declare(name, field, units, description)

    def attribute(self, name: str, value: str | int | float | bool | ArrayLike) -> None:
        """Record a note on the whole run, such as a title."""
        self._check_declaring(name)
        if name in self._file.attrs:
            raise RunFileError(
                f"{self.path}: attribute {name!r} is there already; use another name"
            )
        array = plain_array(name, value)
        self._file.attrs.create(name, array, dtype=_TEXT if array.dtype.kind == "O" else None)

    @_uninterrupted()
    def start(self) -> None:
        """End the declarations and put the file in place, readable from now on."""
        if self._started:
            raise RunFileError(f"{self.path}: start() was called already; call it once")
        self._check_declaring("start")
        try:
            self._check_layout()
            with self._writing():
                self._heartbeat[()] = time.time()
                self._file.swmr_mode = True
            self._publish()
        except BaseException:
            self.close()
            raise
        self._started = True

    @_uninterrupted()
    def write(self, name: str, values: ArrayLike, index: Index = ()) -> None:
        """Write all of a dataset, or its part at the leading `index`; shown by `flush`."""
        field = self._writable(name)
        if field.fixed:
            raise RunFileError(
                f"{self.path}: {name!r} was given its values when declared and keeps them; "
                "use dataset() for what changes"
            )
        if field.axis or name in self._rows:
            raise RunFileError(
                f"{self.path}: {name!r} grows by rows; use append({field.axis or name!r}, ...)"
            )
        region, shape = leading_region(name, field.data.shape, index)
        array = fit(name, values, shape, field.data.dtype)
        with self._writing():
            field.data[region] = array

    @_uninterrupted()
    def append(self, scale: str, row: Mapping[str, Any]) -> None:
        """Add one row to an appendable axis and all its datasets, at once and for good.

        A reader trusts as many rows as the scale has, and the scale is written last: a row that
        a kill cut off is as if it had never been begun.
        """
        self._writable(scale)
        if scale not in self._rows:
            raise RunFileError(f"{self.path}: {scale!r} is not an appendable scale; use write")
        columns = {name: f for name, f in self._fields.items() if f.axis == scale}
        expected = {scale, *columns}
        if wrong := sorted(expected ^ set(row)):
            what = "lacks" if wrong[0] in expected else "has the unknown column"
            raise InvalidArgument(
                f"row of {scale!r} must have exactly {', '.join(sorted(expected))}, "
                f"but it {what} {wrong[0]!r}"
            )
        columns[scale] = self._fields[scale]  # last
        values = {
            name: fit(name, row[name], f.data.shape[1:], f.data.dtype)
            for name, f in columns.items()
        }
        # Rows of a resumed run are joined by their place on the axis.
        last = self._last.get(scale, -np.inf)
        if not values[scale] >= last:
            raise InvalidArgument(f"{scale!r} must not decrease, got {values[scale]} after {last}")
        number = self._rows[scale]
        with self._writing():
            self._torn = scale
            for name, field in columns.items():
                if name == scale:
                    for column in columns.values():
                        column.data.flush()
                field.data.resize(number + 1, axis=0)
                field.data[number] = values[name]
            self._fields[scale].data.flush()
            self._rows[scale], self._last[scale], self._torn = number + 1, values[scale], None
        if time.time() - self._beaten > _HEARTBEAT_SECONDS:
            self._beat()

    @_uninterrupted()
    def flush(self) -> None:
        """Show readers all that was written, and that the writer is alive."""
        self._check_started("flush")
        with self._writing():
            self._file.flush()
        self._beat()

    @_uninterrupted()
    def close(self, status: str = Status.COMPLETE, message: str = "") -> None:
        """End the run with a status: complete, failed or interrupted; later calls do nothing."""
        require_choice("status", status, (Status.COMPLETE, Status.FAILED, Status.INTERRUPTED))
        if self._closed:
            return
        self._closed = True
        try:
            if self._started:
                self._finish(status, message)
        finally:
            self._release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        with suppress(RunFileError):  # the error that ended the run is the one to show
            if isinstance(error, KeyboardInterrupt):
                self.close(Status.INTERRUPTED, "stopped by Ctrl-C")
            else:
                self.close(Status.FAILED, f"{type(error).__name__}: {error}")

    # Declaring

    def _check_declaring(self, name: str) -> None:
        if self._closed:
            raise RunFileError(f"{self.path}: the writer is closed; open a new one")
        if self._started:
            raise RunFileError(
                f"{self.path}: {name!r} cannot be declared after start(), because a file that is "
                "read while it is written keeps its structure; declare everything before"
            )

    def _check_new(self, name: str) -> None:
        self._check_declaring(name)
        parts = name.split("/")
        plain = all(part.strip(".") and "\0" not in part for part in parts)
        require(plain, "name of a dataset", name, "words joined by '/', such as 'settings/gamma'")
        if name in RESERVED:
            raise RunFileError(f"{self.path}: the name {name!r} is reserved; use another")
        taken = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        if name in self._file or any(part in self._fields for part in taken):
            raise RunFileError(f"{self.path}: the name {name!r} is taken already; use another")

    def _shape(self, name: str, dims: Sequence[str]) -> tuple[str | None, tuple[int, ...]]:
        """Appendable first axis, if any, and the shape at the start."""
        if isinstance(dims, str) or len(set(dims)) < len(dims):
            raise InvalidArgument(f"dims of {name!r} must be different scales, got {dims!r}")
        for position, dim in enumerate(dims):
            if dim not in self._fields or self._fields[dim].dims != (dim,):
                raise RunFileError(
                    f"{self.path}: dimension {dim!r} of {name!r} is not declared; "
                    "declare it with scale() first"
                )
            group = dim.rpartition("/")[0]
            if group and not name.startswith(group + "/"):
                raise RunFileError(
                    f"{self.path}: {name!r} must lie in the group {group!r} of its dimension "
                    f"{dim!r}, or the dimension above it; else labels are lost on other readers"
                )
            if dim in self._rows and position:
                raise RunFileError(
                    f"{self.path}: the appendable dimension {dim!r} must come first in {name!r}, "
                    f"got {tuple(dims)}"
                )
        axis = dims[0] if dims and dims[0] in self._rows else None
        return axis, tuple(len(self._fields[dim].data) for dim in dims)

    def _create(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype, **options: Any
    ) -> h5py.Dataset:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        if not options.get("chunks") and not options.get("compression"):
            # All room is taken and filled now: writing a value never changes the structure.
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        try:
            with self._writing():
                data = self._file.create_dataset(
                    name, shape, dtype=dtype, dcpl=properties, **options
                )
                if shape == ():  # h5py ignores the properties then
                    data[()] = data.fillvalue
                return data
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"{name!r} cannot be declared: {error}") from error

    def _store(self, name: str, array: np.ndarray) -> h5py.Dataset:
        data = self._create(name, array.shape, _TEXT if array.dtype.kind == "O" else array.dtype)
        data[...] = array
        return data

    def _declare(self, name: str, field: _Field, units: str, description: str) -> None:
        if field.dims != (name,):
            for position, dim in enumerate(field.dims):
                field.data.dims[position].attach_scale(self._fields[dim].data)
        field.data.attrs["units"] = units
        field.data.attrs["long_name"] = description
        self._fields[name] = field

    def _check_layout(self) -> None:
        """A later segment declares what the run's first file did."""
        if self._layout is None:
            return
        mine = {
            name: (f.dims, data_type(f.data), f.data.shape[bool(f.axis or name in self._rows) :])
            for name, f in self._fields.items()
        }
        for name in sorted(mine.keys() | self._layout.keys()):
            if mine.get(name) != self._layout.get(name):
                raise RunFileError(
                    f"{self.path}: the declaration of {name!r} differs from that of the run it "
                    "continues; declare what the run has, with the same axes, dtype and sizes"
                )

    # The file's place

    def _refuse_existing(self) -> None:
        """Never clobber a file unasked, nor one that a living process writes."""
        found = [path for path in (self.path, *later_segments(self.path)) if path.exists()]
        if found and not self._overwrite:
            raise RunFileError(
                f"{found[0]}: exists already; choose another name, pass overwrite=True, or "
                "continue the run with RunWriter.resume"
            )
        if not self.path.exists():
            return
        if self.path.is_dir():
            raise RunFileError(f"{self.path}: is a folder; give the name of a file")
        try:
            with RunReader(self.path) as run:
                living = run.attributes["pid"] if run.status is Status.RUNNING else None
        except RunFileError:  # not a run: to be replaced as asked
            return
        if living is not None:
            raise RunFileError(
                f"{self.path}: still being written by process {living}; choose another name, "
                "or remove the file if that process has ended"
            )

    def _publish(self) -> None:
        """Give the file its name; an open file may be renamed."""
        self._refuse_existing()
        try:
            if self._overwrite:
                for segment in later_segments(self.path):
                    segment.unlink()
                self._temporary.replace(self.path)
                return
            try:
                os.link(self._temporary, self.path)  # unlike a rename, never replaces a file
            except FileExistsError:
                raise
            except OSError:  # no hard links here
                self._temporary.rename(self.path)
            else:
                self._temporary.unlink()
        except OSError as error:
            raise RunFileError(f"{self.path}: cannot be put in place ({reason(error)})") from error

    # Writing

    def _check_started(self, what: str) -> None:
        if self._closed:
            raise RunFileError(f"{self.path}: the writer is closed; nothing more can be written")
        if not self._started:
            raise RunFileError(f"{self.path}: call start() before {what}")
        if self._broken:
            raise RunFileError(
                f"{self.path}: nothing more can be written after a write failed ({self._broken})"
            )

    def _writable(self, name: str) -> _Field:
        self._check_started(f"writing {name!r}")
        require_choice(f"{self.path}: dataset", name, self._fields)
        return self._fields[name]

    def _beat(self) -> None:
        with self._writing():
            self._heartbeat[()] = self._beaten = time.time()
            self._heartbeat.flush()

    def _finish(self, status: str, message: str) -> None:
        try:
            if not self._broken:
                with self._writing():
                    self._trim()
                    self._file.flush()
        finally:
            if self._broken:
                status = Status.FAILED
                message = message or f"not all could be written: {self._broken}"
            with self._writing():  # there is room for this even on a full disk
                self._message[()] = clip_text(message, MESSAGE_BYTES)
                self._message.flush()  # whoever sees the status sees the message
                self._status[()] = str(status)
                self._status.flush()
                self._beat()

    def _release(self) -> None:
        try:
            if not self._broken:
                with self._writing():
                    self._file.close()
        finally:
            if self._broken:
                # HDF5 crashes the process when it closes a file that it could not write: keep
                # all handles to the end of the process. What is on disk is readable.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
            if not self._started:
                self._temporary.unlink(missing_ok=True)

    def _trim(self) -> None:
        """Take back the row that an interruption left half written."""
        if self._torn is not None:
            for name, field in self._fields.items():
                if self._torn in (name, field.axis):
                    field.data.resize(self._rows[self._torn], axis=0)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            self._broken = reason(error)
            raise RunFileError(
                f"{self.path}: could not be written ({reason(error)}); is the disk full?"
            ) from error


def _json(config: Mapping[str, Any]) -> str:
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


def _difference(recorded: Any, given: Any) -> str:
    """'recorded, got given', reduced to the first entry in which two configurations differ."""
    if isinstance(recorded, dict) and isinstance(given, dict):
        for key in [*recorded, *given]:
            if (old := recorded.get(key)) != (new := given.get(key)):
                return f"{key} = {old!r}, got {new!r}"
    return f"{recorded!r}, got {given!r}"
