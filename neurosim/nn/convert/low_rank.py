"""From convolutions and locally connected layers to low-rank ones; `to_local` leads back.

The filters of all positions, one row each, are a matrix whose rank is the K of a low-rank layer
that equals it (Sec. 3.2 of Elsayed et al. 2020). Its best approximation of rank K is what the K
largest singular values leave (Eckart and Young 1936): with M = U S V^T, combining weights are
U sqrt(S) and banks sqrt(S) V^T. The paper goes from low-rank to locally connected only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, cast

import torch
from torch import nn

from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.nn.combine import CombiningInit, Normalisation, Sharing
from neurosim.nn.convert.find import Example, Skip, called, named
from neurosim.nn.convert.local import Init
from neurosim.nn.convert.replace import become, replace_convolutions
from neurosim.nn.local import LocallyConnected, LocallyConnected2d
from neurosim.nn.low_rank import LowRankLocal2d
from neurosim.nn.masked import is_severed


def to_low_rank(
    model: nn.Module,
    example: Example | None,
    rank: int,
    skip: Skip | Sequence[Skip] = 0,
    init: Init = "independent",
    *,
    sharing: Sharing | None = None,
    normalisation: Normalisation = "softmax",
    combining: CombiningInit = "conv",
    input_dependent: bool = False,
    spatial_bias: bool = True,
    inplace: bool = False,
) -> nn.Module:
    """A copy of `model` with low-rank layers for its 2d convolutions and locally connected layers.

    Convolutions are found, skipped and refused as by `to_local`, and biases stay; locally
    connected layers become their best approximations of this rank (`low_rank_of`).

    Args:
        model: any module.
        example: what `to_local` takes; None for a model without convolutions.
        rank: K, or the number of a layer's positions where that is smaller.
        skip: convolutions to leave as they are, as for `to_local`.
        init: "independent" draws banks anew; "copy" makes all of them the convolution's filter;
            a number eps adds noise of eps times its root mean square whose mean over banks is 0.
            Both keep the outputs; with "copy" and equal combining weights banks never part.
        sharing: of fixed combining weights, as for `LowRankLocal2d`, like all that follow.
        normalisation: of combining weights.
        combining: how fixed combining weights start: "conv" where outputs are to stay.
        input_dependent: whether combining weights depend on the input.
        spatial_bias: whether layers have a bias per position.
        inplace: convert `model` itself instead of a copy.
    """
    if isinstance(init, str):
        require_choice("init", init, ("independent", "copy"))
    same = init == "independent" or (combining == "conv" and not input_dependent)
    require(same, "init", init, '"independent" unless all positions start with equal weights')

    def prepare(name: str, conv: Any, size: tuple[int, ...]) -> Callable[[Any], nn.Module]:
        _check(name, conv)
        shape = _layer(conv, size, min(rank, _positions(conv, size)), device="meta", **options)

        def finish(conv: Any) -> nn.Module:
            layer = shape.to_empty(device=conv.weight.device)
            return _filled(layer, conv, init)

        return finish

    options = {
        "sharing": sharing, "normalisation": normalisation, "init": combining,
        "input_dependent": input_dependent, "spatial_bias": spatial_bias,
    }  # fmt: skip
    local = {}
    for layer, (name, *_) in named(model, (LocallyConnected,)).items():
        _check(name, layer)
        local[name] = low_rank_of(layer, min(rank, layer.geometry.positions))  # type: ignore[union-attr, arg-type]
    if example is None and local:
        model = model if inplace else deepcopy(model)
    else:
        require(example is not None, "example", example, "given for a model with convolutions")
        model = replace_convolutions(model, example, skip, prepare, inplace=inplace)  # type: ignore[arg-type]
    for name, layer in local.items():
        become(model.get_submodule(name), layer)
    return model


@torch.no_grad()
def low_rank_of(layer: LocallyConnected2d, rank: int) -> LowRankLocal2d:
    """The best approximation of a locally connected layer with K banks, from its filters' SVD.

    Best in the sum of squares over all filters. A bias per position and channel, of which a
    low-rank layer has the sum of both only, is approximated in the same sense.
    """
    _check(layer.name, layer)
    made: Any = _layer(
        layer, layer.input_size, rank, sharing="position", normalisation="none",
        spatial_bias=layer.bias is not None and layer.bias.ndim > 1, device=layer.weight.device,
    )  # fmt: skip
    filters = layer.weight.flatten(2).flatten(0, 1)  # (positions, O C taps)
    wide = filters.to(torch.promote_types(filters.dtype, torch.float32))
    left, values, right = torch.linalg.svd(wide, full_matrices=False)
    scale = values[:rank].sqrt()  # fewer than K where filters have fewer weights than that
    for parameter in (made.bases[0], table := made.combine.table):
        parameter.zero_()
    made.bases[0].flatten(1)[: len(scale)] = scale[:, None] * right[:rank]
    table.flatten(1)[: len(scale)] = (left[:, :rank] * scale).t()
    if layer.bias is not None and made.bias is not None:
        if made.spatial_bias is not None:
            channel = layer.bias.mean((1, 2))
            made.bias.copy_(channel)
            made.spatial_bias.table.copy_((layer.bias - channel[:, None, None]).mean(0))
        else:
            made.bias.copy_(layer.bias)
    _train_like(layer, made)
    return made.train(layer.training)


def _train_like(old: Any, new: LowRankLocal2d) -> None:
    """What stands for frozen filters is frozen, and so is what stands for a frozen bias."""
    for name, parameter in new.named_parameters():
        of_bias = name.startswith(("bias", "spatial_bias"))
        like = old.bias if of_bias and old.bias is not None else old.weight
        parameter.requires_grad_(like.requires_grad)


def _layer(like: Any, size: Sequence[int], rank: int, **options: Any) -> LowRankLocal2d:
    """A low-rank layer with the arguments of a convolution or a locally connected layer."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    same = {name: getattr(like, name) for name in names}
    bias = like.bias is not None
    return LowRankLocal2d(
        input_size=size, rank=rank, bias=bias, dtype=like.weight.dtype, **same, **options
    )


