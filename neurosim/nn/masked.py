"""Variable connection patterns: connections that a layer does without for its whole life.

Ott et al. 2020 (Learning in the machine: To share or not to share?, Sec. 4.2 and App. C) sever
every connection with some probability before training. What is absent stays absent: it adds
nothing to the output, its gradient is zero and its weight stays zero under any weight decay and
momentum. The paper's text and its code sever different things:

- **Absent weights** (the text; `sever_weights`): every weight by itself. Two neurons that look at
  the same place see different parts of it.
- **Absent inputs** (the code; `sever_inputs`): every element (channel, position) of the layer's
  input, before the layer. An absent element is missing from every neuron whose receptive field
  covers it, whatever its position and output channel, so this is a fixed set of dead input units
  rather than of dead connections. On a locally connected or a linear layer it equals absent
  weights in a pattern that all output channels share, and neighbouring positions share where they
  overlap; on a convolution it has no such form, since one filter serves all positions.

Both keep independent draws, so that the fraction is exact on average only, and both rescale
nothing. A pattern is a boolean buffer of the layer, `present` in the shape of the weight or
`present_inputs` in that of an input, and travels with it through state_dict, copies and
conversion.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurosim.errors import InvalidArgument, require
from neurosim.nn.dense import Dense
from neurosim.nn.local import LocallyConnected
from neurosim.nn.ops.local import from_storage

Size = int | tuple[int, ...]


class _Masked:
    """A convolution whose filters lack the connections that are not `present`."""

    def _conv_forward(self: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight * self.present, bias)  # type: ignore[misc]


class MaskedConv1d(_Masked, nn.Conv1d):
    """What `sever_weights` makes of an `nn.Conv1d`."""


class MaskedConv2d(_Masked, nn.Conv2d):
    """What `sever_weights` makes of an `nn.Conv2d`."""


class MaskedConv3d(_Masked, nn.Conv3d):
    """What `sever_weights` makes of an `nn.Conv3d`."""


class MaskedLinear(nn.Linear):
    """What `sever_weights` makes of an `nn.Linear`."""

    present: Tensor

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """(..., in_features) -> (..., out_features)."""
        return functional.linear(input, self.weight * self.present, self.bias)


MASKED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: MaskedConv1d,
    nn.Conv2d: MaskedConv2d,
    nn.Conv3d: MaskedConv3d,
    nn.Linear: MaskedLinear,
}


def sever_weights(
    layer: nn.Module, probability: float, generator: torch.Generator | None = None
) -> nn.Module:
    """Make every weight of the layer absent with this probability, in place, and return the layer.

    For locally connected layers, `nn.ConvNd`, `nn.Linear` and `Dense`. A convolution's pattern is
    that of its filter, the same at all positions.
    """
    _check_probability(probability)
    _check_supports_weights(layer)
    return set_pattern(layer, weights=_drawn(layer.weight.shape, probability, generator))  # type: ignore[arg-type]


def sever_inputs(
    layer: nn.Module,
    probability: float,
    input_size: Size | None = None,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Make every input element of the layer absent with this probability, in place; return it.

    For any layer that knows the shape of its input; an `nn.ConvNd` needs its `input_size`.
    """
    _check_probability(probability)
    return set_pattern(
        layer, inputs=_drawn(_input_shape(layer, input_size), probability, generator)
    )


@torch.no_grad()
def set_pattern(
    layer: nn.Module, weights: Tensor | None = None, inputs: Tensor | None = None
) -> nn.Module:
    """Give the layer a pattern of your own, in place: True for every connection that is present.

    `weights` must be broadcastable to `layer.weight`, `inputs` of the shape of one input,
    (channels, *size). A pattern is for life: a layer takes one of each kind.
    """
    if weights is not None:
        _check_supports_weights(layer)
        _check_pattern(layer, "present", weights)
        parameter: Any = layer.weight
        shape, wanted = tuple(weights.shape), tuple(parameter.shape)
        aligned = zip(reversed(shape), reversed(wanted), strict=False)
        fits = len(shape) <= len(wanted) and all(size in (1, whole) for size, whole in aligned)
        require(fits, "shape of weights", shape, f"broadcastable to {wanted}")
        present = torch.empty_like(parameter, dtype=torch.bool).copy_(weights)  # lies as it does
        layer.register_buffer("present", present)
        layer.__class__ = MASKED.get(type(layer), type(layer))
    if inputs is not None:
        _check_pattern(layer, "present_inputs", inputs)
        wanted = _input_shape(layer, None if _knows_its_input(layer) else tuple(inputs.shape[1:]))
        require(tuple(inputs.shape) == wanted, "shape of inputs", tuple(inputs.shape), f"{wanted}")
        layer.register_buffer(
            "present_inputs", inputs.to(next(layer.parameters()).device).contiguous()
        )
        layer.register_forward_pre_hook(_without_absent_inputs, with_kwargs=True)
    clear_absent(layer)
    return layer


def is_severed(layer: nn.Module) -> bool:
    """Whether the layer has a pattern, of either kind."""
    return any(getattr(layer, name, None) is not None for name in ("present", "present_inputs"))


def release_inputs(layer: nn.Module) -> None:
    """Take from a layer that is to become another one what keeps its absent inputs from it."""
    for key, hook in [*layer._forward_pre_hooks.items()]:
        if hook is _without_absent_inputs:
            del layer._forward_pre_hooks[key], layer._forward_pre_hooks_with_kwargs[key]


