"""When a network sleeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from neurosim.errors import InvalidArgument
from neurosim.sleep import AtSteps, BelowSNR, EveryBatches, EveryEpochs, Moment, Schedule


def never() -> float:
    raise AssertionError("statistics cost time: only BelowSNR needs them")


def sleeps(
    schedule: Schedule, steps: int, batches: int, snr: Callable[[], float] = never
) -> list[int]:
    """The steps of a run that are followed by a sleep."""
    moments = (Moment(step, step % batches, batches) for step in range(steps))
    return [moment.step for moment in moments if schedule.due(moment, snr)]


def test_every_batch() -> None:
    assert sleeps(EveryBatches(1), 5, 3) == [0, 1, 2, 3, 4]


def test_counted_within_the_epoch() -> None:
    """ws(100) with 98 batches an epoch: once per epoch, after its first batch (as published)."""
    assert sleeps(EveryBatches(100), 3 * 98, 98) == [0, 98, 196]
    assert sleeps(EveryBatches(10), 30, 12) == [0, 10, 12, 22, 24]


def test_counted_over_the_run() -> None:
    assert sleeps(EveryBatches(100, "global"), 3 * 98, 98) == [0, 100, 200]


def test_at_the_end_of_epochs() -> None:
    assert sleeps(EveryEpochs(), 12, 4) == [3, 7, 11]
    assert sleeps(EveryEpochs(2), 20, 4) == [7, 15]


def test_at_steps() -> None:
    assert sleeps(AtSteps((0, 7, 3)), 10, 4) == [0, 3, 7]


def test_below_a_threshold() -> None:
    """Looked up every `check` steps only, and strictly below."""
    looked: list[float] = []

    def snr() -> float:
        looked.append(5.0 - len(looked))
        return looked[-1]

    assert sleeps(BelowSNR(3.0, check=4), 20, 7, snr) == [12, 16]
    assert looked == [5, 4, 3, 2, 1]
    assert sleeps(BelowSNR(1.0, check=1), 3, 3, lambda: float("inf")) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EveryBatches(0), "schedule.n must be a whole number >= 1, got 0"),
        (lambda: EveryBatches(1.5), "schedule.n must be a whole number >= 1, got 1.5"),
        (lambda: EveryBatches(1, "epochs"), "schedule.phase must be one of epoch, global"),
        (lambda: EveryEpochs(-1), "schedule.n must be a whole number >= 1, got -1"),
        (lambda: AtSteps(()), "schedule.steps must be whole numbers >= 0"),
        (lambda: AtSteps((1, -1)), "schedule.steps must be whole numbers >= 0"),
        (lambda: BelowSNR(0), "schedule.threshold must be finite and > 0, got 0"),
        (lambda: BelowSNR(float("inf")), "schedule.threshold must be finite and > 0, got inf"),
        (lambda: BelowSNR(1, 0), "schedule.check must be a whole number >= 1, got 0"),
    ],
)
def test_bad_settings(make: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()
