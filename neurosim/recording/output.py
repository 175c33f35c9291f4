"""A run file's life on disk: hidden, then in place and readable, then ended with a status."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording.reader import RunReader
from neurosim.recording.schema import (
    MESSAGE_BYTES,
    STATUS_BYTES,
    TEXT,
    Status,
    later_segments,
    reason,
)
from neurosim.recording.values import clip_text


@contextmanager
def uninterrupted() -> Iterator[None]:
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


class OutputFile:
    """The file behind a writer, which lays it out (`create`), publishes it once and closes it.

    Everything that may fail because of the disk goes through `writing`. After one failure
    nothing more is written but how the run ended.
    """

    def __init__(self, path: Path, attributes: Mapping[str, Any], overwrite: bool):
        self.path = path
        self.published = self.closed = False
        self.broken = ""  # why a write failed
        self.beaten = 0.0  # when the last sign of life was given
        self._overwrite = overwrite
        self._handles: list[h5py.Dataset] = []  # see _release

        self._refuse_existing()
        # Under its own name the file appears only once it is fit to be read.
        name = f".{path.name}.{os.getpid()}-{attributes['run_id'][:8]}.tmp"
        self._temporary = path.with_name(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # The oldest format with this mode, for the sake of readers with an older HDF5.
            self.h5 = h5py.File(self._temporary, "x", libver=("v110", "v110"))
        except OSError as error:
            raise RunFileError(
                f"{path}: cannot be created ({reason(error)}); "
                "choose a folder that you may write to"
            ) from error
        try:
            self.h5.attrs.update(attributes)
            self._status = self.create("status", (), h5py.string_dtype("utf-8", STATUS_BYTES))
            self._message = self.create("message", (), h5py.string_dtype("utf-8", MESSAGE_BYTES))
            self._heartbeat = self.create("heartbeat", (), np.dtype("f8"))
            self._heartbeat.attrs["units"] = "seconds since 1970-01-01"
            self._heartbeat.attrs["long_name"] = "when the writer last flushed"
            self._status[()] = str(Status.RUNNING)
        except BaseException:
            self.close()
            raise

    # Laying out

    def create(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype, **options: Any
    ) -> h5py.Dataset:
        """Make a dataset with h5py's `options`."""
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        if not options.get("chunks") and not options.get("compression"):
            # All room is taken and filled now: writing a value never changes the structure.
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        try:
            with self.writing():
                data = self.h5.create_dataset(name, shape, dtype=dtype, dcpl=properties, **options)
                self._handles.append(data)
                if shape == ():  # h5py ignores the properties then
                    data[()] = data.fillvalue
                return data
        except (ValueError, TypeError) as error:
            raise InvalidArgument(f"{name!r} cannot be declared: {error}") from error

    def store(self, name: str, array: np.ndarray) -> h5py.Dataset:
        """Make a dataset of these values, which are numbers or text."""
        data = self.create(name, array.shape, TEXT if array.dtype.kind == "O" else array.dtype)
        data[...] = array
        return data

    # Publishing

    def publish(self) -> None:
        """Let readers in: from here on the structure stands, and the file has its name."""
        with self.writing():
            self._heartbeat[()] = time.time()
            self.h5.swmr_mode = True
        self._refuse_existing()
        try:
            self._put_in_place()
        except OSError as error:
            raise RunFileError(f"{self.path}: cannot be put in place ({reason(error)})") from error
        self.published = True

    def _put_in_place(self) -> None:
        """Give the file its name; an open file may be renamed."""
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

    def _refuse_existing(self) -> None:
        """Never clobber a file unasked, nor one that a living process writes."""
        found = [path for path in (self.path, *later_segments(self.path)) if path.exists()]
        if found and not self._overwrite:
            raise RunFileError(
                f"{found[0]}: exists already; choose another name or folder, replace it "
                "(--overwrite, overwrite=True) or go on with it (--resume, RunWriter.resume)"
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

    # Writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say in one sentence what kept something from being written, and remember it."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            self.broken = reason(error)
            raise RunFileError(
                f"{self.path}: could not be written ({reason(error)}); is the disk full?"
            ) from error

    def flush(self) -> None:
        """Show readers everything."""
        with self.writing():
            self.h5.flush()
        self.beat()

    def beat(self) -> None:
        """Show readers that the writer is alive."""
        with self.writing():
            self._heartbeat[()] = self.beaten = time.time()
            self._heartbeat.flush()

    # Ending

    @uninterrupted()
    def close(self, status: str = Status.COMPLETE, message: str = "") -> None:
        """Record how the run ended; a file that was not published vanishes instead."""
        if self.closed:
            return
        self.closed = True
        try:
            if self.published:
                self._end(status, message)
        finally:
            self._release()

    def _end(self, status: str, message: str) -> None:
        try:
            if not self.broken:
                with self.writing():
                    self.h5.flush()
        finally:
            if self.broken:
                status = Status.FAILED
                message = message or f"not all could be written: {self.broken}"
            with self.writing():  # there is room for this even on a full disk
                self._message[()] = clip_text(message, MESSAGE_BYTES)
                self._message.flush()  # whoever sees the status sees the message
                self._status[()] = str(status)
                self._status.flush()
                self.beat()

    def _release(self) -> None:
        try:
            if not self.broken:
                with self.writing():
                    self.h5.close()
        finally:
            if self.broken:
                # HDF5 crashes the process when it closes a file that it could not write: keep
                # all handles to the end of the process. What is on disk is readable.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
            if not self.published:
                self._temporary.unlink(missing_ok=True)
