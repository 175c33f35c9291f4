"""torch's Adam and AdamW for weights that do not lie in memory as their shape says.

Filters of locally connected layers lie position-major, as products want them. On CPUs torch's
fused optimizers (2.6 to 2.13 at least) work through memory, whatever the strides, but first copy
every gradient that is not contiguous, and do not use the copy: as slow as the step itself. Here
they are given weights, gradients and moments as the flat memory that they are, the gradient in
the weight's order. Numbers, state and checkpoints are torch's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from neurosim.optim.step import flat, in_order_of


class _InOrderOfMemory(Optimizer):
    """Flattens what torch's `step` collects. Were it collected elsewhere, it would only be slow."""

    def _init_group(self, group: dict[str, Any], *arguments: Any) -> bool:
        found = super()._init_group(group, *arguments)  # type: ignore[misc]
        if group["fused"]:
            weights, gradients, *state = (part for part in arguments if isinstance(part, list))
            for number, weight in enumerate(weights):
                if weight.device.type == "cpu":
                    gradients[number] = in_order_of(weight, gradients[number])
                    moments = [part for part in state if part and part[number].ndim == weight.ndim]
                    _flatten([weights, gradients, *moments], number)
        return found


def _flatten(collected: list[list[Tensor]], number: int) -> None:
    """A weight, its gradient and its moments, unless they have gaps or lie differently."""
    strides = {part[number].stride() for part in collected}
    flattened = [flat(part[number]) for part in collected]
    if len(strides) == 1 and all(values is not None for values in flattened):
        for part, values in zip(collected, flattened, strict=True):
            part[number] = values  # type: ignore[assignment]


class Adam(_InOrderOfMemory, torch.optim.Adam):
    """`torch.optim.Adam`."""


class AdamW(_InOrderOfMemory, torch.optim.AdamW):
    """`torch.optim.AdamW`."""
