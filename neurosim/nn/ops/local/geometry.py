"""Where the filters of a locally connected layer sit: sizes, strides and taps, in any dimension."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from neurosim.errors import InvalidArgument, require

Sizes = tuple[int, ...]


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

    def __post_init__(self) -> None:
        for name in ("kernel_size", "stride", "dilation"):
            values = getattr(self, name)
            require(all(v >= 1 for v in values), name, values, ">= 1 along every axis")
        require(self.groups >= 1, "groups", self.groups, ">= 1")
        if any(out < 1 for out in self.output_size):
            raise InvalidArgument(
                f"kernel_size {self.kernel_size} with dilation {self.dilation} must fit the "
                f"padded input of size {self.padded_size}"
            )

    @property
    def padded_size(self) -> Sizes:
        """Size of the input with its zeros."""
        return tuple(map(sum, zip(self.before, self.input_size, self.after, strict=True)))

    @property
    def inner(self) -> tuple[slice, ...]:
        """Where the input lies in the padded input."""
        sizes = zip(self.before, self.input_size, strict=True)
        return tuple(slice(low, low + size) for low, size in sizes)

    @property
    def output_size(self) -> Sizes:
        """Output positions along every axis, as for a convolution."""
        return tuple(
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                self.padded_size, self.kernel_size, self.stride, self.dilation, strict=True
            )
        )

    @property
    def positions(self) -> int:
        """Number of output positions, each with a filter of its own."""
        return prod(self.output_size)

    def taps(self) -> Iterator[tuple[slice, ...]]:
        """For every element of the kernel, the part of the padded input that it meets."""
        for tap in itertools.product(*map(range, self.kernel_size)):
            yield tuple(
                slice(i * dilation, i * dilation + (out - 1) * stride + 1, stride)
                for i, out, stride, dilation in zip(
                    tap, self.output_size, self.stride, self.dilation, strict=True
                )
            )
