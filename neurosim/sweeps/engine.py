"""The loop that keeps workers busy and makes sure that every point ends, in one way or another.

Dask moves tasks and notices dead workers; what is tried again, how often and in what company is
decided here. At most two batches per worker are handed out at a time: that keeps workers busy,
and what a scheduler holds depends on workers and not on points.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from neurosim.errors import NeurosimError
from neurosim.sweeps.batches import Batches
from neurosim.sweeps.grid import Point
from neurosim.sweeps.index import Record
from neurosim.sweeps.worker import Outcome, Work, failure, run_batch, said

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 2  # batches per worker: one runs, one waits
CENSUS_SECONDS = 2.0  # between looks at how many workers there are
TICK_SECONDS = 0.25


class Engine:
    """Runs points on the workers of a Dask client."""

    def __init__(
        self,
        client: Client,
        work: Work,
        points: Iterable[Point],
        total: int | None,
        *,
        retries: int = 2,
        resources: Mapping[str, float] | None = None,
        ahead: int = AHEAD,
        tick: Callable[[Engine], None] = lambda engine: None,
    ):
        self.client, self.work, self.retries, self._tick = client, work, retries, tick
        self.batches = Batches(points, total, alone=work.alone)
        self.resources, self.ahead = resources, ahead
        self._tries: Counter[str] = Counter()  # failures by point
        self.slots = 0  # runs that workers can do at once
        self._running: dict[Any, tuple[Future, list[Point]]] = {}
        self._ended: SimpleQueue[Any] = SimpleQueue()
        self._counted = -CENSUS_SECONDS

    @property
    def running(self) -> int:
        """Points that workers have been given."""
        return sum(len(points) for _, points in self._running.values())

    def run(self) -> Iterator[Record]:
        """Yield what becomes of points, as it becomes known."""
        try:
            while True:
                self._count_workers()
                self._hand_out()
                if not self._running:
                    return
                self._tick(self)
                try:
                    key = self._ended.get(timeout=TICK_SECONDS)
                except Empty:
                    continue
                future, points = self._running.pop(key)
                yield from self._settle(future, points)
                future.release()
        finally:
            if self._running:
                self.client.cancel([future for future, _ in self._running.values()], force=True)

    def _count_workers(self) -> None:
        now = time.monotonic()
        if now - self._counted < CENSUS_SECONDS and self.slots:
            return
        try:
            threads: Any = self.client.nthreads()
        except (OSError, RuntimeError) as error:  # it went away
            raise self._lost() from error
        # A process runs one point at a time, however many threads it has.
        self.slots, self._counted = len(threads), now

    def _hand_out(self) -> None:
        slots = max(1, self.slots)
        ahead = self.ahead if self.batches.known or self.work.alone else 1
        while len(self._running) < ahead * slots and (points := self.batches.take(slots)):
            future = self.client.submit(
                run_batch, self.work, points, pure=False, retries=0, resources=self.resources
            )
            self._running[future.key] = (future, points)
            future.add_done_callback(lambda future: self._ended.put(future.key))

    def _settle(self, future: Future, points: list[Point]) -> Iterator[Record]:
        """Keep what succeeded; decide what is tried again and what failed for good."""
        from distributed.scheduler import KilledWorker

        try:
            outcome = self._result(future)
        except NeurosimError:  # not a point's: the worker cannot work
            raise
        except (CancelledError, OSError) as error:
            if future.status != "error":  # not what the task itself raised
                raise self._lost() from error
            yield from self._lost_batch(points, said(error))
        except KilledWorker as error:
            yield from self._lost_batch(points, _death(error))
        except Exception as error:  # (out of memory while a result is sent, ...)
            yield from self._lost_batch(points, said(error))
        else:
            self.batches.learn(outcome.seconds)
            for record in outcome.records:
                tries = [self._tries[key] + 1 for key in record.points]
                yield replace(record, attempts=tries) if max(tries) > 1 else record
            yield from self._failed(outcome.failed)

    def _result(self, future: Future) -> Outcome:
        """What a batch came to; one that was lost with its worker is computed again first."""
        while True:
            try:
                return future.result(timeout=CENSUS_SECONDS)
            except TimeoutError:
                if future.status == "error":  # what the task itself raised
                    raise
                self._count_workers()
                self._tick(self)

    def _lost_batch(self, points: list[Point], text: str) -> Iterator[Record]:
        """A batch came to nothing as a whole: only a point that was alone is to blame."""
        if len(points) > 1:
            self.batches.again(points, suspect=True)
        else:
            yield from self._failed([(points[0], text, True)])

    def _failed(self, failures: Sequence[tuple[Point, str, bool]]) -> Iterator[Record]:
        """Try again what may pass and has not been tried too often; the rest has failed."""
        again, ended = [], []
        for point, text, may_pass in failures:
            self._tries[point.key] += 1
            if may_pass and self._tries[point.key] <= self.retries:
                again.append(point)
            else:
                ended.append((point, text, self._tries[point.key]))
        self.batches.again(again)
        if ended:
            yield failure(ended)

    def _lost(self) -> NeurosimError:
        return NeurosimError(
            "the scheduler is gone, or has forgotten its tasks; what was finished is kept: the "
            "same command goes on"
        )


def _death(error: Exception) -> str:
    worker = getattr(error, "last_worker", None)
    where = getattr(worker, "address", worker)
    return f"the worker {where} that ran it died (killed, out of memory, or out of time)"
