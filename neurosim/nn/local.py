"""Locally connected layers: convolutions whose output positions have filters of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.nn.ops.local import (
    Geometry,
    check_backend,
    check_dtype,
    from_storage,
    local_product,
)
from neurosim.nn.ops.local.geometry import in_torch_order
from neurosim.nn.ops.local.meetings import met

Size = int | Sequence[int]
FilterInit = Literal["independent"] | float | Callable[[Tensor], object]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
BEYOND = {"reflect": -1, "circular": 0}  # the largest padding exceeds the input's size by this


@torch.compiler.assume_constant_result  # torch 2.11 cannot compile the question itself
def _has_autocast(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind)


def lowered(*tensors: Tensor) -> list[Tensor]:
    """What autocast makes of a convolution's operands: all but double precision is lowered."""
    kind = tensors[0].device.type
    if not (_has_autocast(kind) and torch.is_autocast_enabled(kind)):
        return list(tensors)
    dtype = torch.get_autocast_dtype(kind)
    eligible = (t.is_floating_point() and t.dtype != torch.float64 for t in tensors)
    return [t.to(dtype) if low else t for t, low in zip(tensors, eligible, strict=True)]


def keeping_order(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What moves and casts tensors, without an eye for their memory format.

    Formats are for tensors of 4 and 5 axes; with five more, none is mistaken for an activation.
    """
    more = range(5)
    return lambda t: fn(t[(None,) * len(more)]).squeeze(tuple(more))


class LocallyConnected(nn.Module):
    """What the layers of one, two and three dimensions share; use those.

    `weight[h, w]` is the filter of output position (h, w), in the shape of `nn.Conv2d.weight`;
    in memory the elements of the kernel come first, which is what makes the layer fast. Like a
    convolution, the layer answers in the memory format of its input; channels-last is the fastest.
    Arguments mean what they mean for `nn.ConvNd`, and besides:

    Args:
        input_size: spatial size of the input, which fixes the number of output positions.
        bias: True for one per channel, "position" for one per channel and position, or False.
        backend: "auto", "cpu" or "triton" (compiled, for CPUs and GPUs), "matmul" (torch,
            anywhere) or "naive" (loops, the reference).
        init: "independent" draws every position's filter by itself, Kaiming normal with fan-out
            and ReLU gain; a number eps draws one filter for all and adds independent noise of
            eps times its standard deviation; a callable fills the weight in place.
    """

    axes: int
    name = ""  # qualified, in the model that `to_local` made; errors say it
    bias: nn.Parameter | None
    present: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        input_size: Size,
        stride: Size = 1,
        padding: Size | Literal["same", "valid"] = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool | Literal["position"] = True,
        padding_mode: str = "zeros",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        init: FilterInit = "independent",
    ) -> None:
        super().__init__()
        counts = {"groups": groups, "in_channels": in_channels, "out_channels": out_channels}
        for name, count in counts.items():
            whole = isinstance(count, Integral) and count >= 1
            require(whole, name, count, "a whole number >= 1")
            require(count % groups == 0, name, count, f"divisible by groups = {groups}")
        require_choice("padding_mode", padding_mode, PADDING_MODES)
        require(bias in (True, False, "position"), "bias", bias, 'True, False or "position"')
        check_backend(backend)
        check_dtype(dtype or torch.get_default_dtype())
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = self._sizes("kernel_size", kernel_size)
        self.input_size = self._sizes("input_size", input_size)
        self.stride = self._sizes("stride", stride)
        self.dilation = self._sizes("dilation", dilation)
        self.padding_mode, self.backend, self.init = padding_mode, backend, init

        before, after = self._margins(padding)
        self.padding = padding if isinstance(padding, str) else before
        size, none = self.input_size, (0,) * self.axes
        self._continuation = in_torch_order(none, none)
        if padding_mode != "zeros":  # the input is then padded before it reaches the product
            self._continuation = in_torch_order(before, after)
            size = tuple(map(sum, zip(before, size, after, strict=True)))
            before = after = none
        self.geometry = Geometry(
            size, self.kernel_size, self.stride, self.dilation, before, after, groups
        )
        self.output_size = self.geometry.output_size

        options = {"device": device, "dtype": dtype}
        positions, taps = self.geometry.positions, math.prod(self.kernel_size)
        storage = torch.empty(taps, positions, in_channels // groups, out_channels, **options)
        self.weight = nn.Parameter(from_storage(storage, self.geometry))
        shape = (out_channels, *self.output_size) if bias == "position" else (out_channels,)
        offsets = nn.Parameter(torch.empty(shape, **options)) if bias else None
        self.register_parameter("bias", offsets)
        self.register_buffer("present", None)  # which connections are; see neurosim.nn.masked
        self.reset_parameters()

    def _sizes(self, name: str, value: Size) -> tuple[int, ...]:
        return self._per_axis(name, value, 1, f"a whole number >= 1, or {self.axes} of them")

    def _per_axis(self, name: str, value: object, least: int, allowed: str) -> tuple[int, ...]:
        """One whole number for every axis, from as many or from one for all."""
        values = (value,) * self.axes if isinstance(value, Integral) else value
        if isinstance(values, Sequence) and len(values) == self.axes:
            sizes = tuple(int(v) for v in values if isinstance(v, Integral) and int(v) >= least)
            if len(sizes) == self.axes:
                return sizes
        raise InvalidArgument(f"{name} must be {allowed}, got {value!r}")

    def _margins(self, padding: Size | str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Elements added before and after the input along every axis."""
        if padding == "valid":
            padding = 0
        if padding == "same":
            if any(stride != 1 for stride in self.stride):
                raise InvalidArgument(f'stride must be 1 for padding "same", got {self.stride}')
            total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            before, after = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        else:
            allowed = f'"same", "valid", a whole number >= 0 or {self.axes} of them'
            before = after = self._per_axis("padding", padding, 0, allowed)
        if self.padding_mode in BEYOND:  # torch would say so at the first input only
            largest = tuple(size + BEYOND[self.padding_mode] for size in self.input_size)
            if any(pad > most for pad, most in zip(after, largest, strict=True)):
                got = f'"same", which is {after}' if padding == "same" else f"{after}"
                raise InvalidArgument(
                    f"padding must be at most {largest} for padding_mode "
                    f'"{self.padding_mode}", got {got}'
                )
        return before, after

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights as `init` says; biases uniform within 1 / sqrt(fan-in), as torch."""
        fan = math.prod(self.kernel_size)
        std = math.sqrt(2 / (self.out_channels * fan))
        if callable(self.init):
            self.init(self.weight)
        elif self.init == "independent":
            self.weight.normal_(0, std)
        else:
            require(
                isinstance(self.init, int | float) and 0 <= self.init < math.inf,
                "init",
                self.init,
                '"independent", a finite number >= 0 or a callable',
            )
            shared = self.weight.new_empty(self.weight.shape[self.axes :]).normal_(0, std)
            self.weight.normal_(0, float(self.init) * std).add_(shared)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_channels // self.groups * fan)
            self.bias.uniform_(-bound, bound)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002, torch's name
        """(N, C, *input_size) -> (N, O, *output_size), or both without N."""
        x = input
        batched = x.ndim == self.axes + 2
        expected = (self.in_channels, *self.input_size)
        if x.ndim not in (self.axes + 1, self.axes + 2) or tuple(x.shape[-len(expected) :]) != (
            expected
        ):
            raise InvalidArgument(
                f"input of {self._called()} must be of shape {expected}, with or without a batch "
                f"axis before it, got {tuple(x.shape)}"
            )
        if not batched:
            x = x.unsqueeze(0)
        x = self.continued(x)
        weight, bias = self.weight, self.bias
        if self.present is not None:
            weight = weight * self.present
        x, weight = lowered(x, weight)
        bias = bias if bias is None else lowered(bias)[0]
        if x.dtype != weight.dtype:
            raise InvalidArgument(
                f"input of {self._called()} must have the weight's dtype {weight.dtype}, got "
                f"{x.dtype}"
            )
        y = local_product(x, weight, self.geometry, self.backend)
        if bias is not None:
            y = y + bias.reshape(*bias.shape, *(1,) * (y.ndim - 1 - bias.ndim))
        return y if batched else y.squeeze(0)

    def continued(self, x: Tensor) -> Tensor:
        """(N, C, *input_size) repeated beyond its edges as `padding_mode` says; without zeros."""
        if not any(self._continuation):
            return x
        return functional.pad(x, self._continuation, mode=self.padding_mode)

    def padded(self, x: Tensor) -> Tensor:
        """(N, C, *input_size) with all that filters meet beyond its edges, zeros too."""
        return functional.pad(self.continued(x), self.geometry.pads)

    def seen(self) -> Tensor:
        """Which position of the input every tap of every output position meets, (taps, positions).

        Counted in the order of memory; -1 for zeros of the padding.
        """
        size = self.input_size
        numbers = torch.arange(math.prod(size), dtype=torch.float64)  # integers cannot be reflected
        numbers = self.continued(numbers.view(1, 1, *size)).flatten().long()
        elements = torch.from_numpy(met(self.geometry).T)
        return torch.where(elements < 0, -1, numbers[elements])

    def _called(self) -> str:
        kind = type(self).__name__
        return f"layer {self.name!r} ({kind})" if self.name else kind

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move and cast parameters, but keep their order when a model becomes channels-last."""
        return super()._apply(keeping_order(fn), recurse)

    def extra_repr(self) -> str:
        """The arguments that differ from their defaults."""
        shown = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        shown += f", input_size={self.input_size}, stride={self.stride}"
        optional = {
            "padding": (self.padding, (0,) * self.axes),
            "dilation": (self.dilation, (1,) * self.axes),
            "groups": (self.groups, 1),
            "padding_mode": (self.padding_mode, "zeros"),
        }
        shown += "".join(f", {k}={v!r}" for k, (v, default) in optional.items() if v != default)
        if self.bias is None:
            return shown + ", bias=False"
        return shown + (", bias='position'" if self.bias.ndim > 1 else "")


class LocallyConnected1d(LocallyConnected):
    """A locally connected layer over sequences: (N, C, L) -> (N, O, L')."""

    axes = 1


class LocallyConnected2d(LocallyConnected):
    """A locally connected layer over images: (N, C, H, W) -> (N, O, H', W')."""

    axes = 2


class LocallyConnected3d(LocallyConnected):
    """A locally connected layer over volumes: (N, C, D, H, W) -> (N, O, D', H', W')."""

    axes = 3


LOCAL = {1: LocallyConnected1d, 2: LocallyConnected2d, 3: LocallyConnected3d}
