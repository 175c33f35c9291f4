"""From convolutions to locally connected layers, in any torch model.

A locally connected network is a convolutional one whose output positions have filters of their
own (Pogodin et al. 2021, Sec. 1), so any model that knows its input size has such a twin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.nn.convert.find import CONVOLUTIONS, Conv, Example, Skip, called, named
from neurosim.nn.convert.replace import become, hand_over, replace_convolutions, settings
from neurosim.nn.dense import Dense, in_fields, local_weight, localised_geometry
from neurosim.nn.local import LOCAL, LocallyConnected
from neurosim.nn.low_rank import LowRankLocal2d
from neurosim.nn.masked import present_weight
from neurosim.nn.ops.local import check_backend

Init = Literal["independent", "copy"] | float


def to_local(
    model: nn.Module,
    example: Example,
    skip: Skip | Sequence[Skip] = 0,
    init: Init = "independent",
    *,
    freeze_skipped: bool = False,
    backend: str = "auto",
    inplace: bool = False,
) -> nn.Module:
    """A copy of `model` in which every convolution is a locally connected layer.

    Low-rank layers become the locally connected ones with the same outputs, whatever `init`.
    `Dense` layers, which `to_dense` has made, become local again if their weights lie in their
    receptive fields (`init` "copy") or are drawn anew.

    Names, devices, dtypes, modes, hooks, `requires_grad` and biases (one per channel, with their
    values) stay. A module that has several names or is called several times stays shared among
    them. The number of output positions comes from one forward pass of the example, through a
    second copy in eval mode: it leaves no trace in statistics, random state or the model.

    Args:
        model: any module; its convolutions must each be reached, at one input size.
        example: an input, a sequence of inputs (one per argument of the model), or the shape of
            one: with batch and channels, or only the spatial size, as a number or one per axis,
            with the channels of the model's first convolution.
        skip: convolutions to leave as they are: a count (the first ones that the example
            reaches), a name or glob pattern, a predicate of name and module such as `pointwise`,
            or several of these. The papers keep the first layer (App. B.2) or 1x1 layers.
        init: "independent" draws every filter anew (Kaiming normal, App. B); "copy" keeps the
            convolution's, so that the outputs stay the same; a number eps keeps it and adds
            independent noise of eps times the root mean square of the layer's weights.
        freeze_skipped: whether skipped convolutions stop being trained.
        backend: of the new layers.
        inplace: convert `model` itself, once every check has passed, instead of a copy. An
            optimizer made before still holds the old weights.
    """
    if isinstance(init, str):
        require_choice("init", init, ("independent", "copy"))
    else:
        valid = not isinstance(init, bool) and 0 <= init < math.inf
        require(valid, "init", init, '"independent", "copy" or a number >= 0')
    check_backend(backend)

    def prepare(name: str, conv: Conv, size: tuple[int, ...]) -> Callable[[Conv], nn.Module]:
        twin = twin_of(conv, name, size, init, backend)
        twin.name = name
        return lambda conv: _filled(twin, conv, init)

    expanded = _expanded(model, init, backend)
    if expanded and not named(model, CONVOLUTIONS):
        model = model if inplace else deepcopy(model)
    else:
        model = replace_convolutions(
            model, example, skip, prepare, freeze_skipped=freeze_skipped, inplace=inplace
        )
    for name, layer in expanded.items():
        old = model.get_submodule(name)
        become(old, hand_over(old, layer, _local_pattern(old, layer)))
    return model


def twin_of(
    conv: Conv, name: str, size: tuple[int, ...], init: Init, backend: str
) -> LocallyConnected:
    """The layer that a convolution becomes, still without memory for its weights."""
    drawn = 0.0 if init == "copy" else init  # what a later reset_parameters does
    try:
        return LOCAL[len(size)](**settings(conv), input_size=size, backend=backend, init=drawn)
    except InvalidArgument as error:
        raise InvalidArgument(f"{called(name)} cannot be local: {error}") from error


@torch.no_grad()
def _filled(twin: LocallyConnected, conv: Conv, init: Init) -> LocallyConnected:
    layer = twin.to_empty(device=conv.weight.device)
    if init == "independent":
        layer.reset_parameters()
    elif init == "copy":
        layer.weight.copy_(conv.weight)
    else:
        scale = conv.weight.square().mean().sqrt()
        layer.weight.normal_().mul_(init * scale).add_(conv.weight)
    return hand_over(conv, layer, getattr(conv, "present", None))  # type: ignore[arg-type]


def _expanded(model: nn.Module, init: Init, backend: str) -> dict[str, LocallyConnected]:
    """Low-rank and dense layers with filters of its own for every position, by first name."""
    found = {
        name: _localised(layer, name, init)  # type: ignore[arg-type]
        for layer, (name, *_) in named(model, (Dense,)).items()
    }
    for layer, (name, *_) in named(model, (LowRankLocal2d,)).items():
        try:
            found[name] = layer.expanded(backend)  # type: ignore[operator]
        except InvalidArgument as error:
            raise InvalidArgument(f"{called(name)} cannot be local: {error}") from error
        found[name].name = name
    return found


def _localised(layer: Dense, name: str, init: str | float) -> LocallyConnected:
    """The locally connected layer that a dense one embeds, with a bias for every position.

    `init` "copy" keeps the weights and refuses those outside of the receptive fields; others
    draw them anew, as `to_local` has it.
    """
    bias = "position" if layer.bias is not None else False
    drawn = 0.0 if init == "copy" else init
    local = localised_geometry(layer, bias=bias, init=drawn).to_empty(device=layer.weight.device)
    local.name = name
    if init == "copy":
        weight = present_weight(layer)
        filters, outside = local_weight(weight, local)
        if outside:
            count = int(weight.count_nonzero())
            raise InvalidArgument(
                f"layer {name!r} must be local to become locally connected, got {outside:,} of "
                f"{count:,} non-zero weights outside of its receptive fields of size "
                f"{local.kernel_size}: arrange its units (neurosim.nn.arrange), set such weights "
                "to 0 (neurosim.nn.restrict), or take larger ones"
            )
        with torch.no_grad():
            local.weight.copy_(filters)
            if layer.bias is not None and local.bias is not None:
                local.bias.copy_(layer.bias.view_as(local.bias))
    else:
        local.reset_parameters()
    return local


def _local_pattern(layer: nn.Module, local: LocallyConnected) -> Tensor | None:
    """Which taps are present of what a layer becomes; those that meet the padding are."""
    present = getattr(layer, "present", None)
    return None if present is None else in_fields(present, local, beyond=True)
