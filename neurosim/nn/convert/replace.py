"""Putting one layer in the place of another: what stays, what follows, what is handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from neurosim.errors import InvalidArgument
from neurosim.nn.convert.find import (
    CONVOLUTIONS,
    Conv,
    Example,
    Skip,
    called,
    check_convolution,
    input_sizes,
    named,
    selected,
)
from neurosim.nn.local import LocallyConnected
from neurosim.nn.masked import release_inputs, set_pattern


def replace_convolutions(
    model: nn.Module,
    example: Example,
    skip: Skip | Sequence[Skip],
    prepare: Callable[[str, Any, tuple[int, ...]], Callable[[Any], nn.Module]],
    *,
    freeze_skipped: bool = False,
    inplace: bool = False,
) -> nn.Module:
    """A copy of `model` whose convolutions are other layers; arguments as for `to_local`.

    `prepare` refuses a convolution that it cannot replace, by name, convolution and input size;
    what it returns makes the new layer once all have been accepted.
    """
    convolutions = named(model, CONVOLUTIONS)
    if not convolutions:
        raise InvalidArgument(f"model must contain a convolution, got {type(model).__name__}")
    for module, (name, *_) in convolutions.items():
        if isinstance(module, LazyModuleMixin):
            raise InvalidArgument(
                f"{called(name)} must know its shape, got {type(module).__name__}: run the model "
                "once before converting it"
            )

    sizes = input_sizes(model, example)
    skipped = selected(convolutions, list(sizes), skip)
    finish = {}
    for name in (names[0] for names in convolutions.values() if names[0] not in skipped):
        check_convolution(model, name, sizes.get(name, []))
        finish[name] = prepare(name, model.get_submodule(name), sizes[name][0])

    model = model if inplace else deepcopy(model)
    for name, finished in finish.items():
        conv = model.get_submodule(name)
        become(conv, finished(conv))
    if freeze_skipped:
        for name in skipped:
            model.get_submodule(name).requires_grad_(False)
    return model


def settings(layer: Conv | LocallyConnected) -> dict[str, Any]:
    """What both kinds of layer are made with; on meta, where nothing is drawn or allocated."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    same = {name: getattr(layer, name) for name in (*names, "groups", "padding_mode")}
    return same | {"bias": layer.bias is not None, "device": "meta", "dtype": layer.weight.dtype}


def hand_over(old: nn.Module, new: Any, present: Tensor | None = None) -> Any:
    """Give a layer what it keeps of the one it replaces, besides its arguments and filters.

    That is its absent inputs, a bias of the same shape, the mode, and what is trained. Absent
    weights are `present` where the new layer has weights of another shape.
    """
    set_pattern(new, present, getattr(old, "present_inputs", None))
    bias: Any = old.bias
    if bias is not None and bias.shape == new.bias.shape:
        new.bias = bias
    elif bias is not None:
        new.bias.requires_grad_(bias.requires_grad)
    trained = (p.requires_grad for name, p in old.named_parameters() if "bias" not in name)
    new.weight.requires_grad_(any(trained))
    return new.train(old.training)


def become(old: nn.Module, new: nn.Module) -> None:
    """Turn `old` into `new` where it stands.

    Every reference follows: other names of a tied layer, lists that no module knows of, hooks.
    Patterns do not: `hand_over` is for what they are in the new layer.
    """
    release_inputs(old)
    state = vars(new)
    for key, value in vars(old).items():
        if "hook" in key and value:
            if isinstance(value, dict):  # the very dict, which handles remove hooks from
                value.update(state[key])
            state[key] = value
    vars(old).clear()
    old.__class__ = new.__class__
    vars(old).update(state)
