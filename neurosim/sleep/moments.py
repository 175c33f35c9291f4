"""What becomes of the optimizer's memory at a sleep."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer

from neurosim.nn.ops.local.matmul import from_storage, to_storage
from neurosim.sleep.frame import Border, frame_of
from neurosim.sleep.instant import Instant
from neurosim.sleep.share import exact_products, local_layers


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
                    storage = to_storage(moment, layer.geometry)
                    Instant().apply(storage, frame_of(layer, border))
                    if storage.data_ptr() != moment.data_ptr():
                        moment.copy_(from_storage(storage, layer.geometry))
