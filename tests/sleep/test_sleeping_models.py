"""Models that sleep: which layers, what is drawn when, optimizers, absent connections."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import Neurons
from little_sleeps import each_mechanism, square
from torch import Tensor, nn

from neurosim.dynamics import Plasticity
from neurosim.errors import InvalidArgument
from neurosim.models import resnet
from neurosim.nn import LocallyConnected1d, LocallyConnected2d
from neurosim.nn.masked import mask_of, set_pattern, sever_inputs, sever_weights
from neurosim.sleep import (
    Circuit,
    Hebbian,
    Instant,
    Patterns,
    Sleep,
    Tiles,
    layer_statistics,
    local_layers,
    share,
    share_moments,
)


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        LocallyConnected2d(4, 4, 3, 8, padding=1, bias="position"),
        nn.BatchNorm2d(4),
        LocallyConnected2d(4, 6, 1, 8, stride=2),
    )


@each_mechanism
def test_a_model_sleeps_in_its_local_layers_only(mechanism: Any) -> None:
    net = model()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    slept = share(net, mechanism)
    changed = {name for name, value in net.state_dict().items() if not value.equal(before[name])}
    assert changed == {"2.weight", "4.weight"}
    assert list(slept) == ["2", "4"] == list(local_layers(net))
    for name, layer in local_layers(net).items():
        assert slept[name].after == layer_statistics(layer)
        assert slept[name].after.spread < slept[name].before.spread
        assert slept[name].after.grid_snr > slept[name].before.grid_snr
    assert all(parameter.requires_grad for parameter in net.parameters())
    net(torch.randn(2, 3, 8, 8)).sum().backward()  # autograd accepts what was changed in place


def test_a_resnet_sleeps() -> None:
    net = resnet(8, connectivity="local", input_size=8)
    share(net, Hebbian(steps=10), patterns=Patterns("one-hot"))
    slept = share(net)
    assert len(slept) == 9
    assert all(each.after.spread < 1e-7 for each in slept.values())


@pytest.mark.parametrize("mechanism", [Hebbian(steps=5, batch=8), Circuit(presentations=20)])
def test_what_is_drawn_and_when(mechanism: Any) -> None:
    def slept(
        number: int = 0, redraw: int | None = None, seed: int = 0, **arguments: Any
    ) -> Tensor:
        layer = square()
        sleep = Sleep(replace(mechanism, redraw=redraw), patterns=Patterns(seed=seed))
        sleep(layer, number, **arguments)
        return layer.weight.detach()

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    first = slept()
    assert slept().equal(first)
    assert slept(number=7).equal(first)  # the same tiles at every sleep
    assert not slept(seed=1).equal(first)
    assert slept(number=1, redraw=2).equal(slept(number=0, redraw=2))
    assert slept(number=2, redraw=2).equal(slept(number=3, redraw=2))
    assert not slept(number=2, redraw=2).equal(slept(number=1, redraw=2))
    assert slept(generator=generator()).equal(first)  # there is no noise to draw

    def shared(redraw: int | None = None, **arguments: Any) -> Tensor:
        layer = square()
        share(layer, replace(mechanism, redraw=redraw), **arguments)
        return layer.weight.detach()

    assert shared().equal(first)
    drawn = generator()
    once, again = shared(generator=drawn), shared(generator=drawn)
    assert not once.equal(again)
    assert not once.equal(first)
    assert shared(generator=generator()).equal(once)
    assert shared(redraw=2, number=3).equal(slept(number=3, redraw=2))
    with pytest.raises(InvalidArgument, match="number must say how many sleeps there were"):
        shared(redraw=2)


def test_a_noisy_sleep_shows_the_tiles_of_one_without_noise() -> None:
    """In the limit of no noise; the generator draws the neurons' noise and nothing else."""
    mechanism = Hebbian(steps=5, batch=4)
    plain = square()
    Sleep(mechanism)(plain)
    for seed in (0, 1):
        noisy = square()
        Sleep(mechanism, noise=1e-9)(noisy, 0, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(noisy.weight, plain.weight, rtol=0, atol=1e-7)


def test_what_changes_after_a_sleep_is_seen_by_the_next() -> None:
    """Operators are kept; tiles and rates that a user goes on to change are not mistaken."""
    tiles = torch.randn(3, 4, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    mechanism = Hebbian(steps=3, batch=4)
    kept = Tiles(tiles)
    first, again, anew = square(), square(), square()
    share(first, mechanism, patterns=kept)
    tiles *= 0.5
    share(again, mechanism, patterns=kept)  # the tiles as they were given
    share(anew, mechanism, patterns=Tiles(tiles))
    assert again.weight.equal(first.weight)
    assert not anew.weight.equal(first.weight)

    class Rate:
        base = 8e-6
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, t: np.ndarray) -> np.ndarray:
            return np.full(t.shape, self.base)

    rate = Rate()
    for base in (8e-6, 2e-6):
        rate.base = base
        mine, constant = square(), square()
        share(mine, Circuit(plasticity=Plasticity(rate, momentum=0.0), presentations=50))
        share(constant, Circuit(plasticity=Plasticity(base, momentum=0.0), presentations=50))
        assert mine.weight.equal(constant.weight)


def test_weights_that_a_sleep_could_not_change_are_refused() -> None:
    from torch.nn.utils import parametrizations, weight_norm

    new, legacy, tied = square(), square(), nn.Sequential(square(), square())
    tied[1].weight = tied[0].weight
    for layer, message in (
        (parametrizations.weight_norm(new), "weight as a parameter to sleep, got one that is comp"),
        (weight_norm(legacy), "layer 'layer' must have its weight as a parameter to sleep"),
        (tied, "layer '1' must have a weight of its own to sleep, got the one of '0'"),
        (square(device="meta"), "must have weights to sleep, got a meta tensor"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            share(layer)
        with pytest.raises(InvalidArgument, match=message):
            Sleep().check(layer)


def test_noise_is_drawn_where_the_generator_says() -> None:
    mechanism = Hebbian(steps=3, batch=2)

    start = square()

    def slept(seed: int | None) -> Tensor:
        layer = copy.deepcopy(start)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        share(layer, mechanism, noise=0.5, generator=generator)
        return layer.weight.detach()

    assert slept(1).equal(slept(1))
    assert not slept(1).equal(slept(2))
    torch.manual_seed(9)
    first = slept(None)
    assert not slept(None).equal(slept(None))
    torch.manual_seed(9)
    assert slept(None).equal(first)  # without a generator, torch's own


def test_tiles_by_layer() -> None:
    net = model()
    reference = copy.deepcopy(net)
    bare = copy.deepcopy(net)
    tiles = {
        "2": Tiles(torch.randn(5, 8, 4, 3, 3)),
        "4": Tiles(torch.randn(5, 8, 4, 1, 1)),
    }
    mechanism = Hebbian(steps=5, batch=8, rate=0.05)
    share(net, mechanism, patterns=tiles)
    share(bare, mechanism, patterns={name: given.tiles for name, given in tiles.items()})
    assert all(a.equal(b) for a, b in zip(net.parameters(), bare.parameters(), strict=True))
    for name, layer in local_layers(reference).items():
        share(layer, mechanism, patterns=tiles[name])
    assert all(a.equal(b) for a, b in zip(net.parameters(), reference.parameters(), strict=True))
    with pytest.raises(InvalidArgument, match="patterns must have an entry for layer '4', got 2"):
        share(net, mechanism, patterns={"2": tiles["2"]})
    with pytest.raises(InvalidArgument, match="entry for layer '2', got none"):
        share(net, mechanism, patterns={})


@pytest.mark.parametrize(
    "make", [torch.optim.Adam, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)]
)
@pytest.mark.parametrize("border", ["share", "exclude"])
def test_moments_are_averaged_like_weights(make: Any, border: Any) -> None:
    net = model()
    optimizer = make(net.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.randn(4, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    before = copy.deepcopy(optimizer.state_dict()["state"])
    share_moments(optimizer, net, border)
    after = optimizer.state_dict()["state"]
    parameters = list(net.named_parameters())
    for index, (name, parameter) in enumerate(parameters):
        for key, value in before[index].items():
            if name in ("2.weight", "4.weight") and key != "step":
                twin = copy.deepcopy(local_layers(net)[name.split(".")[0]])
                with torch.no_grad():
                    twin.weight.copy_(value)
                share(twin, Instant(), border)
                value = twin.weight.detach()
                assert not value.equal(before[index][key])
            assert torch.as_tensor(after[index][key]).equal(torch.as_tensor(value)), (name, key)
        assert parameter.grad is not None


# Absent connections


@pytest.mark.parametrize("border", ["share", "exclude"])
@pytest.mark.parametrize("kind", ["weights", "inputs", "both"])
def test_only_present_connections_are_averaged(kind: str, border: str) -> None:
    layer = square(groups=2)
    generator = torch.Generator().manual_seed(4)
    if kind != "weights":
        sever_inputs(layer, 0.3, generator=generator)
    if kind != "inputs":
        sever_weights(layer, 0.6, generator=generator)
    mask = mask_of(layer)
    assert mask is not None
    present = mask.expand_as(layer.weight)
    before, neurons = layer.weight.detach().clone(), Neurons.of(layer, border)
    wanted = before.clone()
    for group in neurons.groups:
        chosen = [neurons.positions[i] for i in group]
        for index in np.ndindex(*layer.weight.shape[2:]):
            has = [p for p in chosen if present[(*p, *index)]]
            for p in has:
                wanted[(*p, *index)] = sum(before[(*q, *index)] for q in has) / len(has)
    slept = share(layer, Instant(), border)  # type: ignore[arg-type]
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=0, atol=1e-15)
    assert (layer.weight[~present] == 0).all()
    if border == "share":
        assert slept["layer"].after.spread < 1e-12


@pytest.mark.parametrize("mechanism", [Hebbian(), Circuit()])
def test_neurons_that_see_different_parts_cannot_share_by_patterns(mechanism: Any) -> None:
    net = model()
    sever_weights(net[4], 0.5)
    with pytest.raises(InvalidArgument, match=r"must be Instant\(\) for layer '4', whose absent"):
        share(net, mechanism)


def test_moments_of_absent_connections_do_not_count() -> None:
    layer = LocallyConnected1d(1, 1, 1, 4, bias=False)
    set_pattern(layer, weights=torch.tensor([1, 1, 0, 1]).bool().view(4, 1, 1, 1))
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    layer(torch.tensor([[[1.0, 2.0, 3.0, 6.0]]])).sum().backward()
    optimizer.step()
    share_moments(optimizer, layer)
    moments = optimizer.state[layer.weight]["momentum_buffer"].flatten()
    assert moments.tolist() == [3, 3, 0, 3]
