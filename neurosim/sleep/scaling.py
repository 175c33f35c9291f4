"""Homeostatic synaptic scaling: weights' norms return to what they were before the sleep."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from neurosim.sleep.frame import Frame

Scaling = Literal["neuron", "grid", "layer"] | None
SCALINGS = ("neuron", "grid", "layer", None)


def norms(part: Tensor, frame: Frame, scaling: Scaling) -> Tensor:
    """The norm that belongs to each neuron, (P, O), from weights (taps, P, C, O).

    "neuron": of its own filter. "grid": of the filters of its grid and output channel, as a root
    mean square. "layer": of all filters of the layer.
    """
    wide = part.to(torch.promote_types(part.dtype, torch.float32))  # squares of halves underflow
    squares = wide.square().sum((0, 2))
    if scaling == "grid":
        squares = frame.mean(squares).index_select(0, frame.grid)
    elif scaling == "layer":
        squares = squares.mean().expand_as(squares)
    return squares.sqrt()


def rescale(storage: Tensor, frame: Frame, scaling: Scaling, before: Tensor) -> None:
    """Multiply every neuron's weights so that its norm is again `before`."""
    part = frame.part(storage)
    after = norms(part, frame, scaling)
    factor = torch.where(after > 0, before / after, torch.ones_like(after))
    frame.set_part(storage, (part * factor[:, None]).to(part.dtype))
