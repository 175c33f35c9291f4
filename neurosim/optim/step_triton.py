"""`step.reference` in one pass over memory on a GPU; sums are in single precision."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from neurosim.optim.step import Tensors, Update, flat, foreach, in_order_of

BLOCK = 1024  # more would not stay in registers


def step(weights: Tensors, gradients: Tensors, momenta: Tensors | None, by: Update) -> None:
    """See `step.reference`; tensors with gaps in memory go by `foreach`."""
    for number, (theta, gradient) in enumerate(zip(weights, gradients, strict=True)):
        values = flat(theta)
        m = None if momenta is None else momenta[number]
        if values is None or (m is not None and m.stride() != theta.stride()):
            foreach([theta], [gradient], None if m is None else [m], by)
            continue
        g, moved = flat(in_order_of(theta, gradient)), values if m is None else flat(m)
        _launch(values, g, moved, m is not None, by)


def _launch(
    theta: Tensor, gradient: Tensor | None, momentum: Tensor | None, heavy: bool, by: Update
) -> None:
    grid = (triton.cdiv(theta.numel(), BLOCK),)
    constants: Any = {"HEAVY": heavy, "BLOCK": BLOCK}
    on = torch.cuda.device(theta.device) if theta.is_cuda else nullcontext()  # the interpreter
    with on:  # Triton launches where torch's current device is
        _kernel[grid](
            theta, gradient, momentum, theta.numel(), by.lr, by.l1, by.threshold, by.momentum,
            **constants,
        )  # fmt: skip


@triton.jit
def _kernel(
    theta_ptr, gradient_ptr, momentum_ptr, size, lr, l1, threshold, momentum,
    HEAVY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    theta = tl.load(theta_ptr + at, inside, 0.0)
    old = theta.to(tl.float32)
    m = tl.load(gradient_ptr + at, inside, 0.0).to(tl.float32)
    m += tl.where(old > 0, l1, tl.where(old < 0, -l1, 0.0))
    if HEAVY:
        m += momentum * tl.load(momentum_ptr + at, inside, 0.0).to(tl.float32)
        tl.store(momentum_ptr + at, m.to(theta.dtype), inside)
    new = old - lr * m
    new = tl.where(tl.abs(new) < threshold, 0.0, new)
    tl.store(theta_ptr + at, new.to(theta.dtype), inside)
