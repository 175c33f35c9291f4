"""Locally connected layers on GPUs: the three contractions as Triton kernels.

Implicit im2col. What a neuron sees is one vector of inputs, indexed by term = (tap, channel); a
kernel computes where each term lies and loads it from there, so that no patch is ever stored.
Activations are channels-last, so the channels of a tap are contiguous. Terms run through the taps
without a gap: 16 channels fill a product of depth 64 with four taps.

    forward          one position, samples x output channels,        sum over terms (tap, c)
    input gradient   one input element, samples x input channels,    sum over terms (tap, o)
    weight gradient  one position, terms (tap, c) x output channels, sum over samples

Every sum is one chain of matrix products, added up in float32 and rounded once. Nothing is added
up between programs, so the same input gives the same bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from inspect import signature
from math import prod
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from neurosim.nn.ops.local.geometry import Geometry
from neurosim.nn.ops.local.layout import in_order, new_activation
from neurosim.nn.ops.local.operators import register

# Triton decides this, too, when a kernel is defined.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def cannot_run(x: Tensor) -> str | None:
    """Why these kernels cannot take an input, or None if they can."""
    if x.dtype not in DTYPES:
        return f"{x.dtype} is added up in float32 there"
    if x.device.type != "cuda" and not INTERPRETED:
        return f"tensors are on {x.device.type}, not on a GPU"
    return None


def _configurations() -> list[triton.Config]:
    """Rows and columns of what one program computes, depth of one step of its sum, and warps."""
    sizes = [(64, 16, 32, 2), (128, 16, 32, 4), (128, 16, 64, 4), (64, 32, 32, 4),
             (128, 32, 32, 4), (128, 32, 64, 4), (64, 64, 64, 4), (128, 64, 32, 4),
             (128, 128, 32, 8)]  # fmt: skip
    if INTERPRETED:  # there is nothing to tune
        sizes = [(16, 16, 16, 1)]
    return [
        triton.Config({"ROWS": r, "COLUMNS": c, "DEPTH": d}, num_warps=warps, num_stages=3)
        for r, c, d, warps in sizes
    ]


CONFIGURATIONS = _configurations()
# What a kernel is tuned for: every geometry and dtype, and powers of two that a batch fits into.
TUNED_FOR = ["INPUT", "OUTPUT", "KERNEL", "STRIDE", "DILATION", "BEFORE", "GROUPS", "IN", "OUT",
             "PRECISION", "batch"]  # fmt: skip
BATCHES = 512  # larger batches run as those of this size do


def _as_wide(columns: int, configurations: list[triton.Config]) -> list[triton.Config]:
    """Those that a result with so many columns can profit from: the others compute zeros."""
    width = min(max(16, triton.next_power_of_2(columns)), 64)
    wide = [c for c in configurations if width <= c.kwargs["COLUMNS"] <= max(width, columns)]
    return wide or configurations[:1]


def _tuned(columns: str) -> Callable[[Any], Any]:
    """Try a kernel's configurations at its first use; `columns` names the constant it has most of.

    A few short runs of each tell enough, and what they told is kept on disk where Triton can:
    compiling is what takes the time, half a second for a configuration.
    """

    def prune(configurations: list[triton.Config], _: Any, **constants: Any) -> list[triton.Config]:
        return _as_wide(constants[columns], configurations)

    def bench(call: Callable[[], None], quantiles: Any) -> Any:
        return triton.testing.do_bench(call, warmup=5, rep=20, quantiles=quantiles)

    options = {"prune_configs_by": {"early_config_prune": prune}, "do_bench": bench}
    if "cache_results" in signature(triton.autotune).parameters:
        options["cache_results"] = True
    return triton.autotune(CONFIGURATIONS, TUNED_FOR, **options)


# The number of samples changes with an epoch's last batch, which is no reason to compile anew.
# Kernels do not use `batch`: it is there to tune by.
_compiled = triton.jit(do_not_specialize=["samples", "batch"])


@triton.jit
def _input_met(position, tap, INPUT, OUTPUT, KERNEL, STRIDE, DILATION, BEFORE, AXES: tl.constexpr):
    """Index of the input element that a position meets with a tap, and whether there is one."""
    index = tap * 0
    inside = tap >= 0
    size = 1
    for axis in tl.static_range(AXES - 1, -1, -1):  # type: ignore[attr-defined]
        offset = (tap % KERNEL[axis]) * DILATION[axis] - BEFORE[axis]
        element = (position % OUTPUT[axis]) * STRIDE[axis] + offset
        inside &= (element >= 0) & (element < INPUT[axis])
        index += element * size
        size *= INPUT[axis]
        position //= OUTPUT[axis]
        tap //= KERNEL[axis]
    return index, inside


@triton.jit
def _position_met(
    element, tap, INPUT, OUTPUT, KERNEL, STRIDE, DILATION, BEFORE, AXES: tl.constexpr
):
    """The position that meets an input element with a tap, and whether there is one."""
    index = tap * 0
    inside = tap >= 0
    size = 1
    for axis in tl.static_range(AXES - 1, -1, -1):  # type: ignore[attr-defined]
        offset = (tap % KERNEL[axis]) * DILATION[axis] - BEFORE[axis]
        start = (element % INPUT[axis]) - offset
        inside &= (
            (start >= 0) & (start % STRIDE[axis] == 0) & (start // STRIDE[axis] < OUTPUT[axis])
        )
        index += start // STRIDE[axis] * size
        size *= OUTPUT[axis]
        element //= INPUT[axis]
        tap //= KERNEL[axis]
    return index, inside


@triton.jit
def _decoded(program, rows, columns, GROUPS, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Where a program works: position or element, group, its rows and its columns.

    Programs that share filters are neighbours: blocks of rows change first.
    """
    row_blocks, column_blocks = tl.cdiv(rows, ROWS), tl.cdiv(columns, COLUMNS)
    row = program % row_blocks * ROWS + tl.arange(0, ROWS)
    program //= row_blocks
    column = program % column_blocks * COLUMNS + tl.arange(0, COLUMNS)
    program //= column_blocks
    return program // GROUPS, program % GROUPS, row, column


