"""A backend as torch operators: three functions become one differentiable product.

Forward, input gradient and weight gradient are the three contractions of the same trilinear
form, sum y . (x * w): each one's derivatives are the other two, which is how they are registered
with autograd, to any order. Registered, each is one node of known shape to a compiler.

A plan tells an operator what its operands do not: the geometry, and whether activations come out
channels-last. It travels as one flat list, because an operator's schema knows no dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from neurosim.nn.ops.local.geometry import Geometry
from neurosim.nn.ops.local.layout import is_channels_last, new_activation, to_storage

Contraction = Callable[[Tensor, Tensor, Geometry, bool], Tensor]
Product = Callable[[Tensor, Tensor, Geometry], Tensor]
Operator = Callable[[Tensor, Tensor, Sequence[int]], Tensor]


def register(
    name: str, forward: Contraction, input_gradient: Contraction, weight_gradient: Contraction
) -> Product:
    """The product of `local_naive`, from the three contractions of a backend.

    They take two tensors, the geometry and whether activations come out channels-last:

        forward          x (N, C, *input),     weight (taps, positions, C / groups, O)  -> y
        input_gradient   grad (N, O, *output), weight                                   -> like x
        weight_gradient  grad,                 x                                   -> like weight

    and own the memory of what they return, from its first byte on. The operators are
    `neurosim::local_<name>_forward` and so on.
    """
    y = _operator(f"{name}_forward", forward, _fake_forward)
    x = _operator(f"{name}_input_gradient", input_gradient, _fake_input_gradient)
    w = _operator(f"{name}_weight_gradient", weight_gradient, _fake_weight_gradient)
    _differentiate(y, x, w)
    _differentiate(x, y, _swapped(w))
    _differentiate(w, _swapped(y), _swapped(x))

    def product(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
        return y(x, to_storage(weight, geometry), pack(geometry, is_channels_last(x)))

    return product


def _operator(name: str, contraction: Contraction, fake: Operator) -> Any:
    def call(first: Tensor, second: Tensor, plan: Sequence[int]) -> Tensor:
        return contraction(first, second, *unpack(plan))

    # Compilers keep the operands' strides. (torch.library.custom_op does the same, in twice the
    # time per call, which on a GPU is longer than the product.)
    tags = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order)
    full, schema = (
        f"neurosim::local_{name}",
        "(Tensor first, Tensor second, SymInt[] plan) -> Tensor",
    )
    torch.library.define(full, schema, tags=tags)
    torch.library.impl(full, "default", call)
    torch.library.register_fake(full, fake)
    return getattr(torch.ops.neurosim, f"local_{name}").default


def _swapped(operator: Operator) -> Operator:
    return lambda first, second, plan: operator(second, first, plan)


def _differentiate(operator: Any, by_first: Operator, by_second: Operator) -> None:
    """Register derivatives; either is a product of the upstream gradient and the other operand."""

    def save(ctx: Any, inputs: tuple, output: Tensor) -> None:
        (first, second, ctx.plan), needed = inputs, ctx.needs_input_grad
        ctx.save_for_backward(first if needed[1] else None, second if needed[0] else None)

    def backward(ctx: Any, upstream: Tensor) -> tuple:
        first, second = ctx.saved_tensors
        # The second first: it is the larger one and wants no other result beside it.
        to_second = None if first is None else by_second(upstream, first, ctx.plan)
        to_first = None if second is None else by_first(upstream, second, ctx.plan)
        return to_first, to_second, None

    torch.library.register_autograd(operator, backward, setup_context=save)


def pack(geometry: Geometry, channels_last: bool) -> list[int]:
    """A plan."""
    g = geometry
    parts = (g.input_size, g.kernel_size, g.stride, g.dilation, g.before, g.after)
    return [int(channels_last), g.groups, *(size for part in parts for size in part)]


def unpack(plan: Sequence[int]) -> tuple[Geometry, bool]:
    """The geometry, and whether activations come out channels-last."""
    return _unpacked(tuple(int(number) for number in plan))  # to some compilers they are symbols


@lru_cache(maxsize=1024)
def _unpacked(plan: tuple[int, ...]) -> tuple[Geometry, bool]:
    channels_last, groups, *flat = plan
    axes = len(flat) // 6
    parts = [tuple(flat[i : i + axes]) for i in range(0, len(flat), axes)]
    return Geometry(*parts, groups=groups), bool(channels_last)


def _fake_forward(x: Tensor, weight: Tensor, plan: Sequence[int]) -> Tensor:
    geometry, channels_last = unpack(plan)
    return new_activation(x, len(x), weight.shape[-1], geometry.output_size, channels_last)


def _fake_input_gradient(grad: Tensor, weight: Tensor, plan: Sequence[int]) -> Tensor:
    geometry, channels_last = unpack(plan)
    channels = weight.shape[2] * geometry.groups
    return new_activation(grad, grad.shape[0], channels, geometry.input_size, channels_last)


def _fake_weight_gradient(grad: Tensor, x: Tensor, plan: Sequence[int]) -> Tensor:
    geometry, _ = unpack(plan)
    taps, channels = prod(geometry.kernel_size), x.shape[1] // geometry.groups
    return grad.new_empty(taps, geometry.positions, channels, grad.shape[1])
