"""What becomes of the optimizer's memory at a sleep."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neurosim.sleep.frame import Border, frame_of
from neurosim.sleep.instant import Instant
from neurosim.sleep.layers import (
    exact_products,
    local_layers,
    low_rank_layers,
    present_in,
    stored,
)
from neurosim.sleep.low_rank import average


@torch.no_grad()
def share_moments(optimizer: Optimizer, model: nn.Module, border: Border = "share") -> None:
    """Average momentum and second moments over every grid, as the weights were.

    Kept (the default of training, and published), they are those of the weights before the
    sleep: averaged weights then move by an average of nearly sign-like steps, which is shorter.
    """
    with exact_products():
        for layer in local_layers(model).values():
            for moment in moments_of(optimizer, layer.weight):
                with stored(moment, layer.geometry) as storage:
                    Instant().apply(storage, frame_of(layer, border), present_in(layer))
        for low_rank in low_rank_layers(model).values():
            for name, table in low_rank.combine.named_parameters():
                for moment in moments_of(optimizer, table):
                    average(moment, name, frame_of(low_rank, border))


def moments_of(optimizer: Optimizer, parameter: nn.Parameter) -> list[Tensor]:
    """What the optimizer keeps for every element of a parameter."""
    kept = optimizer.state.get(parameter, {}).values()
    return [m for m in kept if isinstance(m, Tensor) and m.shape == parameter.shape]
