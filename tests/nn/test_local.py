"""The layers are what `nn.ConvNd` is, with filters of their own at every position."""

from __future__ import annotations

import pytest
import torch
from local_layers import (
    ARGUMENTS,
    BACKENDS,
    CHANNELS_LAST,
    assert_equal,
    convolution_like,
    layer_of,
    outcome,
    shape,
    stored,
)
from torch import Tensor, nn

from neurosim.nn import LocallyConnected2d
from neurosim.nn.local import PADDING_MODES


@pytest.mark.parametrize("bias", [True, False, "position"])
@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("case", range(len(ARGUMENTS)))
def test_equal_filters_make_a_convolution(case: int, mode: str, bias: bool | str) -> None:
    """Outputs and gradients; a shared parameter's gradient is the sum over positions."""
    size, arguments = ARGUMENTS[case]
    padding = arguments.get("padding", 0)
    if mode == "reflect" and isinstance(padding, tuple):
        padding = tuple(min(p, n - 1) for p, n in zip(padding, size, strict=True))
    arguments = arguments | {"padding_mode": mode, "padding": padding}
    layer = layer_of(size, bias=bias, **arguments)
    convolution = convolution_like(layer, **arguments)
    assert layer.weight.shape == (*layer.output_size, *convolution.weight.shape)  # type: ignore
    inputs = [torch.randn(shape(layer), dtype=torch.float64)]
    inputs.append(inputs[0][1])
    inputs.append(torch.stack([inputs[0], inputs[0]], 1)[:, 0])  # neither format
    if memory_format := CHANNELS_LAST.get(layer.axes):
        inputs.append(inputs[0].contiguous(memory_format=memory_format))
    for x in inputs:
        wanted, got = outcome(convolution, x), outcome(layer, x)
        assert got["output"].shape[-layer.axes :] == layer.output_size
        got["weight"] = got["weight"].sum(tuple(range(layer.axes)))
        if bias == "position":
            got["bias"] = got["bias"].flatten(1).sum(1)
        assert_equal(got, wanted)


@pytest.mark.parametrize("mode", PADDING_MODES)
def test_every_tap_sees_a_place_of_the_input(mode: str) -> None:
    """What it meets in the padded input is what stands there, and zero beyond."""
    layer = LocallyConnected2d(1, 1, (2, 3), (5, 4), (2, 1), (1, 2), padding_mode=mode)
    x = torch.rand(1, 1, 5, 4) + 1
    kind = "constant" if mode == "zeros" else mode
    padded = layer.padded(x)
    assert torch.equal(padded, nn.functional.pad(x, (2, 2, 1, 1), mode=kind))
    seen = layer.seen()
    assert (seen < 0).any() == (mode == "zeros")
    values = torch.where(seen < 0, 0, x.flatten()[seen])
    for found, tap in zip(values, layer.geometry.taps(), strict=True):
        assert torch.equal(found, padded[0, 0][tap].flatten())


def test_weight_at_a_position_is_its_filter() -> None:
    layer = layer_of((6, 5), padding=1, bias="position")
    x = torch.randn(shape(layer), dtype=torch.float64)
    h, w = 2, 3
    assert layer.weight[h, w].shape == nn.Conv2d(4, 8, 3).weight.shape
    assert layer.bias is not None
    patch = x[:, :, h - 1 : h + 2, w - 1 : w + 2]
    wanted = torch.einsum("nikl,oikl->no", patch, layer.weight[h, w]) + layer.bias[:, h, w]
    torch.testing.assert_close(layer(x)[:, :, h, w], wanted)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("mode", PADDING_MODES)
def test_backends_agree_on_filters_of_their_own(mode: str, backend: str) -> None:
    arguments = {"padding": (1, 2), "padding_mode": mode, "stride": (1, 2), "groups": 2}
    layer = layer_of((5, 6), bias="position", backend=backend, **arguments)
    reference = layer_of((5, 6), bias="position", backend="naive", **arguments)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(shape(layer), dtype=torch.float64)
    assert_equal(outcome(layer, x), outcome(reference, x))


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batch_as_convolutions_have_it(backend: str, mode: str) -> None:
    for groups in (1, 2):
        arguments = {"kernel_size": 3, "padding": 1, "padding_mode": mode, "groups": groups}
        layer = layer_of((6, 5), backend=backend, **arguments)
        convolution = convolution_like(layer, **arguments)
        x = torch.empty(shape(layer, 0), dtype=torch.float64)
        wanted, got = outcome(convolution, x), outcome(layer, x)
        assert got["output"].shape == wanted["output"].shape
        assert got["input"].shape == x.shape
        assert all((got[name] == 0).all() for name in ("weight", "bias"))


def test_a_shift_of_the_input_shifts_the_output() -> None:
    """Shared filters on a torus commute with shifts; filters of their own do not."""
    arguments = {"padding": "same", "padding_mode": "circular"}
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    for eps, commutes in ((0.0, True), (0.5, False)):
        layer = layer_of((6, 5), init=eps, **arguments)
        for shift in ((1, 0), (0, 2), (3, 4)):
            shifted = layer(x.roll(shift, (2, 3)))
            assert torch.allclose(shifted, layer(x).roll(shift, (2, 3)), atol=1e-12) is commutes


# Initialisation


def test_every_position_draws_its_own_filter() -> None:
    torch.manual_seed(0)
    layer = layer_of((16, 16), 8, 16, padding=1, groups=2)
    std = (2 / (16 * 9)) ** 0.5  # 2 / (c_out k^2), as in the paper and torch, whatever the groups
    assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
    assert abs(layer.weight.mean().item()) < 0.01 * std
    across = layer.weight.flatten(0, 1).std(0)
    assert across.mean().item() == pytest.approx(std, rel=0.02)
    neighbours = torch.stack([layer.weight[3, 3].flatten(), layer.weight[3, 4].flatten()])
    assert abs(torch.corrcoef(neighbours)[0, 1].item()) < 0.15


@pytest.mark.parametrize("eps", [0, 0.1, 1.0])
def test_a_shared_filter_plus_relative_noise(eps: float) -> None:
    torch.manual_seed(0)
    layer = layer_of((16, 16), 8, 32, padding=1, init=eps)
    std = (2 / (32 * 9)) ** 0.5
    positions = layer.weight.flatten(0, 1)
    assert positions.mean(0).std().item() == pytest.approx(std, rel=0.06)
    noise = (positions - positions.mean(0)).pow(2).mean().sqrt().item()
    assert noise == pytest.approx(eps * std, rel=0.02, abs=1e-12)


def test_a_callable_fills_the_weight_in_place() -> None:
    layer = layer_of((5, 5), init=lambda weight: nn.init.constant_(weight, 3.0))
    assert (layer.weight == 3).all()
    layer.weight.data.zero_()
    layer.reset_parameters()
    assert (layer.weight == 3).all()
    stored(layer)


@pytest.mark.parametrize("bias", [True, "position"])
def test_biases_as_torch_draws_them(bias: bool | str) -> None:
    layer = layer_of((9, 9), 8, 512, groups=2, bias=bias)
    bound = 1 / (8 / 2 * 9) ** 0.5
    assert layer.bias is not None
    assert layer.bias.abs().max().item() <= bound
    assert layer.bias.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_a_seed_repeats_everything() -> None:
    def run() -> dict[str, Tensor]:
        torch.manual_seed(3)
        layer = layer_of((6, 5), padding=1, groups=2, dtype=torch.float32)
        return outcome(layer, torch.randn(shape(layer))) | dict(layer.named_parameters())

    first, second = run(), run()
    assert all(torch.equal(first[name], second[name]) for name in first)
