"""How far the filters of neighbouring positions are apart (Ott et al. 2020, Sec. 5.4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurosim.nn import LocallyConnected2d
from neurosim.nn.ops.local import to_storage
from neurosim.sleep.layers import exact_products

RADII = (1, 4)


@torch.no_grad()
def filter_distances(layer: LocallyConnected2d, radii: Sequence[int] = RADII) -> Tensor:
    """Mean Euclidean and cosine distance of every position to those around it, (radii, 2).

    All filters of a position are one vector, divided by the norm of the whole layer. Neighbours
    lie on the ring max(|di|, |dj|) = radius; centres are at least that far from the border, and
    a map too small to have any gives NaN.
    """
    height, width = layer.output_size
    filters = to_storage(layer.weight.detach(), layer.geometry).flatten(2).float()
    filters = filters / torch.linalg.vector_norm(filters).clamp_min(1e-30)
    filters = filters.unflatten(1, (height, width))  # (taps, H, W, C O)
    lengths = torch.linalg.vector_norm(filters, dim=(0, 3))  # (H, W)
    # Differences are the same without the mean, and nearly equal filters do not cancel then.
    filters -= filters.mean((1, 2), keepdim=True)
    possible = [radius for radius in radii if min(height, width) > 2 * radius]
    with exact_products():
        rows = [_between_rows(filters, lengths, n) for n in range(max(possible, default=-1) + 1)]
    nothing = filters.new_full((2,), torch.nan)
    found = [_ring_mean(rows, radius) if radius in possible else nothing for radius in radii]
    return torch.stack(found)


def _between_rows(filters: Tensor, lengths: Tensor, down: int) -> Tensor:
    """Both distances between (h, w) and (h + down, v), (2, H - down, W, W), by one product.

    With the lengths a and b of two filters, and d^2 = a^2 + b^2 - 2 u.v between them, the cosine
    distance is 1 - u.v / (a b) = (d^2 - (a - b)^2) / (2 a b).
    """
    last = len(lengths) - down
    squares = filters.square().sum((0, 3))
    products = (filters[:, :last] @ filters[:, down:].mT).sum(0)  # (H - down, W, W)
    squared = squares[:last, :, None] + squares[down:, None, :] - 2 * products
    squared.clamp_min_(0)
    a, b = lengths[:last, :, None], lengths[down:, None, :]
    cosine = (squared - (a - b).square()) / (2 * a * b).clamp_min(1e-30)
    return torch.stack([squared.sqrt(), cosine])


def _ring_mean(rows: Sequence[Tensor], radius: int) -> Tensor:
    """Mean distances (2,) between centres and their rings, from those between rows `down` apart."""
    height, width = rows[0].shape[1:3]
    column = torch.arange(width, device=rows[0].device)
    apart = (column[:, None] - column).abs()
    inside = (column >= radius) & (column < width - radius)
    total = rows[0].new_zeros(2)
    for down in range(radius + 1):
        ring = apart <= radius if down == radius else apart == radius
        below = rows[down][:, radius : height - radius]  # the neighbour is below the centre
        total += (below * (ring & inside[:, None])).sum((1, 2, 3))
        if down:
            above = rows[down][:, radius - down : height - radius - down]
            total += (above * (ring & inside)).sum((1, 2, 3))
    return total / (8 * radius * (height - 2 * radius) * (width - 2 * radius))
