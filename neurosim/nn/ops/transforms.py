"""What torch may ask of a product besides its value and first derivatives backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # type: ignore[attr-defined]
from torch.autograd import forward_ad


def looked_into(*operands: Tensor) -> bool:
    """Whether torch differentiates forward or by torch.func, which only its own operators know."""
    if torch.compiler.is_compiling():
        return False
    levels = _functorch.get_interpreter_stack() or ()
    if any(level.key() != _functorch.TransformType.Vmap for level in levels):
        return True
    if forward_ad._current_level < 0:
        return False
    return any(forward_ad.unpack_dual(operand).tangent is not None for operand in operands)


def vmapped() -> bool:
    """Whether torch.func is at work at all, which differentiable functions of ours do not know."""
    return not torch.compiler.is_compiling() and bool(_functorch.get_interpreter_stack())


def backward_of(
    reference: Callable[..., Tensor], ctx: Any, upstream: Tensor
) -> tuple[Tensor | None, ...]:
    """Derivatives of `reference(*saved tensors)` that can be differentiated themselves."""
    needed = ctx.needs_input_grad
    # Operands may depend on each other, which is no matter of the product's: views know nothing
    # of where the others came from.
    operands = [operand.view_as(operand) for operand in ctx.saved_tensors]
    wanted = [operand for operand, need in zip(operands, needed, strict=False) if need]
    found = iter(torch.autograd.grad(reference(*operands), wanted, upstream, create_graph=True))
    return tuple(next(found) if need else None for need in needed)
