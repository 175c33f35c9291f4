"""A sleep as one matrix per mode, and its application to a whole layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim.dynamics.stability import LARGEST_GROWTH
from neurosim.errors import StabilityError
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
        wide = torch.promote_types(dtype, torch.float32)
        return Operator(self.deviation.to(device, wide), self.mean.to(device, wide))

    def check(self) -> None:
        """Raise `StabilityError` where the sleep would let weights grow instead of settle."""
        for name in ("deviation", "mean"):
            growth = float(torch.linalg.matrix_norm(getattr(self, name), ord=2).max())
            if not growth <= LARGEST_GROWTH:
                raise StabilityError(
                    f"rate must let weights settle, but a sleep multiplies their {name} by up "
                    f"to {growth:.3g} (at most {LARGEST_GROWTH:g} is allowed): lower it"
                )

    def apply(self, storage: Tensor, frame: Frame) -> None:
        """Let weights (taps, positions, C, O) sleep, in place.

        w_out = w @ deviation + mean(w) @ (mean - deviation): one product over all positions and
        a small one per grid.
        """
        weights = frame.gather(storage).to(self.deviation.dtype)  # (P, D, O)
        means = frame.mean(weights)
        parts = len(self.deviation)
        slept = torch.empty_like(weights)
        for part, (deviation, mean) in enumerate(zip(self.deviation, self.mean, strict=True)):
            width = weights.shape[-1] // parts
            chosen = slice(part * width, (part + 1) * width)
            shared = torch.matmul((mean - deviation).T, means[..., chosen])
            result = torch.matmul(deviation.T.expand(len(weights), -1, -1), weights[..., chosen])
            slept[..., chosen] = result.add_(shared.index_select(0, frame.grid))
        frame.scatter(slept.to(storage.dtype), storage)
