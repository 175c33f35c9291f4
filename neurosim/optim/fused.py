"""torch's Adam and AdamW for weights that do not lie in memory as their shape says.

Filters of locally connected layers lie position-major, as products want them. On CPUs torch's
fused optimizers (2.6 to 2.13 at least) work through memory, whatever the strides: elements of
gradients and moments that lie otherwise than the weight go to other weights. They also copy every
gradient that is not contiguous, and do not use the copy, which takes as long as the step. Here
they are given the flat memory of all, in the weight's order. State and checkpoints are torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from neurosim.errors import InvalidArgument
from neurosim.optim.step import flat, in_order_of


class _InOrderOfMemory(Optimizer):
    """Flattens what torch's `step` collects; torch pairs elements by memory, whatever it holds."""

    def _init_group(self, group: dict[str, Any], *arguments: Any) -> bool:
        moving = [p for p in group["params"] if p.grad is not None]
        in_memory = group["fused"] and [p for p in moving if p.device.type == "cpu"]
        for weight in in_memory or ():
            self._lay_out_like(weight)
        found = super()._init_group(group, *arguments)  # type: ignore[misc]
        if in_memory:
            # Lists of weights, gradients, three kinds of moments and steps; torch 2.6 has more.
            weights, gradients, *moments, _ = (a for a in arguments if isinstance(a, list))
            for number, weight in enumerate(weights):
                if weight.device.type == "cpu":
                    gradients[number] = in_order_of(weight, gradients[number])
                    for part in (weights, gradients, *moments):
                        if part:
                            part[number] = flat(part[number])
        return found

    def _lay_out_like(self, weight: Tensor) -> None:
        """Moments of a checkpoint, or of a weight that has moved, may lie otherwise than it."""
        if flat(weight) is None:
            raise InvalidArgument(
                f"a parameter of shape {tuple(weight.shape)} and strides {weight.stride()} has "
                "gaps in memory, which fused optimizers write to: give the optimizer a copy of it"
            )
        state = self.state.get(weight, {})
        for name in state.keys() - {"step"}:
            state[name] = in_order_of(weight, state[name])


class Adam(_InOrderOfMemory, torch.optim.Adam):
    """`torch.optim.Adam`."""


class AdamW(_InOrderOfMemory, torch.optim.AdamW):
    """`torch.optim.AdamW`."""
