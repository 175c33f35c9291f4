"""Where the filters of a locally connected layer sit: sizes, strides and taps, in any dimension."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod

from neurosim.errors import InvalidArgument, require

Sizes = tuple[int, ...]


def in_torch_order(before: Sizes, after: Sizes) -> Sizes:
    """Padding as torch's `pad` takes it: pairs, the last axis first."""
    return tuple(itertools.chain(*zip(reversed(before), reversed(after), strict=True)))


@dataclass(frozen=True)
class Geometry:
    """The input's size and how filters step over it; one entry per spatial axis."""

    input_size: Sizes
    kernel_size: Sizes
    stride: Sizes
    dilation: Sizes
    before: Sizes  # zeros added before the first element
    after: Sizes  # and after the last
    groups: int = 1
    pads: Sizes = field(init=False, repr=False, compare=False)
    """Zeros before and after, as torch's `pad` takes them."""
    padded_size: Sizes = field(init=False, repr=False, compare=False)
    """Size of the input with its zeros."""
    output_size: Sizes = field(init=False, repr=False, compare=False)
    """Output positions along every axis, as for a convolution."""
    positions: int = field(init=False, repr=False, compare=False)
    """Number of output positions, each with a filter of its own."""

    def __post_init__(self) -> None:
        for name in ("kernel_size", "stride", "dilation"):
            values = getattr(self, name)
            require(all(v >= 1 for v in values), name, values, ">= 1 along every axis")
        require(self.groups >= 1, "groups", self.groups, ">= 1")
        padded = tuple(map(sum, zip(self.before, self.input_size, self.after, strict=True)))
        output = tuple(
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                padded, self.kernel_size, self.stride, self.dilation, strict=True
            )
        )
        if any(out < 1 for out in output):
            raise InvalidArgument(
                f"kernel_size {self.kernel_size} with dilation {self.dilation} must fit the "
                f"padded input of size {padded}"
            )
        # Asked for at every product: computed once.
        derived = {
            "pads": in_torch_order(self.before, self.after), "padded_size": padded,
            "output_size": output, "positions": prod(output),
        }  # fmt: skip
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def taps(self) -> Iterator[tuple[slice, ...]]:
        """For every element of the kernel, the part of the padded input that it meets."""
        for tap in itertools.product(*map(range, self.kernel_size)):
            yield tuple(
                slice(i * dilation, i * dilation + (out - 1) * stride + 1, stride)
                for i, out, stride, dilation in zip(
                    tap, self.output_size, self.stride, self.dilation, strict=True
                )
            )


@dataclass(frozen=True)
class Band:
    """A part of a geometry: some rows (positions along the first axis) of the output.

    It is a whole geometry over the rows of the input that its filters meet.
    """

    geometry: Geometry
    inputs: slice  # rows of the input
    outputs: slice  # rows of the output
    positions: slice  # the same in the order of positions


@dataclass(frozen=True)
class Shift:
    """What filters meet with those of their elements that differ along the first axis only.

    Shifted input is an array of `size`: along the first axis every row of the padded input that
    can be met, along the others one element per output position. Every tap then meets as many
    consecutive rows of it as there are rows of output.
    """

    size: Sizes
    target: tuple[slice, ...]  # the part of it that is not padding
    source: tuple[slice, ...]  # and where that lies in the input
    taps: tuple[tuple[int, slice], ...]  # elements of the kernel, and the rows that they meet


@lru_cache(maxsize=1024)
def bands(geometry: Geometry, rows: int) -> tuple[Band, ...]:
    """Cut a geometry into bands of at most so many rows."""
    g = geometry
    size, after_row = g.input_size[0], prod(g.output_size[1:])
    extent = g.dilation[0] * (g.kernel_size[0] - 1) + 1
    found = []
    for start in range(0, g.output_size[0], rows):
        stop = min(start + rows, g.output_size[0])
        low = start * g.stride[0] - g.before[0]  # rows met, counted in the unpadded input
        high = (stop - 1) * g.stride[0] - g.before[0] + extent
        inputs = slice(*(min(max(row, 0), size) for row in (low, high)))
        before = min(max(-low, 0), high - low)
        after = high - low - before - (inputs.stop - inputs.start)
        part = replace(
            g,
            input_size=(inputs.stop - inputs.start, *g.input_size[1:]),
            before=(before, *g.before[1:]),
            after=(after, *g.after[1:]),
        )
        positions = slice(start * after_row, stop * after_row)
        found.append(Band(part, inputs, slice(start, stop), positions))
    return tuple(found)


@lru_cache(maxsize=1024)
def shifts(geometry: Geometry) -> tuple[Shift, ...]:
    """All shifts that a geometry needs: a kernel's elements along the first axis share one.

    With a stride along that axis there is one for every remainder of their offsets.
    """
    g = geometry
    rows, columns = g.output_size[0], [*itertools.product(*map(range, g.kernel_size[1:]))]
    offsets = [divmod(i * g.dilation[0], g.stride[0]) for i in range(g.kernel_size[0])]
    found = []
    for remainder in sorted({remainder for _, remainder in offsets}):
        met = [(i, low) for i, (low, other) in enumerate(offsets) if other == remainder]
        size = (met[-1][1] + rows, *g.output_size[1:])
        for index, column in enumerate(columns):
            taps = tuple((i * len(columns) + index, slice(low, low + rows)) for i, low in met)
            shift = (remainder, *(j * d for j, d in zip(column, g.dilation[1:], strict=True)))
            starts = (offset - before for offset, before in zip(shift, g.before, strict=True))
            target, source = zip(*map(_overlap, starts, g.stride, size, g.input_size), strict=True)
            found.append(Shift(size, target, source, taps))
    return tuple(found)


def _overlap(start: int, step: int, count: int, size: int) -> tuple[slice, slice]:
    """Which of `count` places from `start` on lie within `size`, and where."""
    low = min(max(0, -(start // step)), count)
    high = max(low, min(count, -((start - size) // step)))
    first = max(start + low * step, 0)
    return slice(low, high), slice(first, first + (high - low) * step, step)
