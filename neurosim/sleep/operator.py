"""A sleep as one matrix per mode, and its application to a whole layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from neurosim.dynamics.stability import LARGEST_GROWTH
from neurosim.errors import StabilityError
from neurosim.sleep import operator_cpu, taps_cpu
from neurosim.sleep.frame import Frame


@dataclass(frozen=True, eq=False)
class Operator:
    """What a sleep does to weights as rows of D components in the torus frame.

        deviation_out = deviation_in @ deviation        mean_out = mean_in @ mean

    One operator for all output channels, or one for each of several equal parts of them: the
    groups of a grouped layer, where those are shown different tiles.
    """

    deviation: Tensor  # (parts, D, D)
    mean: Tensor  # (parts, D, D)

    def to(self, device: torch.device, dtype: torch.dtype) -> Operator:
        """The same operator for weights on `device`; half precision computes in single."""
        return _moved(self, device, torch.promote_types(dtype, torch.float32))

    @cached_property
    def difference(self) -> Tensor:
        """What the mean over a grid adds to what the deviation's matrix makes of all weights."""
        return self.mean - self.deviation

    def check(self) -> None:
        """Raise `StabilityError` where the sleep would let weights grow instead of settle."""
        for name in ("deviation", "mean"):
            matrix = getattr(self, name)
            check_growth(name, max(map(largest_singular_value, matrix)))

    def apply(self, storage: Tensor, frame: Frame) -> None:
        """Let weights (taps, positions, C, O) sleep, in place.

        w_out = w @ deviation + mean(w) @ (mean - deviation): one product over all positions and
        a small one per grid.
        """
        if taps_cpu.can_compile(storage) and storage.dtype == self.deviation.dtype:
            operator_cpu.apply(self, storage, frame)
        else:
            self.multiply(storage, frame)

    def multiply(self, storage: Tensor, frame: Frame) -> None:
        """The same in torch, on any device."""
        weights = frame.gather(storage).to(self.deviation.dtype)  # (P, D, O)
        frame.scatter(self._slept(weights, frame).to(storage.dtype), storage)

    def _slept(self, weights: Tensor, frame: Frame) -> Tensor:
        means, slept = frame.mean(weights), []
        width = weights.shape[-1] // len(self.deviation)
        operators = zip(self.deviation, self.difference, strict=True)
        columns = zip(weights.split(width, -1), means.split(width, -1), strict=True)
        for (deviation, difference), (w, w_mean) in zip(operators, columns, strict=True):
            shared = torch.matmul(difference.T, w_mean).index_select(0, frame.grid)
            slept.append(torch.baddbmm(shared, deviation.T.expand(len(w), -1, -1), w))
        return slept[0] if len(slept) == 1 else torch.cat(slept, -1)


@lru_cache(maxsize=16)  # as many as `circuit` and `hebbian` keep
def _moved(operator: Operator, device: torch.device, dtype: torch.dtype) -> Operator:
    return Operator(operator.deviation.to(device, dtype), operator.mean.to(device, dtype))


def largest_singular_value(matrix: Tensor) -> float:
    """To a few per cent, by power iteration: a full decomposition takes seconds for D = 2,304."""
    vector = torch.linspace(1, 2, matrix.shape[-1], dtype=matrix.dtype)
    vector[::2] *= -1
    size = 0.0
    for _ in range(16):
        vector = vector / vector.norm().clamp_min(torch.finfo(vector.dtype).tiny)
        vector = matrix.T @ (matrix @ vector)
        size = float(vector.norm())
    return math.sqrt(size)


def check_growth(name: str, growth: float) -> None:
    """Raise `StabilityError` if a sleep multiplies weights by more than a little, or by NaN."""
    if not growth <= LARGEST_GROWTH:
        raise StabilityError(
            f"rate must let weights settle, but a sleep multiplies their {name} by up to "
            f"{growth:.3g} (at most {LARGEST_GROWTH:g} is allowed): lower it"
        )
