"""How far the filters of neighbouring positions are apart (Ott et al. 2020, Sec. 5.4)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from neurosim.nn import LocallyConnected2d

RADII = (1, 4)


@torch.no_grad()
def filter_distance(layer: LocallyConnected2d, radius: int) -> tuple[float, float]:
    """Mean Euclidean and cosine distance between a position's filters and those around it.

    All filters of a position are one vector, divided by the norm of the whole layer. Neighbours
    lie on the ring max(|di|, |dj|) = radius; centres are at least that far from the border, and
    a map too small to have any gives NaN.
    """
    weight = layer.weight.detach().flatten(2).float()  # (H, W, O C k k)
    height, width = weight.shape[:2]
    if min(height, width) <= 2 * radius:
        return math.nan, math.nan
    weight = weight / torch.linalg.vector_norm(weight).clamp_min(1e-30)
    inner = (slice(radius, height - radius), slice(radius, width - radius))
    centre, lengths = weight[inner], torch.linalg.vector_norm(weight, dim=2)
    euclidean, cosine = [], []
    for di, dj in itertools.product(range(-radius, radius + 1), repeat=2):
        if max(abs(di), abs(dj)) < radius:
            continue
        moved = (_shifted(inner[0], di), _shifted(inner[1], dj))
        euclidean.append(torch.linalg.vector_norm(centre - weight[moved], dim=2).mean())
        product: Tensor = (centre * weight[moved]).sum(2)
        scale = (lengths[inner] * lengths[moved]).clamp_min(1e-30)
        cosine.append((1 - product / scale).mean())
    return float(torch.stack(euclidean).mean()), float(torch.stack(cosine).mean())


def _shifted(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)
