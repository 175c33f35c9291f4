"""All steps of `presentation.euler` in one kernel of a GPU: starting one for each takes longer.

A program follows the neurons of one grid, for some output channels: they share an inhibitory
neuron, and nothing with others. Their state stays in registers from the first step to the last.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from neurosim.dynamics import InstantResponse
from neurosim.sleep.presentation import Held, Moving
from neurosim.sleep.presentation import along as along
from neurosim.sleep.presentation import move as move
from neurosim.sleep.taps_cpu import DTYPES

NEURONS = 2048  # of a program, at most, but for one output channel of a larger grid
WARPS = 8


def can_run(weights: Tensor) -> bool:
    """Whether the kernel steps neurons with such weights."""
    return weights.is_cuda and weights.dtype in DTYPES


def euler(now: Moving, held: Held) -> Moving:
    """As `presentation.euler`."""
    start, energy, etas, momentum, gamma, response, frame = held
    instant = isinstance(response, InstantResponse)
    circuit = (0.0, 0.0) if instant else (response.alpha, response.leak)
    subtracted = response.subtracted if instant else 0.0
    # In memory, because arguments would be rounded to single precision.
    given = torch.tensor([momentum, gamma, subtracted, *circuit, *etas.tolist()], dtype=start.dtype)
    numbers = given.to(start.device, non_blocking=True)  # no waiting at every tile
    after = Moving(*(values.clone(memory_format=torch.contiguous_format) for values in now))
    outputs, members = start.shape[1], triton.next_power_of_2(frame.largest)
    columns = min(triton.next_power_of_2(outputs), max(1, NEURONS // members))
    constants: Any = {
        "STEPS": len(etas), "INSTANT": instant, "MEMBERS": members, "COLUMNS": columns,
        "num_warps": WARPS,
    }  # fmt: skip
    with torch.cuda.device_of(start) if start.is_cuda else nullcontext():
        _euler[(len(frame.members), triton.cdiv(outputs, columns))](
            after.r, after.inhibition, after.m, after.change, start.contiguous(),
            energy.contiguous(), numbers, *frame.neurons, outputs, **constants,
        )  # fmt: skip
    return after


@triton.jit
def _euler(
    r_at, inhibition_at, m_at, change_at, start_at, energy_at, numbers, order, bounds, outputs,
    STEPS: tl.constexpr, INSTANT: tl.constexpr, MEMBERS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """State (P, O) and inhibition (G, O), in place; grid g has neurons order[bounds[g] : ...]."""
    g, o = tl.program_id(0), tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.load(bounds + g)
    count = (tl.load(bounds + g + 1) - first).to(tl.int32)
    member, there = tl.arange(0, MEMBERS), o < outputs
    row = tl.load(order + first + member, member < count, 0)
    at, known = row[:, None] * outputs + o[None, :], (member < count)[:, None] & there[None, :]
    r, m = tl.load(r_at + at, known, 0.0), tl.load(m_at + at, known, 0.0)
    change, start = tl.load(change_at + at, known, 0.0), tl.load(start_at + at, known, 0.0)
    energy = tl.load(energy_at + at, known, 0.0)
    inhibition = tl.load(inhibition_at + g * outputs + o, there, 0.0)
    momentum, gamma, subtracted = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    alpha, leak = tl.load(numbers + 3), tl.load(numbers + 4)
    for step in range(STEPS):
        eta = tl.load(numbers + 5 + step)
        z = start + change
        if INSTANT:
            r = z - (subtracted * (tl.sum(z, 0) / count))[None, :]
        else:
            target = z - (alpha * inhibition)[None, :]
            inhibition += leak * (tl.sum(r, 0) / count - inhibition)
            r += leak * (target - r)
        r = tl.where(known, r, 0.0)  # those that are not there do not count in the mean
        m = momentum * m - eta * (r * energy + gamma * change)
        change += m
    tl.store(r_at + at, r, known)
    tl.store(m_at + at, m, known)
    tl.store(change_at + at, change, known)
    tl.store(inhibition_at + g * outputs + o, inhibition, there)
