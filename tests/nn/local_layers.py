"""Small locally connected layers, convolutions like them, and what both come to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neurosim.nn import LocallyConnected1d, LocallyConnected2d, LocallyConnected3d
from neurosim.nn.ops.local import to_storage

Layer = LocallyConnected1d | LocallyConnected2d | LocallyConnected3d
BACKENDS = ("naive", "matmul")  # for the others see test_ops
LAYERS = (LocallyConnected1d, LocallyConnected2d, LocallyConnected3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}

# Input size and the arguments that a layer shares with its convolution (4 channels to 8).
ARGUMENTS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((9,), {"kernel_size": 3}),
    ((9,), {"kernel_size": 4, "padding": "same", "dilation": 2}),
    ((10,), {"kernel_size": 3, "stride": 2, "padding": 4, "groups": 2}),
    ((6, 5), {"kernel_size": 3, "padding": 1}),
    ((6, 5), {"kernel_size": 3, "padding": "valid", "stride": 2}),
    ((6, 5), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)}),
    ((6, 5), {"kernel_size": (2, 3), "dilation": (2, 1), "padding": "same"}),
    ((6, 5), {"kernel_size": (2, 3), "dilation": (1, 2), "padding": (4, 3), "stride": (3, 2)}),
    ((6, 5), {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2}),
    ((6, 5), {"kernel_size": (1, 3), "padding": "same", "groups": 4}),  # depthwise
    ((6, 5), {"kernel_size": 1, "stride": (2, 3)}),
    ((6, 5), {"kernel_size": (6, 5)}),
    ((4, 3, 5), {"kernel_size": 3, "padding": 1, "stride": (1, 2, 1)}),
    ((4, 3, 5), {"kernel_size": (2, 1, 3), "padding": "same", "groups": 2}),
    ((4, 3, 5), {"kernel_size": (2, 1, 3), "padding": (1, 0, 2), "dilation": (3, 1, 2)}),
]


def layer_of(size: tuple[int, ...], channels: int = 4, outputs: int = 8, **arguments: Any) -> Layer:
    """A layer in double precision unless told otherwise."""
    arguments = {"dtype": torch.float64} | arguments
    kernel = arguments.pop("kernel_size", 3)
    return LAYERS[len(size) - 1](channels, outputs, kernel, size, **arguments)


def convolution_like(layer: Layer, **arguments: Any) -> nn.Module:
    """A convolution of the same arguments; the layer takes over its parameters."""
    bias = layer.bias is not None
    convolution = CONVOLUTIONS[layer.axes - 1](
        layer.in_channels, layer.out_channels, bias=bias, dtype=layer.weight.dtype, **arguments
    )
    with torch.no_grad():
        layer.weight.copy_(convolution.weight)
        if layer.bias is not None and convolution.bias is not None:
            missing = (1,) * (layer.bias.ndim - 1)
            layer.bias.copy_(convolution.bias.reshape(-1, *missing))
    return convolution


def outcome(module: nn.Module, x: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """The output and the gradients of the input and of every parameter, for a random upstream."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = module(x)
    rng = torch.Generator().manual_seed(seed)
    y.backward(torch.randn(y.shape, generator=rng, dtype=torch.float64).to(y.dtype))
    assert x.grad is not None
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return {"output": y.detach(), "input": x.grad, **found}


def assert_equal(got: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 1e-13) -> None:
    assert got.keys() == wanted.keys()
    for name, reference in wanted.items():
        bound = rtol * max(1, reference.abs().max().item() if reference.numel() else 0)
        torch.testing.assert_close(
            got[name], reference, rtol=0, atol=bound, msg=lambda text, name=name: f"{name}: {text}"
        )


def shape(layer: Layer, batch: int | None = 3) -> tuple[int, ...]:
    sizes = (layer.in_channels, *layer.input_size)
    return sizes if batch is None else (batch, *sizes)


def stored(layer: Layer) -> Tensor:
    """The weight as it lies in memory, made sure to be a view."""
    storage = to_storage(layer.weight, layer.geometry)
    assert storage.is_contiguous()
    assert storage.data_ptr() == layer.weight.data_ptr()
    return storage
