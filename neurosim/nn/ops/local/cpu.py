"""Locally connected layers on CPUs: the three contractions, compiled, position by position.

What a position sees, computes and hands back stays in the cache; filters are read where they are
stored, and their gradients written there, once. Rows of activations (what shares its place along
the first axis) are taken in when they are needed and kept, in the order that products want, for
as long as they are:

    forward          y^T (O, N) = sum over taps of  W^T (O, C)  x^T (C, N)
    input gradient   x^T (C, N) = sum over taps of  W   (C, O)  y^T (O, N)
    weight gradient  W   (C, O) =                   x^T (C, N)  y   (N, O)     of each tap

In the first two, which are one function, vectors run along samples; in the third along output
channels. Padding is nowhere stored: only what meets an input counts. Every element of a result is
one sum, made by one thread in one order, so that numbers do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosim.compiled import INTERPRETED, compiled
from neurosim.compiled.threads import run_parts
from neurosim.compiled.tiles import (
    VECTOR,
    Left,
    Out,
    Right,
    Values,
    copy,
    sum_of_products,
    transpose,
)  # fmt: skip
from neurosim.nn.ops.local.geometry import Geometry
from neurosim.nn.ops.local.layout import in_order
from neurosim.nn.ops.local.meetings import Meetings, by_input, by_output, unmet
from neurosim.nn.ops.local.operators import register

DTYPES = (torch.float32, torch.float64)
TOGETHER = 16  # samples copied together: more would crowd each other out of a set of the cache
BLOCK = 2  # times four vectors of samples at a time: what more of them see leaves the cache


def cannot_run(x: Tensor) -> str | None:
    """Why these functions cannot take an input, or None if they can."""
    if x.device.type != "cpu":
        return f"tensors are on {x.device.type}, not on a CPU"
    if x.dtype not in DTYPES:
        return f"{x.dtype} is not computed with on CPUs"
    return "NUMBA_DISABLE_JIT is set" if INTERPRETED else None


# Forward and input gradient: from sources to targets, by products with filters.


class Contraction(NamedTuple):
    """Sizes of a contraction, and how it reads a filter (C / groups, O)."""

    samples: int
    wide: int  # samples, filled up to one, two or a multiple of four vectors
    sources: int  # channels
    targets: int
    groups: int
    filter_size: int
    group: int  # elements of a filter between groups,
    row: int  # between channels of the target,
    step: int  # and between channels of the source


@compiled
def _contract_rows(
    x: Values, weight: Values, y: Values, scratch: Values, m: Meetings, c: Contraction,
    kept: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Rows of targets y, from `start` to `stop`; x and y are flat (N, rows, row, channels)."""
    source, target = c.sources * c.wide, c.targets * c.wide  # elements of each, inside
    length, y_length = m.source_row * c.sources, m.row * c.targets  # elements of a row, outside
    rows, y_rows = len(x) // (c.samples * length), len(m.low)
    seen, made = scratch[: kept * m.source_row * source], scratch[kept * m.source_row * source :]
    if c.wide > c.samples:
        seen[:] = 0  # what lies there by chance may be slow to compute with
    most = np.max(np.diff(m.first))
    filters, sources = np.empty(most, np.int64), np.empty(most, np.int64)
    out = Out(made, c.wide)
    a, b = Left(weight, filters, c.row, c.step), Right(seen, sources, c.wide)
    group_sources, group_targets = c.sources // c.groups, c.targets // c.groups
    lanes, taken = VECTOR // x.itemsize, 0
    vectors = c.wide // lanes
    for r in range(start, stop):
        for row in range(max(m.low[r], taken), m.high[r]):
            inside = row % kept * m.source_row * source
            transpose(x, row * length, rows * length, c.samples, length, seen, inside, c.wide)
        taken = max(taken, m.high[r])
        for t in range(m.row):
            first, last = m.first[r * m.row + t], m.first[r * m.row + t + 1]
            for i in range(first, last):
                row, place = divmod(m.sources[i], m.source_row)
                filters[i - first] = m.filters[i] * c.filter_size
                sources[i - first] = (row % kept * m.source_row + place) * source
            for g in range(c.groups):
                firsts = (
                    t * target + g * group_targets * c.wide,
                    g * c.group,
                    g * group_sources * c.wide,
                )
                sum_of_products(
                    out, a, b, firsts, last - first, group_sources, group_targets, vectors, False
                )
        for n in range(0, c.samples, lanes):  # some samples at a time: each is written in order
            count, first = min(lanes, c.samples - n), (n * y_rows + r) * y_length
            transpose(made, n, c.wide, y_length, count, y, first, y_rows * y_length)