def _positions(conv: nn.Conv2d, size: Sequence[int]) -> int:
    return math.prod(_layer(conv, size, 1, device="meta").output_size)


def _check(name: str, layer: Any) -> None:
    """Refuse what low-rank layers do not have."""
    way_out = "" if isinstance(layer, LocallyConnected) else ": name it in skip"
    has = {"groups": (layer.groups, 1), "padding_mode": (layer.padding_mode, "zeros")}
    if layer.weight.ndim not in (4, 6):
        raise InvalidArgument(
            f"{called(name)} must be two-dimensional to become low-rank, got "
            f"{type(layer).__name__}{way_out}"
        )
    for argument, (value, only) in has.items():
        if value != only:
            raise InvalidArgument(
                f"{called(name)} must have {argument} {only!r} to become low-rank, got {value!r}"
                f"{way_out}"
            )
    if is_severed(layer):
        raise InvalidArgument(
            f"{called(name)} must have all its connections to become low-rank, got a "
            f"{type(layer).__name__} with absent ones{way_out}"
        )


@torch.no_grad()
def _filled(layer: LowRankLocal2d, conv: nn.Conv2d, init: Init) -> LowRankLocal2d:
    """Banks and bias from those of a convolution."""
    layer.reset_parameters()
    if init != "independent":
        banks = layer.bases[0]
        start = layer.combining()[0, 0, 0]  # the same for all banks and positions
        banks.copy_((conv.weight / (layer.rank * start)).expand_as(banks))
        if init != "copy" and layer.rank > 1:
            noise = torch.randn_like(banks)
            rms = banks.square().mean().sqrt()
            banks += float(init) * rms * (noise - noise.mean(0))
    if conv.bias is not None:
        layer.bias = cast(nn.Parameter, conv.bias)
    _train_like(conv, layer)
    return layer.train(conv.training)
