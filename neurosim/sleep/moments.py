"""What becomes of the optimizer's memory at a sleep."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from neurosim.sleep.frame import Border, frame_of
from neurosim.sleep.instant import Instant
from neurosim.sleep.layers import exact_products, local_layers, present_in, stored


@torch.no_grad()
def share_moments(optimizer: Optimizer, model: nn.Module, border: Border = "share") -> None:
    """Average momentum and second moments over every grid, as the weights were.

    Kept (the default of training, and published), they are those of the weights before the
    sleep: averaged weights then move by an average of nearly sign-like steps, which is shorter.
    """
    with exact_products():
        for layer in local_layers(model).values():
            for moment in optimizer.state.get(layer.weight, {}).values():
                if isinstance(moment, torch.Tensor) and moment.shape == layer.weight.shape:
                    with stored(moment, layer.geometry) as storage:
                        Instant().apply(storage, frame_of(layer, border), present_in(layer))