def _contract(
    x: Tensor, weight: Tensor, size: tuple[int, ...], m: Meetings, groups: int, *, forward: bool
) -> Tensor:
    """Targets (N, C, *size) from sources (N, C, *)."""
    x, weight = _samples_first(x), weight.contiguous()
    inputs, outputs = weight.shape[-2] * groups, weight.shape[-1]
    row, step = (1, outputs) if forward else (outputs, 1)
    targets = outputs if forward else inputs
    y = x.new_empty(len(x), *size, targets)
    lanes, kept = VECTOR // x.itemsize, _kept(m)
    for block in _blocks(len(x), 4 * lanes):
        samples = block.stop - block.start
        width = next((w for w in (1, 2) if samples <= w * lanes), 4) * lanes
        c = Contraction(
            samples, -(-samples // width) * width, x.shape[-1], targets, groups,
            weight.shape[-2] * outputs, outputs // groups, row, step,
        )  # fmt: skip
        scratch = (kept * m.source_row * c.sources + m.row * c.targets) * c.wide
        _by_rows(_contract_rows, (x[block], weight, y[block]), scratch, m, c, kept)
    return y.movedim(-1, 1)


def _blocks(samples: int, width: int) -> list[slice]:
    """Samples in blocks of about BLOCK * width, all but the last filled up."""
    widths = -(-samples // width)
    count = max(1, widths // BLOCK)
    bounds = [min(widths * i // count * width, samples) for i in range(count + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]


# The weight gradient: a product of its own for every filter.


class Gradient(NamedTuple):
    """Sizes of a weight gradient; output channels of a group fill up whole vectors."""

    samples: int
    inputs: int  # channels
    outputs: int
    groups: int
    wide: int
    filter_size: int
    depthwise: bool  # groups of one input channel, which count as a single group here


@compiled
def _weight_gradient_rows(
    x: Values, grad: Values, weight: Values, scratch: Values, m: Meetings, s: Gradient,
    kept: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Filters of rows from `start` to `stop` that meet an input; those that do not stay."""
    source, target = s.samples * s.inputs, s.samples * s.groups * s.wide
    group_inputs, group_outputs = s.inputs // s.groups, s.outputs // s.groups
    seen, rest = scratch[: kept * m.source_row * source], scratch[kept * m.source_row * source :]
    upstream, made = rest[: m.row * target], rest[m.row * target :]
    if s.wide > group_outputs:
        upstream[:] = 0
    rows, vectors = len(x) // (m.source_row * source), s.wide * x.itemsize // VECTOR
    once = np.zeros(1, np.int64)
    out, aside = Out(weight, s.outputs), Out(made, s.wide)
    a, b = Left(seen, once, 1, s.inputs), Right(upstream, once, s.groups * s.wide)
    taken = 0
    for r in range(start, stop):
        for row in range(max(m.low[r], taken), m.high[r]):
            first = row % kept * m.source_row * source
            _take_in(x, row, rows, m.source_row, s.inputs, seen, first, s.samples, 1, s.inputs)
        taken = max(taken, m.high[r])
        _take_in(grad, r, len(m.low), m.row, s.outputs, upstream, 0, s.samples, s.groups, s.wide)
        for t in range(m.row):
            for i in range(m.first[r * m.row + t], m.first[r * m.row + t + 1]):
                row, place = divmod(m.sources[i], m.source_row)
                first_a = (row % kept * m.source_row + place) * source
                first = m.filters[i] * s.filter_size
                if s.depthwise:
                    _depthwise(
                        weight[first : first + s.filter_size],
                        seen[first_a : first_a + source].reshape(s.samples, s.inputs),
                        upstream[t * target : (t + 1) * target].reshape(s.samples, s.outputs),
                    )
                    continue
                for g in range(s.groups):
                    at = first + g * group_outputs
                    of_a, of_b = first_a + g * group_inputs, t * target + g * s.wide
                    if s.wide == group_outputs:
                        firsts = (at, of_a, of_b)
                        sum_of_products(
                            out, a, b, firsts, 1, s.samples, group_inputs, vectors, False
                        )
                    else:
                        firsts = (0, of_a, of_b)
                        sum_of_products(
                            aside, a, b, firsts, 1, s.samples, group_inputs, vectors, False
                        )
                        copy(made, 0, s.wide, group_inputs, group_outputs, weight, at, s.outputs)


@compiled
def _depthwise(weight: Values, x: Values, grad: Values) -> None:
    """sum_n x[n, c] grad[n, o], where outputs o of channel c follow each other."""
    outputs = len(weight) // x.shape[1]
    weight[:] = 0
    for n in range(len(x)):
        if outputs == 1:
            for c in range(x.shape[1]):
                weight[c] += x[n, c] * grad[n, c]
        else:
            for c in range(x.shape[1]):
                for o in range(c * outputs, (c + 1) * outputs):
                    weight[o] += x[n, c] * grad[n, o]


@compiled
def _take_in(
    x: Values, row: int, rows: int, columns: int, channels: int,
    seen: Values, first: int, samples: int, groups: int, wide: int,
) -> None:  # fmt: skip
    """A row of x as (columns, samples, groups, channels of a group filled up to `wide`)."""
    length, inside = columns * channels, channels // groups
    for some in range(0, samples, TOGETHER):
        count = min(TOGETHER, samples - some)
        for c in range(columns):
            for g in range(groups):
                source = (some * rows + row) * length + c * channels + g * inside
                target = first + ((c * samples + some) * groups + g) * wide
                copy(x, source, rows * length, count, inside, seen, target, groups * wide)


def _weight_gradient(grad: Tensor, x: Tensor, geometry: Geometry, channels_last: bool) -> Tensor:
    grad, x = _samples_first(grad), _samples_first(x)
    (inputs, outputs), groups = (x.shape[-1], grad.shape[-1]), geometry.groups
    lanes, filter_size = VECTOR // x.itemsize, inputs // groups * outputs
    weight = x.new_empty(prod(geometry.kernel_size), geometry.positions, inputs // groups, outputs)
    weight.view(-1, filter_size)[torch.from_numpy(unmet(geometry))] = 0
    depthwise = 1 < groups == inputs
    wide = outputs if depthwise else -(-outputs // groups // lanes) * lanes
    s = Gradient(len(x), inputs, outputs, 1 if depthwise else groups, wide, filter_size, depthwise)
    m = by_output(geometry)
    kept = _kept(m)
    scratch = kept * m.source_row * inputs + m.row * s.groups * wide
    scratch = scratch * len(x) + inputs // groups * wide
    _by_rows(_weight_gradient_rows, (x, grad, weight), scratch, m, s, kept)
    return weight


# What both have in common.


def _samples_first(x: Tensor) -> Tensor:
    """(N, C, *space) as a contiguous (N, *space, C)."""
    return x.movedim(1, -1).contiguous()


def _kept(m: Meetings) -> int:
    """Rows of sources that have to be there at a time."""
    return int((m.high - m.low).max())


def _by_rows(
    function: Callable[..., None], tensors: tuple[Tensor, Tensor, Tensor],
    scratch: int, m: Meetings, sizes: NamedTuple, kept: int,
) -> None:  # fmt: skip
    """Call `function` for all rows of targets, some in each of as many threads as torch uses."""
    result, rows = tensors[-1], len(m.low)
    if len(tensors[0]) == 0:  # no samples
        result.zero_()
        return
    threads = min(torch.get_num_threads(), rows)
    rooms = result.new_empty(threads, scratch).numpy()
    arrays = [tensor.numpy().reshape(-1) for tensor in tensors]
    bounds = np.linspace(0, rows, threads + 1, dtype=int).tolist()

    def part(number: int) -> None:
        function(*arrays, rooms[number], m, sizes, kept, bounds[number], bounds[number + 1])

    run_parts(part, threads)


def _forward(x: Tensor, weight: Tensor, geometry: Geometry, channels_last: bool) -> Tensor:
    m, size = by_output(geometry), geometry.output_size
    return in_order(_contract(x, weight, size, m, geometry.groups, forward=True), channels_last)


def _input_gradient(
    grad: Tensor, weight: Tensor, geometry: Geometry, channels_last: bool
) -> Tensor:
    m, size = by_input(geometry), geometry.input_size
    return in_order(_contract(grad, weight, size, m, geometry.groups, forward=False), channels_last)


local_cpu = register("cpu", _forward, _input_gradient, _weight_gradient)
