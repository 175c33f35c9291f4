"""Recording beside a computation that must not wait: rows go through a thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from neurosim.errors import require
from neurosim.recording.schema import Status
from neurosim.recording.writer import RunWriter

Row = Mapping[str, Any]
_HALF_GIGABYTE = 2**29


class BackgroundWriter:
    """Appends rows to a started `RunWriter` from a thread of its own.

    Rows wait in memory, at most `limit` bytes of them: beyond that `append` waits too. Their
    arrays must not change any more; values may be functions that make the array, which the
    thread then calls. An error of the thread is raised by the next call. Rows come into the file
    in the order of the calls, each whole, so that what a kill leaves behind is the run up to some
    row.
    """

    def __init__(self, run: RunWriter, limit: int = _HALF_GIGABYTE) -> None:
        require(limit >= 1, "limit", limit, ">= 1 byte")
        self.run, self.limit = run, limit
        self._waiting: deque[tuple[str, Row, int]] = deque()
        self._rows = self._bytes = 0  # not in the file yet: those waiting and the one in work
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="run file", daemon=True)
        self._thread.start()

    def append(self, scale: str, row: Row, size: int | None = None) -> None:
        """Add one row; `size` is what it keeps in memory, where its values are functions."""
        size = _size(row) if size is None else size
        with self._changed:
            # A row larger than the limit goes through alone.
            self._wait(lambda: not self._rows or self._bytes + size <= self.limit)
            self._waiting.append((scale, row, size))
            self._rows, self._bytes = self._rows + 1, self._bytes + size
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything is in the file."""
        with self._changed:
            self._wait(lambda: not self._rows)

    def close(self, status: str = Status.COMPLETE, message: str = "") -> None:
        """Write what is waiting and end the run with a status."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None and status == Status.COMPLETE:
            status, message = Status.FAILED, f"{type(self._error).__name__}: {self._error}"
        self.run.close(status, message)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _wait(self, ready: Callable[[], bool]) -> None:
        self._changed.wait_for(lambda: ready() or self._error is not None)
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ending)
                if not self._waiting:
                    return
                scale, row, size = self._waiting.popleft()
            try:
                made = {name: value() if callable(value) else value for name, value in row.items()}
                self.run.append(scale, made)
            except BaseException as error:
                with self._changed:
                    self._error = error
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._rows, self._bytes = self._rows - 1, self._bytes - size
                self._changed.notify_all()


def _size(row: Row) -> int:
    return sum(np.asarray(value).nbytes for value in row.values())
