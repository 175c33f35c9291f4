"""Fully connected layers between maps: what convolutions and local layers are special cases of.

Every layer with receptive fields is a fully connected one most of whose weights are zero
(d'Ascoli et al. 2019; Neyshabur 2020, Sec. 2). With output channel o at position p, input
channel c at position q, and the tap t by which p sees q,

    weight[(o, p), (c, q)] = sum over taps t of p that see q of filter[p][o, c, t]

`embedded` makes it from filters, and `local_weight` takes them out again where nothing lies
outside of their receptive fields.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurosim.errors import InvalidArgument, require
from neurosim.nn.local import LOCAL, LocallyConnected


class Dense(nn.Linear):
    """A fully connected layer from maps to maps: (N, *input_shape) -> (N, *output_shape).

    `weight` and `bias` are those of `nn.Linear` over all units, channels first. `origin` are the
    arguments of the locally connected layer that it embeds, if it was made from one: where its
    receptive fields would be.
    """

    origin: dict[str, Any] | None = None
    present: Tensor | None

    def __init__(
        self,
        input_shape: Sequence[int],
        output_shape: Sequence[int],
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, shape in (("input_shape", input_shape), ("output_shape", output_shape)):
            valid = len(shape) >= 1 and all(size >= 1 for size in shape)
            require(valid, name, tuple(shape), "channels and sizes, each >= 1")
        self.input_shape, self.output_shape = tuple(input_shape), tuple(output_shape)
        units = math.prod(self.input_shape), math.prod(self.output_shape)
        super().__init__(*units, bias, device, dtype)
        self.register_buffer("present", None)  # which connections are; see neurosim.nn.masked

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Kaiming normal with fan-in and ReLU gain; biases uniform within 1 / sqrt(fan-in)."""
        self.weight.normal_(0, math.sqrt(2 / self.in_features))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            self.bias.uniform_(-bound, bound)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """(N, *input_shape) -> (N, *output_shape)."""
        if tuple(input.shape[1:]) != self.input_shape:
            raise InvalidArgument(
                f"input of Dense must be of shape {self.input_shape} after a batch axis, got "
                f"{tuple(input.shape)}"
            )
        weight = self.weight if self.present is None else self.weight * self.present
        y = functional.linear(input.flatten(1), weight, self.bias)
        return y.unflatten(1, self.output_shape)

    def extra_repr(self) -> str:
        """The shapes."""
        return f"{self.input_shape}, {self.output_shape}, bias={self.bias is not None}"


class UnitNorm(nn.BatchNorm1d):
    """Batch norm of every unit of a map by itself: what fully connected layers have.

    Statistics of a channel tie its units together and would know which units form a map.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """(N, C, *space) -> (N, C, *space)."""
        return super().forward(input.flatten(1)).view_as(input)


@torch.no_grad()
def embedded(layer: LocallyConnected, filters: Tensor) -> Tensor:
    """Filters for the layer's positions among zeros, (O P, C Q)."""
    where, g = layer.seen().to(filters.device), layer.groups
    positions = layer.geometry.positions
    by_tap = filters.flatten(0, layer.axes - 1).flatten(3)  # (P, O, C / g, taps)
    image = math.prod(layer.input_size)
    found = filters.new_zeros(g, layer.out_channels // g, positions, layer.in_channels // g, image)
    for tap, q in enumerate(where):
        p = (q >= 0).nonzero().flatten()
        values = by_tap[p, ..., tap].unflatten(1, (g, -1))  # (p, g, O / g, C / g)
        for group in range(g):
            found[group][:, p, :, q[p]] += values[:, group]
    if g == 1:
        return found.view(layer.out_channels * positions, -1)
    blocks = [found[group].flatten(0, 1).flatten(1) for group in range(g)]
    return torch.block_diag(*blocks)


def embedded_pattern(layer: LocallyConnected, present: Tensor) -> Tensor:
    """Which connections of the fully connected layer are present, (O P, C Q).

    Those outside of receptive fields are, and of those inside all that have a present tap: with
    padding that repeats the image several taps meet one and the same element.
    """
    return embedded(layer, present) | ~embedded(layer, ~present)


@torch.no_grad()
def in_fields(matrix: Tensor, layer: LocallyConnected, beyond: float | bool) -> Tensor:
    """The elements of a fully connected layer's matrix that its taps are, in the shape of filters.

    `beyond` stands for taps that meet the padding.
    """
    where, g, positions = layer.seen().to(matrix.device), layer.groups, layer.geometry.positions
    image = math.prod(layer.input_size)
    whole = matrix.view(layer.out_channels, positions, layer.in_channels, image)
    filters = matrix.new_full(layer.weight.shape, beyond)
    by_tap = filters.flatten(0, layer.axes - 1).flatten(3)
    rows, columns = layer.out_channels // g, layer.in_channels // g
    for tap, q in enumerate(where):
        p = (q >= 0).nonzero().flatten()
        for group in range(g):
            o, c = (slice(group * n, (group + 1) * n) for n in (rows, columns))
            by_tap[p, o, :, tap] = whole[o][:, p][:, :, c][
                :, torch.arange(len(p), device=p.device), :, q[p]
            ]
    return by_tap.view(filters.shape)


@torch.no_grad()
def local_weight(weight: Tensor, layer: LocallyConnected) -> tuple[Tensor, int]:
    """What of a fully connected weight lies in the layer's receptive fields, as its filters.

    And the number of non-zero weights that lie outside of them.
    """
    if layer.padding_mode != "zeros":
        raise InvalidArgument(
            f'padding_mode must be "zeros" for a receptive field that sees every input once, got '
            f"{layer.padding_mode!r}"
        )
    filters = in_fields(weight, layer, 0)
    outside = int(weight.count_nonzero()) - int(filters.count_nonzero())
    return filters, outside


def localised_geometry(layer: Dense, **changes: Any) -> LocallyConnected:
    """The locally connected layer whose receptive fields a dense one has, without memory."""
    if layer.origin is None:
        raise InvalidArgument(
            "layer must have receptive fields to become local, got a Dense whose origin is None: "
            "set it to the arguments of a locally connected layer"
        )
    kind = LOCAL[len(layer.output_shape) - 1]
    return kind(**layer.origin | changes, device="meta", dtype=layer.weight.dtype)


@torch.no_grad()
def restrict(layer: Dense) -> float:
    """Set weights outside of the layer's receptive fields to 0; the share of |w| that is lost."""
    before = layer.weight.abs().sum()
    inside = localised_geometry(layer)
    filters, _ = local_weight(layer.weight, inside)
    layer.weight.copy_(embedded(inside, filters))
    return float(1 - layer.weight.abs().sum() / before.clamp_min(1e-30))