@_tuned(columns="OUT")
@_compiled
def _forward_kernel(
    x, weight, y, samples, batch,
    INPUT: tl.constexpr, OUTPUT: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
    DILATION: tl.constexpr, BEFORE: tl.constexpr, AXES: tl.constexpr, ELEMENTS: tl.constexpr,
    POSITIONS: tl.constexpr, TAPS: tl.constexpr, GROUPS: tl.constexpr, IN: tl.constexpr,
    OUT: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """x (N, *input, G, IN), weight (taps, positions, IN, G, OUT) -> y (N, positions, G, OUT)."""
    position, group, n, o = _decoded(tl.program_id(0), samples, OUT, GROUPS, ROWS, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    rows, columns = (n < samples)[:, None], (o < OUT)[None, :]
    n = n.to(tl.int64)[:, None]
    for start in range(0, TAPS * IN, DEPTH):
        term = start + tl.arange(0, DEPTH)
        tap, c = term // IN, term % IN
        element, inside = _input_met(
            position, tap, INPUT, OUTPUT, KERNEL, STRIDE, DILATION, BEFORE, AXES
        )
        inside &= term < TAPS * IN
        places = (element * GROUPS + group) * IN + c
        seen = tl.load(
            x + n * (ELEMENTS * GROUPS * IN) + places[None, :], rows & inside[None, :], 0.0
        )
        places = ((tap.to(tl.int64) * POSITIONS + position) * IN + c) * GROUPS + group
        filters = tl.load(
            weight + places[:, None] * OUT + o[None, :], inside[:, None] & columns, 0.0
        )
        total = tl.dot(seen, filters, total, input_precision=PRECISION)
    places = ((n * POSITIONS + position) * GROUPS + group) * OUT + o[None, :]
    tl.store(y + places, total.to(y.dtype.element_ty), rows & columns)


@_tuned(columns="IN")
@_compiled
def _input_gradient_kernel(
    grad, weight, x, samples, batch,
    INPUT: tl.constexpr, OUTPUT: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
    DILATION: tl.constexpr, BEFORE: tl.constexpr, AXES: tl.constexpr, ELEMENTS: tl.constexpr,
    POSITIONS: tl.constexpr, TAPS: tl.constexpr, GROUPS: tl.constexpr, IN: tl.constexpr,
    OUT: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """grad (N, positions, G, OUT), weight (taps, positions, IN, G, OUT) -> x (N, *input, G, IN)."""
    element, group, n, c = _decoded(tl.program_id(0), samples, IN, GROUPS, ROWS, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    rows, columns = (n < samples)[:, None], (c < IN)[None, :]
    n = n.to(tl.int64)[:, None]
    for start in range(0, TAPS * OUT, DEPTH):
        term = start + tl.arange(0, DEPTH)
        tap, o = term // OUT, term % OUT
        position, inside = _position_met(
            element, tap, INPUT, OUTPUT, KERNEL, STRIDE, DILATION, BEFORE, AXES
        )
        inside &= term < TAPS * OUT
        places = (position * GROUPS + group) * OUT + o
        upstream = tl.load(
            grad + n * (POSITIONS * GROUPS * OUT) + places[None, :], rows & inside[None, :], 0.0
        )
        places = (tap.to(tl.int64) * POSITIONS + position)[:, None] * IN + c[None, :]
        filters = tl.load(
            weight + (places * GROUPS + group) * OUT + o[:, None], inside[:, None] & columns, 0.0
        )
        total = tl.dot(upstream, filters, total, input_precision=PRECISION)
    places = ((n * ELEMENTS + element) * GROUPS + group) * IN + c[None, :]
    tl.store(x + places, total.to(x.dtype.element_ty), rows & columns)


@_tuned(columns="OUT")
@_compiled
def _weight_gradient_kernel(
    grad, x, weight, samples, batch,
    INPUT: tl.constexpr, OUTPUT: tl.constexpr, KERNEL: tl.constexpr, STRIDE: tl.constexpr,
    DILATION: tl.constexpr, BEFORE: tl.constexpr, AXES: tl.constexpr, ELEMENTS: tl.constexpr,
    POSITIONS: tl.constexpr, TAPS: tl.constexpr, GROUPS: tl.constexpr, IN: tl.constexpr,
    OUT: tl.constexpr, PRECISION: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
):  # fmt: skip
    """grad (N, positions, G, OUT), x (N, *input, G, IN) -> weight (taps, positions, IN, G, OUT)."""
    position, group, term, o = _decoded(tl.program_id(0), TAPS * IN, OUT, GROUPS, ROWS, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    tap, c = term // IN, term % IN
    element, inside = _input_met(
        position, tap, INPUT, OUTPUT, KERNEL, STRIDE, DILATION, BEFORE, AXES
    )
    exists, columns = term < TAPS * IN, (o < OUT)[None, :]
    seen_at = ((element * GROUPS + group) * IN + c)[:, None]
    upstream_at = ((position * GROUPS + group) * OUT + o)[None, :]
    for start in range(0, samples, DEPTH):
        n = start + tl.arange(0, DEPTH)
        some, n = n < samples, n.to(tl.int64)
        seen = tl.load(
            x + n[None, :] * (ELEMENTS * GROUPS * IN) + seen_at,
            (exists & inside)[:, None] & some[None, :],
            0.0,
        )
        upstream = tl.load(
            grad + n[:, None] * (POSITIONS * GROUPS * OUT) + upstream_at,
            some[:, None] & columns,
            0.0,
        )
        total = tl.dot(seen, upstream, total, input_precision=PRECISION)
    places = ((tap.to(tl.int64) * POSITIONS + position) * IN + c) * GROUPS + group
    tl.store(
        weight + places[:, None] * OUT + o[None, :],
        total.to(weight.dtype.element_ty),
        exists[:, None] & columns,
    )


# Constants of the launches so far, with the configuration that was best; by what they depend on.
_known: dict[tuple[Any, ...], dict[str, Any]] = {}


def _launch(
    kernel: Any, first: Tensor, second: Tensor, result: Tensor, geometry: Geometry, **sizes: int
) -> None:
    """Run a kernel with one program for every block of (rows x columns) in every place."""
    g, samples = geometry, len(first)
    if INTERPRETED and first.dtype == torch.bfloat16:  # its products take them for whole numbers
        first, second = first.float(), second.float()
    rows, columns, places = sizes.pop("rows"), sizes.pop("columns"), sizes.pop("places")

    def grid(meta: dict[str, int]) -> tuple[int]:
        blocks = -(-rows // meta["ROWS"]) * -(-columns // meta["COLUMNS"])
        return (blocks * g.groups * places,)

    batch = min(triton.next_power_of_2(samples), BATCHES)
    precision = "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
    key = (id(kernel), g, *sizes.values(), batch, precision, first.dtype, first.device)
    with torch.cuda.device_of(first):
        if key in _known:  # what the tuner looks up at every launch takes longer than a product
            kernel.fn[grid](first, second, result, samples, batch, **_known[key])
            return
        constants = {
            "INPUT": g.input_size, "OUTPUT": g.output_size, "KERNEL": g.kernel_size,
            "STRIDE": g.stride, "DILATION": g.dilation, "BEFORE": g.before,
            "AXES": len(g.input_size), "ELEMENTS": prod(g.input_size), "POSITIONS": g.positions,
            "TAPS": prod(g.kernel_size), "GROUPS": g.groups, "PRECISION": precision, **sizes,
        }  # fmt: skip
        kernel[grid](first, second, result, samples, batch, **constants)
        _known[key] = constants | kernel.best_config.all_kwargs()


def _channels_last(x: Tensor) -> Tensor:
    """(N, C, *space) as contiguous (N, *space, IN); channels-last it lies so already."""
    return x.movedim(1, -1).contiguous()


def _forward(x: Tensor, weight: Tensor, geometry: Geometry, channels_last: bool) -> Tensor:
    n, outputs, groups = len(x), weight.shape[-1], geometry.groups
    y = new_activation(x, n, outputs, geometry.output_size, True)
    if y.numel():
        _launch(
            _forward_kernel, _channels_last(x), weight.contiguous(), y, geometry,
            rows=n, columns=outputs // groups, places=geometry.positions,
            IN=weight.shape[2], OUT=outputs // groups,
        )  # fmt: skip
    return in_order(y, channels_last)


def _input_gradient(
    grad: Tensor, weight: Tensor, geometry: Geometry, channels_last: bool
) -> Tensor:
    n, channels, outputs, groups = len(grad), *weight.shape[2:], geometry.groups
    x = new_activation(grad, n, channels * groups, geometry.input_size, True)
    if x.numel():
        _launch(
            _input_gradient_kernel, _channels_last(grad), weight.contiguous(), x, geometry,
            rows=n, columns=channels, places=prod(geometry.input_size),
            IN=channels, OUT=outputs // groups,
        )  # fmt: skip
    return in_order(x, channels_last)


def _weight_gradient(grad: Tensor, x: Tensor, geometry: Geometry, channels_last: bool) -> Tensor:
    taps, groups = prod(geometry.kernel_size), geometry.groups
    channels, outputs = x.shape[1] // groups, grad.shape[1]
    weight = grad.new_empty(taps, geometry.positions, channels, outputs)
    _launch(
        _weight_gradient_kernel, _channels_last(grad), _channels_last(x), weight, geometry,
        rows=taps * channels, columns=outputs // groups, places=geometry.positions,
        IN=channels, OUT=outputs // groups,
    )  # fmt: skip
    return weight


local_triton = register("triton", _forward, _input_gradient, _weight_gradient)
