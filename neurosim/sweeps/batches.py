"""What is handed out next: points in batches that take a few seconds each."""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Iterable, Sequence

from neurosim.sweeps.grid import Point

SECONDS = 3.0  # what a task should take: long beside its overhead, short beside a sweep
FIRST = 4  # points of a batch before anything is known; the first one may compile for seconds
LARGEST = 2_000
PARTS = 8  # of a batch that lost its worker


class Batches:
    """Points waiting to be run."""

    def __init__(self, points: Iterable[Point], total: int | None, *, alone: bool = False):
        self._fresh = iter(points)
        self._left = total  # None where nobody knows
        self._again: deque[list[Point]] = deque()
        self._alone = alone
        self._recent: deque[float] = deque(maxlen=64)  # medians of seconds per point

    @property
    def known(self) -> bool:
        """Whether any batch has told how long a point takes."""
        return bool(self._recent)

    def learn(self, seconds: Sequence[float]) -> None:
        """A batch took so long, by point."""
        if seconds:
            self._recent.append(statistics.median(seconds))

    def size(self, slots: int) -> int:
        """Points of the next batch: smaller toward the end, so that workers end together."""
        if self._alone or self._left is None:
            return 1
        if not self._recent:
            return min(FIRST, max(1, self._left // slots))
        per_point = max(statistics.median(self._recent), 1e-6)
        fair = max(round(0.2 / per_point), self._left // (2 * slots))
        return max(1, min(round(SECONDS / per_point), fair, LARGEST))

    def take(self, slots: int) -> list[Point]:
        """The next batch; empty when nothing waits."""
        if self._again:
            return self._again.popleft()
        batch = list(itertools.islice(self._fresh, self.size(slots)))
        if self._left is not None:
            self._left -= len(batch)
        return batch

    def again(self, points: Sequence[Point], *, suspect: bool = False) -> None:
        """Run these once more; in small parts if one of them may have killed their worker."""
        length = -(-len(points) // PARTS) if suspect else max(1, len(points))
        for start in range(0, len(points), length):
            self._again.append(list(points[start : start + length]))
