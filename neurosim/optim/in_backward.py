"""Steps within the backward pass, so that gradients never stand in memory together."""

from __future__ import annotations

from functools import partial

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle


def step_in_backward(optimizer: Optimizer) -> list[RemovableHandle]:
    """Let `backward()` move every weight as soon as its gradient is complete, and drop that.

    Of the 16 bytes that AdamW needs for a weight, 4 are its gradient's; networks without sharing
    have many weights and few activations. Rules that move each weight by its own gradient end
    with the same weights, bit for bit; what wants all gradients (clipping by their common norm,
    scaling for half precision, averaging over processes) cannot be had.
    """
    return [
        parameter.register_post_accumulate_grad_hook(partial(_move, optimizer, number))
        for number, group in enumerate(optimizer.param_groups)
        for parameter in group["params"]
        if parameter.requires_grad
    ]


def _move(optimizer: Optimizer, number: int, parameter: Tensor) -> None:
    """One step of one parameter, with the settings that its group has now."""
    groups = optimizer.param_groups
    # The optimizer need not look through all other parameters for gradients, which they lack.
    optimizer.param_groups = [{**groups[number], "params": [parameter]}]
    try:
        optimizer.step()
    finally:
        optimizer.param_groups = groups
    parameter.grad = None
