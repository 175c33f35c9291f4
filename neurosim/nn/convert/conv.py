"""From locally connected layers to convolutions: their mean filters, and how far they were from it.

The mean is the state that dynamic weight sharing converges to (Pogodin et al. 2021, Sec. 4).
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument
from neurosim.nn.convert.find import CONV, Conv, check_forward, named
from neurosim.nn.convert.replace import become, hand_over, settings
from neurosim.nn.local import LOCAL, LocallyConnected
from neurosim.nn.masked import mask_of


@dataclass(frozen=True)
class Spread:
    """How far the filters of a locally connected layer are from shared, over all its positions.

    Those of a layer that has slept may be shared while its biases, if it has some of every
    position, are not: a sleep leaves them.

    Attributes:
        distance: |w - mean| / |w| in the Frobenius norm, from 0 (shared) to 1 (no common part).
        mean_to_std: |mean| / std of every element of the filter, averaged over them. A std below
            the precision of the weights counts as that precision, so that a shared layer has a
            finite one, 1 / eps.
        bias_distance: the same as `distance` for biases of every position; 0 without them.
    """

    distance: float
    mean_to_std: float
    bias_distance: float = 0.0


def to_conv(model: nn.Module, *, inplace: bool = False) -> tuple[nn.Module, dict[str, Spread]]:
    """A copy of `model` whose locally connected layers are convolutions with their mean filters.

    Biases are averaged over positions, where they have them. The report says of every layer, by
    name, how far it was from shared before. With `inplace`, `model` itself is converted.
    """
    layers = named(model, (LocallyConnected,))
    if not layers:
        raise InvalidArgument(
            f"model must contain a locally connected layer, got {type(model).__name__}"
        )
    for layer, (name, *_) in layers.items():
        check_forward(name, layer, LOCAL.values(), ("forward",))
    names = [names[0] for names in layers.values()]
    model = model if inplace else deepcopy(model)
    report = {}
    for name in names:
        layer = model.get_submodule(name)
        conv, report[name] = _conv(layer)  # type: ignore[arg-type]
        become(layer, conv)
    return model, report


@torch.no_grad()
def _conv(layer: LocallyConnected) -> tuple[Conv, Spread]:
    mean, std, number = _statistics(layer)
    conv = CONV[layer.axes](**settings(layer)).to_empty(device=mean.device)
    conv.weight.copy_(mean)
    spread = _spread(mean, std, number)
    if layer.bias is not None and layer.bias.ndim > 1:
        biases = layer.bias.flatten(1)
        conv.bias.copy_(biases.mean(1))
        spread = replace(spread, bias_distance=_distance(biases))
    somewhere = None if layer.present is None else layer.present.flatten(0, layer.axes - 1).any(0)
    return hand_over(layer, conv, somewhere), spread


def _distance(biases: Tensor) -> float:
    """|b - mean| / |b| of (O, positions)."""
    apart = torch.linalg.vector_norm(biases - biases.mean(1, keepdim=True))
    return float(apart / torch.linalg.vector_norm(biases).clamp_min(1e-30))


def _statistics(layer: LocallyConnected) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and number of present weights over positions: (O, C / g, *kernel).

    Exact where all filters are equal, so that a round trip is too.
    """
    weight = layer.weight.flatten(0, layer.axes - 1)
    mask = mask_of(layer)
    if mask is None:
        std, mean = torch.std_mean(weight, dim=0, correction=0)  # one pass (Welford)
        return mean, std, torch.full(mean.shape, len(weight))
    present = mask.flatten(0, layer.axes - 1)
    number = present.sum(0).expand(weight.shape[1:])
    some = weight.masked_fill(~present, -math.inf).amax(0).masked_fill(number == 0, 0)
    weight, present = (weight - some) * present, present.expand_as(weight)
    shift = weight.sum(0) / number.clamp(min=1)
    variance = ((weight - shift) * present).square().sum(0) / number.clamp(min=1)
    return some + shift, variance.sqrt(), number


def _spread(mean: Tensor, std: Tensor, number: Tensor) -> Spread:
    precision = torch.finfo(mean.dtype).eps
    exist = (number > 0).to("cpu")
    mean, std, number = (x.to("cpu", torch.float64).abs()[exist] for x in (mean, std, number))
    variance = (number * std.square()).sum()
    total = variance + (number * mean.square()).sum()
    distance = (variance / total).sqrt().item() if total > 0 else 0.0
    mean_to_std = torch.where(std > precision * mean, mean / std, 1 / precision)
    return Spread(distance, mean_to_std.mean().item() if len(mean_to_std) else 0.0)
