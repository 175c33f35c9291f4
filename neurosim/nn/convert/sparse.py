"""From linear layers to sparse ones, where few enough weights are not zero."""

from __future__ import annotations

from copy import deepcopy

from torch import nn

from neurosim.errors import InvalidArgument, require
from neurosim.nn.convert.replace import become
from neurosim.nn.dense import Dense
from neurosim.nn.masked import MaskedLinear, present_weight
from neurosim.nn.sparse import SparseLinear

KNOWN = {nn.Linear.forward, MaskedLinear.forward, Dense.forward}
BREAK_EVEN = 0.5  # share of non-zero weights above which values and their places need more memory


def to_sparse(
    model: nn.Module, max_density: float = BREAK_EVEN, *, inplace: bool = False
) -> nn.Module:
    """A copy of `model` whose sparse enough linear layers keep non-zero weights only.

    Args:
        model: any module with linear or `Dense` layers.
        max_density: layers with a larger share of non-zero weights stay as they are. Above 0.5
            the compact form needs more memory; for speed see the measurements in the README.
        inplace: convert `model` itself, layer by layer, so that both are never in memory whole.
    """
    require(0 < max_density <= 1, "max_density", max_density, "above 0 and at most 1")
    model = model if inplace else deepcopy(model)
    linear = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Linear) and type(layer).forward in KNOWN
    ]
    if not linear:
        raise InvalidArgument(f"model must have a linear layer, got {type(model).__name__}")
    for layer in linear:
        if int(present_weight(layer).count_nonzero()) <= max_density * layer.weight.numel():
            become(layer, SparseLinear(layer).train(layer.training))
    return model
