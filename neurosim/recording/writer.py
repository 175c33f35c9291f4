"""Writing run files so that they can be read at any moment, even after `kill -9`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import ArrayLike

from neurosim.errors import InvalidArgument, RunFileError, require, require_choice
from neurosim.recording.declarations import Declarations, Field
from neurosim.recording.output import OutputFile, uninterrupted
from neurosim.recording.reader import RunReader
from neurosim.recording.schema import KINDS, SCHEMA, VERSION, Status, provenance, segment_path
from neurosim.recording.values import Index, as_json, fit, leading_region

_HEARTBEAT_SECONDS = 1.0


class RunWriter(Declarations):
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
            "config": as_json(config),
            "seed": int(seed),
            **provenance(device),
        }
        super().__init__(OutputFile(Path(path), attributes, overwrite))
        self._continued: dict[str, tuple] | None = None  # layout of the run that is resumed
        self._ends: dict[str, tuple[int, Any]] = {}  # whole rows of each axis, and the last value
        self._torn: str | None = None  # the axis whose row is being written

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
            given = {"kind": kind, "seed": seed, "config": json.loads(as_json(config))}
            for name, value in given.items():
                if value != (recorded := getattr(run, name)):
                    raise RunFileError(
                        f"{path}: {name} must be that of the run to resume, "
                        f"{_difference(recorded, value)}; begin a new run for another {name}"
                    )
            number = len(run.segments)
            inherited = {"run_id": run.attributes["run_id"], "segment": number}
            layout = run.layout()
        writer = cls(segment_path(path, number), kind, config, seed, device=device)
        writer._file.h5.attrs.update(inherited)
        writer._continued = layout
        return writer

    @uninterrupted()
    def start(self) -> None:
        """End the declarations and put the file in place, readable from now on."""
        if self._file.published:
            raise RunFileError(f"{self.path}: start() was called already; call it once")
        self._check_declaring("start")
        try:
            self._check_continued()
            self._file.publish()
        except BaseException:
            self.close()
            raise

    @uninterrupted()
    def write(self, name: str, values: ArrayLike, index: Index = ()) -> None:
        """Write all of a dataset, or its part at the leading `index`; shown by `flush`."""
        field = self._writable(name)
        if field.fixed:
            raise RunFileError(
                f"{self.path}: {name!r} was given its values when declared and keeps them; "
                "use dataset() for what changes"
            )
        if field.axis:
            raise RunFileError(
                f"{self.path}: {name!r} grows by rows; use append({field.axis!r}, ...)"
            )
        region, shape = leading_region(name, field.data.shape, index)
        array = fit(name, values, shape, field.data.dtype)
        with self._file.writing():
            field.data[region] = array

    @uninterrupted()
    def append(self, scale: str, row: Mapping[str, Any]) -> None:
        """Add one row to an appendable axis and all its datasets, at once and for good.

        A reader trusts as many rows as the scale has, and the scale is written last: a row that
        a kill cut off is as if it had never been begun.
        """
        coordinates = self._writable(scale)
        if coordinates.axis != scale:
            raise RunFileError(f"{self.path}: {scale!r} is not an appendable scale; use write")
        columns = {n: f for n, f in self._fields.items() if f.axis == scale and n != scale}
        expected = {scale, *columns}
        if wrong := sorted(expected ^ set(row)):
            what = "lacks" if wrong[0] in expected else "has the unknown column"
            raise InvalidArgument(
                f"row of {scale!r} must have exactly {', '.join(sorted(expected))}, "
                f"but it {what} {wrong[0]!r}"
            )
        values = {
            name: fit(name, row[name], field.data.shape[1:], field.data.dtype)
            for name, field in {**columns, scale: coordinates}.items()
        }
        # Rows of a resumed run are joined by their place on the axis.
        number, last = self._ends.get(scale, (0, -np.inf))
        if not values[scale] >= last:
            raise InvalidArgument(f"{scale!r} must not decrease, got {values[scale]} after {last}")
        with self._file.writing():
            self._torn = scale
            for part in (columns, {scale: coordinates}):
                for name, field in part.items():
                    field.data.resize(number + 1, axis=0)
                    field.data[number] = values[name]
                for field in part.values():
                    field.data.flush()
            self._ends[scale], self._torn = (number + 1, values[scale]), None
        if time.time() - self._file.beaten > _HEARTBEAT_SECONDS:
            self._file.beat()

    @uninterrupted()
    def flush(self) -> None:
        """Show readers all that was written, and that the writer is alive."""
        self._check_started("flush")
        self._file.flush()

    @uninterrupted()
    def close(self, status: str = Status.COMPLETE, message: str = "") -> None:
        """End the run with a status: complete, failed or interrupted; later calls do nothing."""
        require_choice("status", status, (Status.COMPLETE, Status.FAILED, Status.INTERRUPTED))
        if self._file.closed:
            return
        try:
            self._take_back()
        finally:
            self._file.close(status, message)

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

    def _check_continued(self) -> None:
        """A later segment declares what the run's first file did."""
        if self._continued is None:
            return
        mine = self._layout()
        for name in sorted(mine.keys() | self._continued.keys()):
            if mine.get(name) != self._continued.get(name):
                raise RunFileError(
                    f"{self.path}: the declaration of {name!r} differs from that of the run it "
                    "continues; declare what the run has, with the same axes, dtype and sizes"
                )

    def _check_started(self, what: str) -> None:
        if self._file.closed:
            raise RunFileError(f"{self.path}: the writer is closed; nothing more can be written")
        if not self._file.published:
            raise RunFileError(f"{self.path}: call start() before {what}")
        if broken := self._file.broken:
            raise RunFileError(
                f"{self.path}: nothing more can be written after a write failed ({broken})"
            )

    def _writable(self, name: str) -> Field:
        self._check_started(f"writing {name!r}")
        require_choice(f"{self.path}: dataset", name, self._fields)
        return self._fields[name]

    def _take_back(self) -> None:
        """Drop the row that an interruption left half written."""
        if self._torn is None or self._file.broken:
            return
        number, _ = self._ends.get(self._torn, (0, None))
        with self._file.writing():
            for field in self._fields.values():
                if field.axis == self._torn:
                    field.data.resize(number, axis=0)


def _difference(recorded: Any, given: Any) -> str:
    """'recorded, got given', reduced to the first entry in which two configurations differ."""
    if isinstance(recorded, dict) and isinstance(given, dict):
        for key in [*recorded, *given]:
            if (old := recorded.get(key)) != (new := given.get(key)):
                return f"{key} = {old!r}, got {new!r}"
    return f"{recorded!r}, got {given!r}"
