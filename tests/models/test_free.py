"""Free networks and their twins: the published architecture, first weights, absent connections."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from neurosim.errors import InvalidArgument
from neurosim.models import free
from neurosim.nn import LocallyConnected2d, LowRankLocal2d
from neurosim.nn.masked import mask_of
from neurosim.sleep import local_layers

SHAPES = {"mnist": ((28, 28), 1), "cifar": ((32, 32), 3)}


def built(plan: str, connectivity: str, **options: Any) -> nn.Sequential:
    torch.manual_seed(0)
    size, channels = SHAPES[plan]
    return free(plan, 10, connectivity, size, channels, **options)  # type: ignore[arg-type]


def layers(model: nn.Module) -> list[Any]:
    return [model.get_submodule(f"conv{n}") for n in (1, 2, 3)]


# Table A.2: kernel, channels, stride; and what valid padding leaves of 28 and of 32 pixels.
@pytest.mark.parametrize(
    ("plan", "table", "sides"),
    [
        ("mnist", [(3, 32, 2), (3, 64, 2), (3, 128, 1)], [13, 6, 4]),
        ("cifar", [(5, 64, 2), (5, 128, 2), (3, 256, 1)], [14, 5, 3]),
    ],
)
def test_published_architecture(plan: str, table: list, sides: list[int]) -> None:
    model = built(plan, "local")
    channels = SHAPES[plan][1]
    for layer, (kernel, outputs, stride), side in zip(layers(model), table, sides, strict=True):
        assert layer.weight.shape == (side, side, outputs, channels, kernel, kernel)
        assert (layer.stride, layer.padding) == ((stride, stride), (0, 0))
        assert layer.bias.shape == (outputs, side, side)
        channels = outputs
    assert model.get_submodule("hidden").weight.shape == (1024, channels * sides[-1] ** 2)
    x = torch.rand(2, SHAPES[plan][1], *SHAPES[plan][0])
    assert model(x).shape == built(plan, "conv")(x).shape == (2, 10)
    assert all(not (p != 0).any() for name, p in model.named_parameters() if "bias" in name)


@pytest.mark.parametrize("plan", ["mnist", "cifar"])
def test_a_free_network_with_equal_filters_is_its_twin(plan: str) -> None:
    cnn, fcn = built(plan, "conv").double(), built(plan, "local").double()
    with torch.no_grad():
        for shared, own in zip(layers(cnn), layers(fcn), strict=True):
            shared.bias.normal_()
            own.weight.copy_(shared.weight.expand_as(own.weight))
            own.bias.copy_(shared.bias[:, None, None].expand_as(own.bias))
        for name in ("hidden", "fc"):
            fcn.get_submodule(name).load_state_dict(cnn.get_submodule(name).state_dict())
    x = torch.rand(3, SHAPES[plan][1], *SHAPES[plan][0], dtype=torch.float64)
    torch.testing.assert_close(fcn(x), cnn(x), rtol=1e-12, atol=1e-12)


def test_low_rank_networks_lie_between() -> None:
    """They start as the convolution that their banks average to."""
    mixed = built("mnist", "low-rank", rank=3)
    for layer in layers(mixed):
        assert isinstance(layer, LowRankLocal2d)
        assert layer.rank == 3
    filters = layers(mixed)[0].expanded().weight
    torch.testing.assert_close(filters, filters[:1, :1].expand_as(filters))
    assert mixed(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    with pytest.raises(InvalidArgument, match="probability must be 0 for low-rank layers"):
        built("mnist", "low-rank", probability=0.5)


@pytest.mark.parametrize("fans", ["layer", "position"])
def test_xavier_uniform(fans: str) -> None:
    """sqrt(6 / (fan in + fan out)), the variance of a uniform distribution, and independence."""
    fcn, cnn, channels = built("mnist", "local", fans=fans), built("mnist", "conv"), 1
    for own, shared in zip(layers(fcn), layers(cnn), strict=True):
        outputs, positions = own.out_channels, math.prod(own.output_size)
        per_filter = math.sqrt(6 / (9 * channels + 9 * outputs))
        # Keras takes all axes but the last two, here that of positions, for a kernel's size.
        per_layer = math.sqrt(6 / (positions * 9 * channels + positions * outputs))
        limit = per_layer if fans == "layer" else per_filter
        for weight, bound in ((own.weight, limit), (shared.weight, per_filter)):
            assert bound * (1 - 10 / weight.numel()) < weight.abs().max() <= bound
            error = 3 / math.sqrt(weight.numel())  # of a standard deviation's estimate
            assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=error)
        flat = own.weight.flatten(2).detach()
        a, b = flat[0, 0, 0], flat[1, 1, 0]
        assert not torch.equal(a, b)
        channels = outputs


@pytest.mark.parametrize("connectivity", ["conv", "local"])
@pytest.mark.parametrize("severed", ["inputs", "weights"])
def test_absent_connections(connectivity: str, severed: str) -> None:
    """The share that was asked for; no gradient and no influence, for life."""
    model = built("mnist", connectivity, probability=0.6, severed=severed)
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=0.1)
    x = torch.rand(4, 1, 28, 28)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    for layer in layers(model):
        present: Any = layer.present_inputs if severed == "inputs" else mask_of(layer)
        if severed == "inputs":
            assert present.shape[0] == layer.in_channels
        else:
            assert present.shape == layer.weight.shape
            assert not layer.weight[~present].any()
        assert float(present.float().mean()) == pytest.approx(0.4, abs=0.06)
    if severed == "inputs":
        first: Any = model.get_submodule("conv1")
        absent = ~first.present_inputs
        assert torch.equal(model(x), model(x + 100 * absent))


def test_neurons_without_inputs_are_counted() -> None:
    """By hand: all taps of a filter meet absent inputs."""
    with pytest.warns(UserWarning, match="neurons have no input left") as caught:
        model = built("mnist", "local", probability=0.9)
    first = model.get_submodule("conv1")
    assert isinstance(first, LocallyConnected2d)
    inputs: Any = first.present_inputs
    fields = nn.functional.unfold(inputs[None].float(), 3, stride=2)  # (1, 9, positions)
    expected = 32 * int((fields.sum(1) == 0).sum())
    assert expected > 0
    assert f"{expected} of conv1" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built("mnist", "local", probability=0.05)
        built("mnist", "local")


def test_probability_up_to_99_per_cent_still_trains() -> None:
    with pytest.warns(UserWarning, match="0.99"):
        model = built("cifar", "local", probability=0.99, severed="weights")
    model(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert len(local_layers(model)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"plan": "mnits"}, "did you mean 'mnist'"),
        ({"input_size": (6, 28)}, "large enough for the kernels of the mnist network"),
        ({"probability": 1.0}, "probability must be at least 0 and below 1, got 1.0"),
        ({"probability": -0.1}, "below 1, got -0.1"),
        ({"fans": "filter"}, "fans must be one of layer, position"),
        ({"severed": "outputs"}, "severed must be one of inputs, weights"),
        ({"connectivity": "free"}, "connectivity must be one of conv, local, low-rank"),
        ({"classes": 0}, "classes must be >= 1"),
        ({"in_channels": 0}, "in_channels must be >= 1"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        free(**options)
