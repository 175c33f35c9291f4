"""How local the filters of a fully connected layer are: weight near a filter's centre, and chance.

The weight of a filter is the sum of |w| over input channels, its centre the mean place of that
weight, and locality the share of it at most `radius` pixels from the centre along both axes, so
that radius 4 is the 9x9 window of S-CONV (Neyshabur 2020, Fig. 4 shows such filters). Of filters
without any weight there is none.

Chance is the same number for filters that have lost their order: "pixels", each filter's weights
at places of a random permutation of its own; "units", the weights of each pixel given to the units
in an order of its own, which keeps that some pixels are never used, as at the border of MNIST.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim.data.random import generator
from neurosim.nn.arrange import magnitude
from neurosim.nn.dense import Dense

RADII = (1, 2, 4)
KINDS = ("learned", "pixels", "units")


@torch.no_grad()
def locality(layer: Dense, radii: Sequence[int] = RADII, seed: int = 0) -> Tensor:
    """Mean locality of all filters with weight, and its chance levels, (kinds, radii)."""
    weight = magnitude(layer)
    weight = weight[weight.flatten(1).any(1)]
    # A stream of its own: weights may have been drawn from torch's with the same seed.
    drawn = torch.Generator(weight.device)
    drawn.manual_seed(int(generator("locality", seed).integers(2**63)))
    kinds = weight, _shuffled(weight, 1, drawn), _shuffled(weight, 0, drawn)
    return torch.stack([torch.stack([_share(w, r) for r in radii]) for w in kinds])


def _share(weight: Tensor, radius: int) -> Tensor:
    """Of filters (units, H, W) the mean share within a window around their centres."""
    total = weight.sum((1, 2))
    used = total > 0  # a shuffle of few weights may leave a unit none
    near = []
    for axis in (1, 2):
        place = torch.arange(weight.shape[axis], device=weight.device, dtype=weight.dtype)
        centre = (weight.sum(3 - axis) @ place / total.clamp_min(1e-30)).round()
        near.append(((place - centre[:, None]).abs() <= radius).to(weight.dtype))
    inside = torch.einsum("uhw,uh,uw->u", weight, *near)
    return (inside[used] / total[used]).mean()


def _shuffled(weight: Tensor, axis: int, drawn: torch.Generator) -> Tensor:
    """Filters with another order along the axis of units (0) or pixels (1), by itself each."""
    flat = weight.flatten(1)
    keys = torch.rand(flat.shape, generator=drawn, device=flat.device)
    return flat.gather(axis, keys.argsort(axis)).view_as(weight)
