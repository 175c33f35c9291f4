"""One update of beta-LASSO, in three forms that tests hold together.

With a gradient g, a rate eta, a penalty lambda and a threshold beta lambda (Neyshabur 2020,
Algorithm 1; s is 0 where theta is),

    m <- mu m + (g + lambda s),  s = sign(theta)             m is its own summand where mu = 0
    theta <- theta - eta m                                    line 2
    theta <- theta where |theta| >= beta lambda, else 0       line 3

`reference` says just this. `foreach` is the same for any device and dtype, with fewer calls. On a
CPU `step_cpu` reads every weight and its gradient once and writes the weight once; on a GPU
`step_triton` does. A weight that is NaN stays NaN: a threshold must not hide that training failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurosim.errors import InvalidArgument, require_choice

Tensors = Sequence[Tensor]


class Update(NamedTuple):
    """The numbers of an update."""

    lr: float
    l1: float
    threshold: float  # beta l1
    momentum: float = 0.0


Step = Callable[[Tensors, Tensors, "Tensors | None", Update], None]
"""Changes weights, and momenta if there are any, in place; gradients stay."""

ATEN: Any = torch  # torch says no types of what its own optimizers are made of
BACKENDS = ("auto", "reference", "foreach", "cpu", "triton")


def reference(weights: Tensors, gradients: Tensors, momenta: Tensors | None, by: Update) -> None:
    """Algorithm 1, a tensor after the other."""
    for number, (theta, gradient) in enumerate(zip(weights, gradients, strict=True)):
        m = gradient + by.l1 * theta.sign()
        if momenta is not None:
            m = momenta[number].copy_(by.momentum * momenta[number] + m)
        theta.sub_(by.lr * m)
        theta.copy_(torch.where(theta.abs() < by.threshold, 0.0, theta))


def foreach(weights: Tensors, gradients: Tensors, momenta: Tensors | None, by: Update) -> None:
    """The same for all tensors at once, as torch's optimizers have it on any device."""
    ms: Tensors = gradients
    if by.l1:
        ms = ATEN._foreach_sign(weights)
        ATEN._foreach_mul_(ms, by.l1)
        ATEN._foreach_add_(ms, gradients)
    if momenta is not None:
        ATEN._foreach_mul_(momenta, by.momentum)
        ATEN._foreach_add_(momenta, ms)
        ms = momenta
    ATEN._foreach_add_(weights, ms, alpha=-by.lr)
    if by.threshold:
        for theta in weights:
            theta.masked_fill_(theta.abs() < by.threshold, 0.0)


def step_of(backend: str, weights: Tensors) -> Step:
    """The form to use; one that is asked for and cannot run is an error."""
    require_choice("backend", backend, BACKENDS)
    devices = {theta.device.type for theta in weights}
    plain = all(theta.dtype in (torch.float32, torch.float64) for theta in weights)
    double = any(theta.dtype == torch.float64 for theta in weights)
    if backend == "auto":
        backend = "foreach"
        if devices == {"cpu"} and plain:
            backend = "cpu"
        elif devices == {"cuda"} and not double and find_spec("triton") is not None:
            backend = "triton"
    if backend == "cpu":
        if devices - {"cpu"} or not plain:
            kinds = ", ".join(sorted({f"{t.dtype} on {t.device.type}" for t in weights}))
            raise InvalidArgument(
                f'backend must be "foreach" for other than float32 and float64 weights on a CPU, '
                f'got "cpu" for {kinds}'
            )
        from neurosim.optim import step_cpu

        return step_cpu.step
    if backend == "triton":
        if double:
            raise InvalidArgument(
                'backend must be "foreach" for float64 weights on a GPU, got "triton"'
            )
        try:
            from neurosim.optim import step_triton
        except ImportError as error:
            raise InvalidArgument(
                'backend must be "foreach" or "auto" where Triton is not installed, got "triton"'
            ) from error
        return step_triton.step
    return {"reference": reference, "foreach": foreach}[backend]


def flat(weight: Tensor) -> Tensor | None:
    """The elements of a tensor in the order of memory, as a view; None if there are gaps."""
    if weight.is_contiguous():
        return weight.view(-1)
    order = sorted(range(weight.ndim), key=weight.stride, reverse=True)
    dense = weight.permute(order)
    return dense.view(-1) if dense.is_contiguous() else None


def in_order_of(weight: Tensor, other: Tensor) -> Tensor:
    """Another tensor of the same shape, laid out in memory as the weight is: itself if it is."""
    if other.stride() == weight.stride():
        return other
    return torch.empty_like(weight).copy_(other)
