"""Sleeps of several layers, on patterns that the layers below make."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import Neurons, layer_of, minibatches
from torch import Tensor, nn

from experiments.common.options import RunOptions
from experiments.dynamic_sharing import layerwise
from neurosim.errors import InvalidArgument, StabilityError
from neurosim.nn import LocallyConnected2d
from neurosim.nn.masked import sever_weights
from neurosim.recording import RunReader
from neurosim.sleep import (
    Agreement,
    Hebbian,
    Layerwise,
    Patterns,
    Sleep,
    Tiles,
    compare_orders,
    layer_statistics,
    local_layers,
    share,
)
from neurosim.sleep.layerwise import layer_inputs


def network(**arguments: Any) -> Any:
    """Two layers, with all that may stand between them; exactly periodic if it wraps around."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "padding": 1, "padding_mode": "circular", "init": 0.5, "dtype": torch.float64
    }  # fmt: skip
    settings |= arguments
    return nn.Sequential(
        LocallyConnected2d(2, 4, 3, 6, bias="position", **settings),
        nn.BatchNorm2d(4, dtype=settings["dtype"]),
        nn.Dropout(0.5),
        nn.ReLU(),
        LocallyConnected2d(4, 3, 3, 6, **settings),
    )


def tiles(steps: int, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(steps, batch, 2, 3, 3, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("border", ["share", "exclude"])
@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
def test_one_layer_follows_equation_4(padding_mode: str, border: str) -> None:
    """Against the plain rule on every neuron's own patch, zeros beyond the border included."""
    layer = layer_of((6, 6), 2, 3, kernel_size=3, padding=1, padding_mode=padding_mode)
    sleep = Layerwise(steps=4, batch=3, rate=0.7, gamma=0.2, momentum=0.4)
    neurons, shown = Neurons.of(layer, border), []
    for batch in tiles(4, 3):
        images = batch.repeat(1, 1, 2, 2)
        images = images / images.square().mean().sqrt()
        mode = {"zeros": "constant", "circular": "circular"}[padding_mode]
        padded = nn.functional.pad(images, (1, 1, 1, 1), mode=mode)
        patches = [
            np.stack([image[:, h : h + 3, w : w + 3].reshape(2, 9) for h, w in neurons.positions])
            for image in padded.numpy()
        ]
        shown.append([patch[:, None].repeat(3, axis=1) for patch in patches])
    wanted = minibatches(neurons, shown, rate=lambda t: 0.7 / 18, gamma=0.2, momentum=0.4)
    expected = neurons.written(wanted)
    share(layer, sleep, border, patterns=tiles(4, 3))  # type: ignore[arg-type]
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=1e-13)


def test_without_a_border_it_is_the_operator() -> None:
    """Where all neurons of a grid see the same, stepping is what `Hebbian` knows as a matrix."""
    layer = layer_of((6, 6), 2, 3, kernel_size=3, padding=1, padding_mode="circular")
    other = copy.deepcopy(layer)
    shown = tiles(5, 8).sign()  # of unit mean square already
    share(layer, Layerwise(steps=5, batch=8, rate=0.9, gamma=0.1), patterns=shown)
    share(other, Hebbian(steps=5, batch=8, rate=0.9 / 18, gamma=0.1), patterns=shown)
    torch.testing.assert_close(layer.weight, other.weight, rtol=0, atol=1e-13)


def test_what_layers_receive() -> None:
    """Every layer's real input at unit mean square; periodic where the layer below is shared."""
    net = network()
    share(net[0])
    settings = Layerwise(steps=1, batch=8)
    (image,) = settings.images(net, Tiles(tiles(1, 8)))
    torch.testing.assert_close(image, tiles(1, 8)[0].repeat(1, 1, 2, 2), rtol=0, atol=0)
    seen = layer_inputs(net.eval(), image)
    assert list(seen) == ["0", "4"]
    x = net[3](net[1](net[0](image)))
    torch.testing.assert_close(seen["4"], x / x.square().mean().sqrt())
    bias = net[0].bias.detach().clone()
    with torch.no_grad():
        net[0].bias.zero_()  # of every position: it alone would break the period
    seen = layer_inputs(net, image)
    assert bias.std() > 0
    for x in seen.values():
        torch.testing.assert_close(x[..., :3, :3], x[..., 3:, 3:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("order", ["together", "in turn"])
def test_all_layers_become_equal_and_nothing_else_changes(order: str) -> None:
    net = network()
    net[0].bias = None
    before = copy.deepcopy(net)
    slept = share(net, Layerwise(steps=150, batch=8, momentum=0.5, order=order))  # type: ignore
    for found in slept.values():
        assert found.after.spread < 0.25 * found.before.spread
    changed = {n for n, v in net.state_dict().items() if not v.equal(before.state_dict()[n])}
    assert changed == {"0.weight", "4.weight"}
    assert all(module.training for module in net.modules())
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())
    net(torch.randn(2, 2, 6, 6, dtype=torch.float64)).sum().backward()


def test_in_turn_waits_for_the_layers_below() -> None:
    """The second layer sleeps on what the finished first one makes."""
    net = network()
    sleep = Layerwise(steps=5, batch=8, order="in turn")
    by_hand = copy.deepcopy(net)
    share(net, sleep)
    share(by_hand[0], replace(sleep, input_shape=(2, 6, 6)))
    torch.testing.assert_close(net[0].weight, by_hand[0].weight, rtol=0, atol=1e-14)
    together = copy.deepcopy(by_hand)  # from here on both orders differ in the second layer only
    share(together, replace(sleep, order="together"))
    first_moved = (together[0].weight - by_hand[0].weight).abs().max()
    assert first_moved > 0
    assert not torch.equal(net[4].weight, by_hand[4].weight)
    assert not torch.equal(net[4].weight, together[4].weight)


def test_both_orders_end_in_the_same_weights() -> None:
    """Up to gamma / lambda_min and what is not forgotten: the longer, the closer."""
    net = network(dtype=torch.float32)
    net[0].bias = None
    short = compare_orders(net, Layerwise(steps=50, batch=8, gamma=0.03, momentum=0.9))
    found = compare_orders(net, Layerwise(steps=400, batch=8, gamma=0.03, momentum=0.9))
    assert list(found) == ["0", "4"]
    assert found["0"].difference == 0
    assert 0.65 < found["0"].smallest_eigenvalue < 1.1  # of Gaussian tiles: nearly 1
    for one in found.values():
        assert one.floor == pytest.approx(0.03 / one.smallest_eigenvalue)
        assert one.left_together < 0.25
        assert one.left_in_turn < 0.25
        assert one.difference < one.floor + one.left_together + one.memory
    assert found["4"].difference < short["4"].difference / 2
    assert found["4"].memory == pytest.approx(math.exp(-0.03 * 400 * 10 / 36))


@pytest.mark.parametrize("padding", [{"padding": 1, "padding_mode": "circular"}, {"padding": 0}])
def test_the_smallest_eigenvalue(padding: dict[str, Any]) -> None:
    """Every neuron sees the tile, in an order that eigenvalues do not know; in equal groups too."""
    layer = layer_of((6, 6), 2, 4, kernel_size=3, groups=2, **padding)
    shown = tiles(20, 4).sign()
    (found,) = compare_orders(layer, Layerwise(steps=20, batch=4), patterns=Tiles(shown)).values()
    groups = shown.flatten(0, 1).flatten(2).unbind(1)  # (tiles, 9) of each
    smallest = min(torch.linalg.eigvalsh(x.T @ x / len(x))[0].item() for x in groups)
    assert found.smallest_eigenvalue == pytest.approx(smallest, rel=1e-9)
    shared = layer_of((6, 6), 2, 4, kernel_size=3, init=0.0)
    (found,) = compare_orders(shared, Layerwise(steps=2)).values()
    assert math.isnan(found.left_together)


def test_a_model_may_begin_with_something_else() -> None:
    """A convolution hands periodic patterns on; the image has its own shape."""
    torch.manual_seed(2)
    stem = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
    net = nn.Sequential(stem, nn.ReLU(), layer_of((6, 6), 2, 3, kernel_size=3).float())
    with pytest.raises(InvalidArgument, match=r"that of the model.s images, got \(2, 6, 6\): .*"):
        share(net, Layerwise(steps=1))
    sleep = Layerwise(steps=200, batch=8, gamma=1e-4, input_shape=(1, 6, 6))
    found = share(net, sleep)["2"]
    assert found.after.spread < 0.5 * found.before.spread
    (image,) = replace(sleep, steps=1).images(net, Patterns())
    assert image.shape == (8, 1, 6, 6)


def test_the_experiment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layerwise, "STEPS", (3, 6))
    report = layerwise.run(RunOptions(out=tmp_path, quiet=True, seed=3))
    found = report.values["layers"]
    assert [(row["steps"], row["layer"]) for row in found] == [
        (s, k) for s in (3, 6) for k in (1, 2, 3)
    ]
    assert found[0]["difference"] == 0 < found[1]["difference"]
    assert all(0 < row["memory"] < 1 and row["left_in_turn"] > 0 for row in found)
    with RunReader(report.run_file) as file:
        assert file["agreement"].shape == (2, 3, len(Agreement._fields))
    again = layerwise.run(RunOptions(out=tmp_path / "again", quiet=True, seed=3))
    assert again.values == report.values


def test_scaling_and_seeds() -> None:
    def slept(seed: int = 0, number: int = 0, **arguments: Any) -> Any:
        net = network()
        settings = Layerwise(steps=5, batch=4, redraw=2)
        Sleep(settings, patterns=Patterns(seed=seed), **arguments)(net, number)
        return net

    first = slept()[4].weight
    assert first.equal(slept(number=1)[4].weight)
    assert not first.equal(slept(number=2)[4].weight)
    assert not first.equal(slept(seed=1)[4].weight)
    for name, layer in local_layers(slept(scaling="layer")).items():
        norm = layer_statistics(local_layers(network())[name]).norm
        assert layer_statistics(layer).norm == pytest.approx(norm, rel=1e-12)


def test_it_refuses_what_it_cannot_do() -> None:
    net = network()
    start = copy.deepcopy(net.state_dict())
    with pytest.raises(StabilityError, match="layer '0' cannot sleep like this: rate must"):
        share(net, Layerwise(steps=30, batch=1, rate=6.0))
    assert all(value.equal(start[name]) for name, value in net.state_dict().items())
    mixed = nn.Sequential(net[0], nn.ReLU(), LocallyConnected2d(4, 3, 1, 6, dtype=torch.float64))
    with pytest.raises(InvalidArgument, match=r"layer '2' must have the kernel size .* \(1, 1\)"):
        share(mixed, Layerwise(steps=1))
    with pytest.raises(InvalidArgument, match="noise must be 0 for Layerwise"):
        share(net, Layerwise(), noise=0.1)
    with pytest.raises(InvalidArgument, match="which shows the first layer only"):
        share(net, Layerwise(), patterns={"0": Patterns(), "4": Patterns()})
    with pytest.raises(InvalidArgument, match=r"input_shape must be channels and 2 sizes, got \(2"):
        share(net, Layerwise(input_shape=(2, 6)))
    twice = nn.Sequential(layer_of((6, 6), 3, 3, kernel_size=3, padding=1), nn.ReLU())
    twice.append(twice[0])
    with pytest.raises(InvalidArgument, match="'0' must be used once in a forward pass, got twice"):
        share(twice, Layerwise(steps=1))
    sever_weights(net[4], 0.5)
    with pytest.raises(InvalidArgument, match="for layer '4', whose absent connections"):
        share(net, Layerwise(steps=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "sleep.steps must be a whole number >= 1, got 0"),
        ({"batch": 2.5}, "sleep.batch must be a whole number >= 1, got 2.5"),
        ({"rate": 0}, "sleep.rate must be finite and > 0, got 0"),
        ({"gamma": math.inf}, "sleep.gamma must be finite and >= 0, got inf"),
        ({"momentum": 1}, "sleep.momentum must be at least 0 and below 1, got 1"),
        ({"order": "in order"}, "sleep.order must be one of together, in turn"),
        ({"redraw": 0}, "sleep.redraw must be a whole number >= 1"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Layerwise(**arguments)
