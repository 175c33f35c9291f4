"""A network sleeps on a GPU as it does on a CPU."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from neurosim.models import resnet20
from neurosim.nn import LocallyConnected2d
from neurosim.nn.masked import sever_weights
from neurosim.sleep import (
    Circuit,
    Hebbian,
    Instant,
    Layerwise,
    Patterns,
    layer_statistics,
    local_layers,
    share,
)
from neurosim.sleep.share import Mechanism

pytestmark = pytest.mark.gpu


def network() -> nn.Module:
    """Layers with and without strides, borders and groups, that a pattern can pass through."""
    torch.manual_seed(0)
    return nn.Sequential(
        LocallyConnected2d(2, 6, 3, 9, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        LocallyConnected2d(6, 4, 3, 9, stride=2, padding=1, groups=2, bias="position"),
    )


@pytest.mark.parametrize(
    ("mechanism", "options"),
    [
        (Instant(), {}),
        (Instant(), {"border": "exclude", "scaling": "layer"}),
        (Hebbian(steps=20, batch=32, rate=0.05), {"scaling": "grid"}),
        (Hebbian(steps=3, batch=4, rate=0.05), {"noise": 0.1, "border": "exclude"}),
        (Circuit(presentations=200), {"scaling": "neuron"}),
        (Circuit(presentations=20), {"patterns": Patterns("one-hot")}),
        (Circuit(presentations=2), {"noise": 0.1}),
        (Layerwise(steps=5, batch=4), {}),
    ],
)
def test_as_on_a_cpu(mechanism: Mechanism, options: dict[str, Any]) -> None:
    found = {}
    for device in ("cpu", "cuda"):
        model = network().to(device)
        drawn = torch.Generator().manual_seed(1) if "noise" in options else None
        slept = share(model, mechanism, generator=drawn, **options)
        numbers = [[*vars(after.after).values()] for after in slept.values()]
        weights = [layer.weight.detach().cpu() for layer in local_layers(model).values()]
        found[device] = (torch.tensor(numbers), weights)
        assert all(layer.weight.device.type == device for layer in local_layers(model).values())
    (here, weights_here), (there, weights_there) = found["cpu"], found["cuda"]
    torch.testing.assert_close(weights_there, weights_here, rtol=1e-4, atol=1e-5)
    plain = [0, 1, 2, 6, 7]  # ratios within a grid divide by what rounding leaves
    torch.testing.assert_close(
        there[:, plain], here[:, plain], rtol=1e-3, atol=1e-5, equal_nan=True
    )


@pytest.mark.parametrize("severed", [0.0, 0.3])
def test_statistics(severed: float) -> None:
    torch.manual_seed(0)
    layer = LocallyConnected2d(3, 5, 3, 11, padding=1)
    if severed:
        sever_weights(layer, severed)
    here = layer_statistics(layer)
    there = layer_statistics(copy.deepcopy(layer).to("cuda"))
    assert vars(there) == pytest.approx(vars(here), rel=1e-4)


def test_a_whole_network_in_the_circuit() -> None:
    """The memory and the operators of a ResNet-20's sleep."""
    torch.manual_seed(0)
    model = resnet20(connectivity="local").to("cuda")
    slept = share(model, Circuit(presentations=200), scaling="layer")
    assert len(slept) == 21  # with two shortcuts
    for statistics in slept.values():
        assert statistics.after.spread < statistics.before.spread
        assert statistics.after.norm == pytest.approx(statistics.before.norm, rel=1e-4)
