"""Learning rates: functions of time, called with a whole array of times at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, cast

import numpy as np

from neurosim.dynamics.arrays import Array
from neurosim.errors import InvalidArgument, require, require_number


def _check_base(base: float) -> None:
    require_number("rate.base", base)
    require(math.isfinite(base) and base >= 0, "rate.base", base, "finite and >= 0")


@dataclass(frozen=True)
class Constant:
    """eta(t) = base."""

    base: float

    def __post_init__(self) -> None:
        _check_base(self.base)

    def __call__(self, t: Array) -> Array:
        """The same rate at all times."""
        return np.full(np.shape(t), self.base)


@dataclass(frozen=True)
class InverseSqrt:
    """eta(t) = base / sqrt(1 + t / scale) once t > start, and 0 before (Fig. 4B).

    The text counts t in iterations from k >= 50; the published curves count it in steps of
    the simulation, t > 50, as here. To an `InstantResponse` a step is an iteration: with the
    default start it learns nothing from its first 51 inputs (start=-1 learns from all).
    """

    base: float = 3e-4
    scale: float = 2.0
    start: float = 50.0

    def __post_init__(self) -> None:
        _check_base(self.base)
        require(self.scale > 0, "rate.scale", self.scale, "> 0")

    def __call__(self, t: Array) -> Array:
        """The rate at each time."""
        t = np.asarray(t, float)
        return np.where(t > self.start, self.base / np.sqrt(1 + t / self.scale), 0.0)

    @property
    def breaks(self) -> tuple[float, ...]:
        """Times at which the rate jumps, for integrators that have to stop there."""
        return (self.start,)


@dataclass(frozen=True)
class InverseTime:
    """eta(t) = base / (offset + t) (Figs. 4A and 5A)."""

    base: float = 0.5
    offset: float = 1000.0

    def __post_init__(self) -> None:
        _check_base(self.base)
        require(self.offset > 0, "rate.offset", self.offset, "> 0")

    def __call__(self, t: Array) -> Array:
        """The rate at each time."""
        return self.base / (self.offset + np.asarray(t, float))


Rate = Callable[[Array], Any]


def as_rate(name: str, rate: Rate | float) -> Rate:
    """A number as a constant rate; a callable as it is."""
    if isinstance(rate, Real) and not isinstance(rate, bool):
        return Constant(float(rate))
    valid = callable(rate) and not isinstance(rate, type)
    require(valid, name, rate, "a number or a callable of t")
    return cast(Rate, rate)


def evaluate(rate: Rate, t: Array) -> Array:
    """rate(t) for an array of times, checked: one finite, non-negative number for each."""
    try:
        values = np.broadcast_to(np.asarray(rate(t), float), t.shape)
    except ValueError as error:
        raise InvalidArgument(
            "plasticity.rate must map an array of times to as many rates "
            f"(numpy.where instead of if), got {rate!r}: {error}"
        ) from error
    if values.size:
        low, high = float(values.min()), float(values.max())  # NaN if any is
        require(low >= 0, "plasticity.rate", low, ">= 0 at every time")
        require(math.isfinite(high), "plasticity.rate", high, "finite at every time")
    return values


def scaled(rate: Rate, factor: float) -> Rate:
    """The same schedule with all its rates multiplied by `factor`."""
    if isinstance(rate, Constant | InverseSqrt | InverseTime):
        return replace(rate, base=rate.base * factor)
    return _Scaled(rate, factor, tuple(getattr(rate, "breaks", ())))


@dataclass(frozen=True)
class _Scaled:
    """A rate of the user's own, times a factor, with its breaks."""

    rate: Rate
    factor: float
    breaks: tuple[float, ...]

    def __call__(self, t: Array) -> Array:
        """The rate at each time."""
        return self.factor * np.asarray(self.rate(t), float)
