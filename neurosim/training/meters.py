"""What the loop counts while it goes: the loss, without waiting for the device, and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from neurosim.training.distributed import Processes


class MeanLoss:
    """Mean loss per image since the last reset, over all processes."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._sum = torch.zeros((), dtype=torch.float64, device=processes.device)
        self._images = 0

    def add(self, loss: Tensor, images: int) -> None:
        """Count a batch: the loss summed over this process's rows, the rows of all processes."""
        self._sum += loss.detach()
        self._images += images

    def reset(self) -> None:
        """Begin anew."""
        self._sum.zero_()
        self._images = 0

    def value(self) -> float:
        """The mean, 0 without images; one wait for the device and for the other processes."""
        total, images = self.state()
        return total / max(1, images)

    def state(self) -> tuple[float, int]:
        """The sum over all processes, and their images."""
        return float(self._processes.sum(self._sum.clone())), self._images

    def load(self, state: tuple[float, int]) -> None:
        """Go on from a state; the first process keeps the sum for all."""
        total, self._images = state
        self._sum.fill_(total if self._processes.first else 0)


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
