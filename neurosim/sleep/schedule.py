"""When to sleep, decided after every optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from neurosim.errors import require, require_choice, require_count

PHASES = ("epoch", "global")


class Moment(NamedTuple):
    """Where training stands after an optimizer step; everything counts from 0."""

    step: int  # in the whole run
    batch: int  # within the epoch
    batches: int  # in an epoch


@dataclass(frozen=True)
class EveryBatches:
    """ws(n): after every n-th batch (Sec. 5), the first one included.

    `phase` "epoch" counts within the epoch, as published, so that ws(100) with 98 batches an
    epoch sleeps once per epoch, after its first batch; "global" counts over the whole run.
    """

    n: int
    phase: Literal["epoch", "global"] = "epoch"

    def __post_init__(self) -> None:
        require_count("schedule.n", self.n)
        require_choice("schedule.phase", self.phase, PHASES)

    def due(self, now: Moment, snr: Callable[[], float]) -> bool:
        """Whether to sleep now."""
        return (now.batch if self.phase == "epoch" else now.step) % self.n == 0


@dataclass(frozen=True)
class EveryEpochs:
    """At the end of every n-th epoch."""

    n: int = 1

    def __post_init__(self) -> None:
        require_count("schedule.n", self.n)

    def due(self, now: Moment, snr: Callable[[], float]) -> bool:
        """Whether to sleep now."""
        return (now.step + 1) % (self.n * now.batches) == 0


@dataclass(frozen=True)
class AtSteps:
    """After given optimizer steps, counted from 0 over the whole run."""

    steps: tuple[int, ...]

    def __post_init__(self) -> None:
        whole = all(isinstance(step, int) and step >= 0 for step in self.steps)
        require(self.steps and whole, "schedule.steps", self.steps, "whole numbers >= 0")

    def due(self, now: Moment, snr: Callable[[], float]) -> bool:
        """Whether to sleep now."""
        return now.step in self.steps


@dataclass(frozen=True)
class BelowSNR:
    """Whenever a layer's SNR (Eq. 6) over its interior positions has fallen below a threshold.

    Looked up every `check` steps; the lowest of all layers counts.
    """

    threshold: float
    check: int = 10

    def __post_init__(self) -> None:
        finite = math.isfinite(self.threshold) and self.threshold > 0
        require(finite, "schedule.threshold", self.threshold, "finite and > 0")
        require_count("schedule.check", self.check)

    def due(self, now: Moment, snr: Callable[[], float]) -> bool:
        """Whether to sleep now."""
        return now.step % self.check == 0 and snr() < self.threshold


Schedule = EveryBatches | EveryEpochs | AtSteps | BelowSNR
