"""The reference: loop over output positions and apply each one's own filter."""

from __future__ import annotations

import itertools
from math import prod

import torch
from torch import Tensor

from neurosim.nn.ops.local.geometry import Geometry


def local_naive(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """y[n, o, p] = sum_{i, t} x[n, i, p stride + t dilation] weight[p, o, i, t].

    x is (N, C, *input), with zeros around it where the geometry says so; weight
    (*output, O, C / groups, *kernel); y (N, O, *output). Autograd differentiates it as it stands.
    """
    x = torch.nn.functional.pad(x, geometry.pads)
    groups, outputs = geometry.groups, weight.shape[len(geometry.output_size)]
    terms = x.shape[1] // groups * prod(geometry.kernel_size)
    columns = []
    for position in itertools.product(*map(range, geometry.output_size)):
        patch = tuple(
            slice(p * stride, p * stride + dilation * (kernel - 1) + 1, dilation)
            for p, stride, dilation, kernel in zip(
                position, geometry.stride, geometry.dilation, geometry.kernel_size, strict=True
            )
        )
        seen = x[(slice(None), slice(None), *patch)].reshape(len(x), groups, terms)
        filters = weight[position].reshape(groups, outputs // groups, terms)
        columns.append(torch.einsum("ngi,goi->ngo", seen, filters).reshape(len(x), outputs))
    return torch.stack(columns, -1).reshape(len(x), outputs, *geometry.output_size)
