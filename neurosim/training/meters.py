"""What the loop counts while it goes: the loss, without waiting for the device, and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from neurosim.training.distributed import Processes


class Means:
    """Means per image of some sums since the last reset, over all processes."""

    def __init__(self, processes: Processes, count: int = 1) -> None:
        self._processes = processes
        self._sums = torch.zeros(count, dtype=torch.float64, device=processes.device)
        self._images = 0

    def add(self, sums: Tensor, images: int) -> None:
        """Count a batch: sums (count,) over this process's rows, the rows of all processes."""
        self._sums += sums.detach()
        self._images += images

    def reset(self) -> None:
        """Begin anew."""
        self._sums.zero_()
        self._images = 0

    def values(self) -> list[float]:
        """The means, 0 without images; one wait for the device and for the other processes."""
        totals = self._processes.sum(self._sums.clone()).tolist()
        return [total / max(1, self._images) for total in totals]

    def state(self) -> tuple[list[list[float]], int]:
        """The sums of every process, and the images of all."""
        return self._processes.gather(self._sums.tolist()), self._images

    def load(self, state: tuple[list[list[float]], int]) -> None:
        """Go on from a state; with another number of processes, the first keeps the sums."""
        each, self._images = state
        sums = torch.tensor(each, dtype=torch.float64)
        if len(each) == self._processes.world:
            self._sums.copy_(sums[self._processes.rank])
        else:
            self._sums.copy_(sums.sum(0) * self._processes.first)


class Clock:
    """Seconds since the start, with and without pauses."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self._began, self._paused = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """All of them."""
        return time.perf_counter() - self._began

    @property
    def working(self) -> float:
        """Those outside pauses."""
        return self.seconds - self._paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        """A pause."""
        begun = time.perf_counter()
        yield
        self._paused += time.perf_counter() - begun
