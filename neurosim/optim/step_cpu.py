"""`step.reference` in one pass over memory on a CPU: two reads and a write per weight."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neurosim.compiled import compiled
from neurosim.compiled.threads import run_parts
from neurosim.optim.step import Tensors, Update, flat, in_order_of, reference

Values = NDArray[np.floating]
PART = 2**18  # weights that a thread works on at least


def step(weights: Tensors, gradients: Tensors, momenta: Tensors | None, by: Update) -> None:
    """See `step.reference`; numbers do not depend on threads."""
    for number, (theta, gradient) in enumerate(zip(weights, gradients, strict=True)):
        values = flat(theta)
        m = None if momenta is None else momenta[number]
        if values is None or (m is not None and m.stride() != theta.stride()):  # rare: has gaps
            reference([theta], [gradient], None if m is None else [m], by)
            continue
        arrays = [values, flat(in_order_of(theta, gradient))]
        arrays += [] if m is None else [flat(m)]
        _in_parts(
            _plain if m is None else _with_momentum,
            [a.numpy() for a in arrays if a is not None],
            by,
        )
        for changed in (theta, *([] if m is None else [m])):  # torch has not seen it
            torch.autograd.graph.increment_version(changed)


def _in_parts(kernel: Callable[..., None], arrays: list[Values], by: Update) -> None:
    """All elements, by as many threads as torch uses."""
    size, kind = len(arrays[0]), arrays[0].dtype.type
    numbers: list[Any] = [kind(by.lr), kind(by.l1), kind(by.threshold)]
    numbers += [kind(by.momentum)] if len(arrays) > 2 else []
    threads = min(torch.get_num_threads(), size // PART)
    bounds = np.linspace(0, size, max(1, threads) + 1, dtype=int)
    parts = [[a[i:j] for a in arrays] for i, j in pairwise(bounds)]
    run_parts(lambda number: kernel(*parts[number], *numbers), len(parts))


@compiled
def _plain(theta: Values, gradient: Values, lr: float, l1: float, threshold: float) -> None:
    zero = theta.dtype.type(0)
    for i in range(len(theta)):
        old = theta[i]
        penalty = l1 if old > zero else (-l1 if old < zero else zero)
        new = old - lr * (gradient[i] + penalty)
        theta[i] = zero if abs(new) < threshold else new


@compiled
def _with_momentum(
    theta: Values, gradient: Values, m: Values,
    lr: float, l1: float, threshold: float, momentum: float,
) -> None:  # fmt: skip
    zero = theta.dtype.type(0)
    for i in range(len(theta)):
        old = theta[i]
        penalty = l1 if old > zero else (-l1 if old < zero else zero)
        moved = momentum * m[i] + (gradient[i] + penalty)
        m[i] = moved
        new = old - lr * moved
        theta[i] = zero if abs(new) < threshold else new