def mask_of(layer: nn.Module) -> Tensor | None:
    """Which weights of the layer are present, broadcastable to `layer.weight`; None if all are.

    Whatever averages weights over positions must count the present ones only: with m the mask,
    the mean is (w m).sum(positions) / m.sum(positions), 0 where no position has the connection,
    and writing it back is followed by `clear_absent`. Both kinds of pattern are in the mask. Zeros
    of the padding count as present: no pattern has severed them.
    """
    present, inputs = getattr(layer, "present", None), getattr(layer, "present_inputs", None)
    if isinstance(layer, nn.Linear | LocallyConnected) and inputs is not None:
        met = _met(layer, inputs) if isinstance(layer, LocallyConnected) else inputs.flatten()
        return met if present is None else present & met
    return present


def present_weight(layer: nn.Module) -> Tensor:
    """The layer's weight, with zeros for absent connections whatever stands in their place."""
    mask = mask_of(layer)
    weight: Any = layer.weight
    return weight if mask is None else weight * mask


@torch.no_grad()
def clear_absent(model: nn.Module) -> None:
    """Set absent weights to zero again, in every layer of the model.

    Outputs and gradients do not depend on it: they leave absent weights out, whatever their
    values. It is for whoever writes into `layer.weight` and for those who read it.
    """
    for layer in model.modules():
        mask = mask_of(layer)
        if mask is not None:
            layer.weight.mul_(mask)  # type: ignore[operator]


@torch.no_grad()
def unconnected(layer: nn.Module, input_size: Size | None = None) -> int:
    """How many of the layer's neurons, one per position and output channel, have no input at all.

    Such neurons are allowed; all they can show is their bias. Needs the `input_size` of a
    convolution with absent weights only.
    """
    inputs: Any = getattr(layer, "present_inputs", None)
    weight: Any = getattr(layer, "weight", None)
    kind = type(layer).__name__
    require(isinstance(weight, Tensor), "layer", kind, "one with a weight to count inputs by")
    shape = _input_shape(layer, input_size) if inputs is None else inputs.shape
    ones = {"weight": torch.ones_like(weight)}  # then a neuron's output counts its inputs
    if layer.bias is not None:
        ones["bias"] = torch.zeros_like(layer.bias)  # type: ignore[arg-type]
    counts = torch.func.functional_call(layer, ones, (weight.new_ones(1, *shape),))
    return int((counts == 0).sum())


def _drawn(shape: tuple[int, ...], probability: float, generator: Any) -> Tensor:
    """Present with probability 1 - p; drawn where the generator is, so that a seed is a seed."""
    device = "cpu" if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device) >= probability


def _without_absent_inputs(layer: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """A forward pre-hook; by name of this module, so that the layer can be pickled."""
    x = args[0] if args else kwargs["input"]
    present = layer.present_inputs
    if tuple(x.shape[-present.ndim :]) != tuple(present.shape):  # else it would be broadcast
        raise InvalidArgument(
            f"input of {type(layer).__name__} must be of shape {tuple(present.shape)}, with or "
            f"without batch axes before it, got {tuple(x.shape)}"
        )
    x = x * present
    return ((x, *args[1:]), kwargs) if args else (args, kwargs | {"input": x})


def _knows_its_input(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or hasattr(layer, "input_size")


def _input_shape(layer: Any, input_size: Size | None) -> tuple[int, ...]:
    """Shape of one input: the layer's own, or for a convolution with the size it is told."""
    kind = type(layer).__name__
    if _knows_its_input(layer):
        require(input_size is None, "input_size", input_size, f"None: a {kind} knows its own")
        if isinstance(layer, Dense):
            return layer.input_shape
        own = getattr(layer, "input_size", ())
        return (layer.in_channels, *own) if own else (layer.in_features,)
    axes = len(getattr(layer, "kernel_size", ()))
    require(axes, "layer", kind, "a linear, convolutional or locally connected layer")
    size = (input_size,) * axes if isinstance(input_size, int) else input_size
    valid = size is not None and len(size) == axes and all(n >= 1 for n in size)
    allowed = f"a whole number >= 1 or {axes} of them, which a {kind} does not know by itself"
    require(valid, "input_size", input_size, allowed)
    return (layer.in_channels, *size)  # type: ignore[misc]


def _met(layer: LocallyConnected, inputs: Tensor) -> Tensor:
    """Which inputs (C, *input) a filter meets at every position: (*output, 1 or O, C / g, *k)."""
    g, where = layer.geometry, layer.seen().to(inputs.device)
    met = inputs.flatten(1)[:, where] | (where < 0)  # (C, taps, positions)
    met = met.unflatten(0, (g.groups, -1)).permute(2, 3, 1, 0)
    if g.groups > 1:
        met = met.repeat_interleave(layer.out_channels // g.groups, -1)
    return from_storage(met.contiguous(), g)


def _check_probability(probability: float) -> None:
    valid = not isinstance(probability, bool) and 0 <= probability < 1
    require(valid, "probability", probability, "from 0 to below 1")


def _check_supports_weights(layer: nn.Module) -> None:
    known = type(layer) in MASKED or "present" in layer._buffers
    if not known or layer._parameters.get("weight") is None:
        raise InvalidArgument(
            "layer must be a LocallyConnectedNd, nn.ConvNd, nn.Linear or Dense with its weight as "
            f"a parameter for its weights to be severed, got {type(layer).__name__}"
        )


def _check_pattern(layer: Any, name: str, pattern: Tensor) -> None:
    what = {"present": "weights", "present_inputs": "inputs"}[name]
    if getattr(layer, name, None) is not None:
        raise InvalidArgument(
            f"layer must not have absent {what} yet, got a {type(layer).__name__} that has: a "
            "pattern is for life"
        )
    require(pattern.dtype == torch.bool, f"dtype of {what}", pattern.dtype, "torch.bool")
