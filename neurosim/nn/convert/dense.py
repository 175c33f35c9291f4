"""Any convolutional or locally connected network as the fully connected one that it is part of.

The functions of a fully connected network include those of the locally connected one with the
same units, which include those of the convolutional one (Neyshabur 2020, Sec. 2; d'Ascoli et al.
2019). `to_dense` takes a model up, `to_local` takes it down again.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import nn

from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.nn.convert.find import (
    CONVOLUTIONS,
    Example,
    Skip,
    called,
    check_convolution,
    check_forward,
    input_sizes,
    named,
    selected,
)
from neurosim.nn.convert.local import twin_of
from neurosim.nn.convert.replace import become, hand_over, settings
from neurosim.nn.dense import Dense, UnitNorm, embedded, embedded_pattern
from neurosim.nn.local import LOCAL, LocallyConnected
from neurosim.nn.masked import present_weight

NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def to_dense(
    model: nn.Module,
    example: Example,
    skip: Skip | Sequence[Skip] = 0,
    init: Literal["copy", "independent"] = "copy",
    *,
    units: bool = False,
    inplace: bool = False,
) -> nn.Module:
    """A copy of `model` whose convolutional and locally connected layers are fully connected.

    Args:
        model: any module; its convolutions must each be reached, at one input size.
        example: as for `to_local`; a tensor where the model has no convolution.
        skip: convolutions and local layers to leave as they are, as for `to_local`.
        init: "copy" keeps outputs as they are; "independent" draws every weight anew.
        units: whether batch norm over a channel's positions becomes one of every unit by itself,
            with the channel's numbers: equal outputs in eval mode, but nothing is left that says
            which units form a channel.
        inplace: convert `model` itself instead of a copy.
    """
    require_choice("init", init, ("copy", "independent"))
    kinds = (*CONVOLUTIONS, LocallyConnected)
    layers = named(model, kinds)
    if not layers:
        raise InvalidArgument(
            "model must contain a convolution or a locally connected layer, got "
            f"{type(model).__name__}"
        )
    sizes = input_sizes(model, example, (*kinds, *(NORMS if units else ())))
    reached = [name for name in sizes if isinstance(model.get_submodule(name), kinds)]
    skipped = selected(layers, reached, skip)
    origins: dict[str, LocallyConnected] = {}
    for layer, (name, *_) in layers.items():
        if name in skipped:
            continue
        if isinstance(layer, LocallyConnected):
            check_forward(name, layer, LOCAL.values(), ("forward",))
            origins[name] = layer
        else:
            check_convolution(model, name, sizes.get(name, []))
            origins[name] = twin_of(layer, name, sizes[name][0], "copy", "auto")  # type: ignore[arg-type]
    norms = {name: n for n, (name, *_) in named(model, NORMS).items() if units and name in sizes}
    for name, norm in norms.items():
        check_forward(name, norm, NORMS, ("forward",))
        statistics = getattr(norm, "running_mean", None) is not None
        allowed = "True: a channel's batch statistics are not those of its units"
        require(statistics, f"track_running_stats of {called(name)}", statistics, allowed)
    model = model if inplace else deepcopy(model)
    for name, origin in origins.items():
        layer = model.get_submodule(name)
        become(layer, _dense(layer, origin, init))
    for name in norms:
        layer = model.get_submodule(name)
        become(layer, _unit_norm(layer, sizes[name][0]))
    return model


@torch.no_grad()
def _dense(layer: Any, origin: LocallyConnected, init: str) -> Dense:
    g = origin.geometry
    shapes = (origin.in_channels, *origin.input_size), (origin.out_channels, *g.output_size)
    dense = Dense(*shapes, layer.bias is not None, device="meta", dtype=layer.weight.dtype)
    dense.origin = settings(origin) | {"input_size": origin.input_size}
    del dense.origin["device"], dense.origin["dtype"]
    if init == "independent":
        dense = dense.to_empty(device=layer.weight.device)
        dense.reset_parameters()
    else:
        filters = present_weight(layer).expand(origin.weight.shape)
        dense.weight = nn.Parameter(embedded(origin, filters))
    if layer.bias is not None:
        bias = layer.bias if layer.bias.ndim > 1 else layer.bias[:, None]
        dense.bias = nn.Parameter(bias.flatten(1).expand(-1, g.positions).flatten().clone())
    present = getattr(layer, "present", None)
    if present is not None:
        present = embedded_pattern(origin, present.expand(origin.weight.shape))
    return hand_over(layer, dense, present)


@torch.no_grad()
def _unit_norm(norm: Any, space: tuple[int, ...]) -> UnitNorm:
    """Every unit with the numbers of its channel."""
    positions = torch.Size(space).numel()
    like = next(itertools.chain(norm.parameters(), norm.buffers()), None)
    units = UnitNorm(
        norm.num_features * positions, norm.eps, norm.momentum, norm.affine,
        norm.track_running_stats,
        **({} if like is None else {"device": like.device, "dtype": like.dtype}),
    )  # fmt: skip
    for name, value in norm.state_dict().items():
        own = getattr(units, name)
        own.copy_(value.repeat_interleave(positions) if value.ndim else value)
    for name, parameter in norm.named_parameters():
        getattr(units, name).requires_grad_(parameter.requires_grad)
    return units.train(norm.training)
