"""What a sleep does to a layer and to a model: means, spread, norms, borders, bad input."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import CASES, Neurons, layer_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neurosim.dynamics import (
    Gaussian,
    InstantResponse,
    Plasticity,
    RateCircuit,
    theory,
    transfer,
)
from neurosim.errors import InvalidArgument, StabilityError
from neurosim.models import resnet
from neurosim.nn import LocallyConnected1d, LocallyConnected2d
from neurosim.nn.local import LocallyConnected
from neurosim.nn.masked import connect, mask_of, sever_inputs, sever_weights
from neurosim.sleep import (
    Circuit,
    Frame,
    Hebbian,
    Instant,
    Patterns,
    Sleep,
    Tiles,
    frame_of,
    layer_statistics,
    local_layers,
    share,
    share_moments,
)
from neurosim.sleep.operator import largest_singular_value

MECHANISMS = {
    "instant": Instant(),
    "hebbian": Hebbian(steps=20, batch=32, rate=0.05),
    "circuit": Circuit(presentations=400),
}
each_mechanism = pytest.mark.parametrize("mechanism", MECHANISMS.values(), ids=MECHANISMS)


@pytest.fixture(autouse=True)
def one_thread():
    """On small tensors threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def square(border_size: int = 9, **arguments: Any) -> LocallyConnected:
    arguments = {"kernel_size": 3, "padding": 1} | arguments
    return layer_of((border_size, border_size), **arguments)


def grid_means(weight: Tensor, period: int) -> list[Tensor]:
    return [weight[i::period, j::period].mean((0, 1)) for i in range(period) for j in range(period)]


# Instant: the mean


@pytest.mark.parametrize(
    ("kernel", "stride", "period"),
    [(3, 1, 3), (3, 2, 3), (2, 1, 2), (2, 2, 1), (4, 2, 2), (1, 1, 1)],
)
def test_instant_is_the_mean_over_every_kth_position(kernel: int, stride: int, period: int) -> None:
    layer = layer_of((11, 8), kernel_size=kernel, stride=stride, padding=kernel // 2)
    wanted = layer.weight.detach().clone()
    for i in range(period):
        for j in range(period):
            wanted[i::period, j::period] = wanted[i::period, j::period].mean((0, 1), keepdim=True)
    share(layer, Instant())
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=0, atol=1e-15)
    assert frame_of(layer).period == (period, period)


@settings(max_examples=30, deadline=None)
@given(
    case=st.sampled_from(sorted(CASES)),
    border=st.sampled_from(["share", "exclude"]),
    seed=st.integers(0, 99),
)
def test_instant_keeps_means_and_is_done_at_once(case: str, border: str, seed: int) -> None:
    size, arguments = CASES[case]
    layer = layer_of(size, seed=seed, **arguments)
    neurons = Neurons.of(layer, border)
    if not neurons.positions:
        return
    wanted = neurons.written(neurons.mean(neurons.weights()))
    Sleep(Instant(), border)(layer)  # type: ignore[arg-type]
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=0, atol=1e-15)
    Sleep(Instant(), border)(layer)  # type: ignore[arg-type]
    torch.testing.assert_close(layer.weight.detach(), wanted, rtol=0, atol=1e-15)


@pytest.mark.parametrize("border", ["share", "exclude"])
def test_equation_4_keeps_the_mean(border: str) -> None:
    layer = square()
    before, neurons = layer.weight.detach().clone(), Neurons.of(layer, border)
    mean = neurons.mean(neurons.weights())
    share(layer, Hebbian(steps=30, gamma=0.1), border)  # type: ignore[arg-type]
    after = Neurons.of(layer, border)
    np.testing.assert_allclose(after.mean(after.weights()), mean, rtol=0, atol=1e-14)
    assert not torch.allclose(before, layer.weight)


@pytest.mark.parametrize(("kernel", "stride", "period"), [(3, 1, 3), (2, 2, 1), (1, 1, 1)])
def test_what_stays_equal_when_wake_alternates_with_sleep(
    kernel: int, stride: int, period: int
) -> None:
    """One filter for all: steps of learning and sleeps keep it one only where there is one grid."""
    layer = layer_of((12, 12), kernel_size=kernel, stride=stride, padding=kernel // 2, init=0.0)
    x = torch.randn(8, 4, 12, 12, dtype=torch.float64)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (layer(x) ** 3).mean().backward()
        optimizer.step()
        assert layer_statistics(layer).spread > 1e-3
        share(layer)
        weight = layer.weight.detach()
        for i in range(period):
            for j in range(period):
                grid = weight[i::period, j::period]
                torch.testing.assert_close(grid, grid[:1, :1].expand_as(grid), rtol=0, atol=1e-14)
    everywhere = torch.allclose(weight, weight[:1, :1].expand_as(weight), rtol=0, atol=1e-6)
    assert everywhere == (period == 1)


# Borders, storage, number formats


@each_mechanism
def test_excluded_positions_are_left_bit_for_bit(mechanism: Any) -> None:
    layer = square(dtype=torch.float32)
    before = layer.weight.detach().clone()
    share(layer, mechanism, border="exclude")
    inner = (slice(1, -1), slice(1, -1))
    changed = (layer.weight != before).flatten(2).any(2)
    assert changed[inner].all()
    assert changed.sum() == 49
    alone = layer_of((7, 7), kernel_size=3, padding=1, dtype=torch.float32)
    with torch.no_grad():  # the interior, sharing among itself: grids are moved by one
        alone.weight.copy_(before[inner])
    share(alone, mechanism, border="share")
    if isinstance(mechanism, Instant):
        torch.testing.assert_close(layer.weight[inner], alone.weight)


def test_a_layer_without_interior_has_nobody_to_exclude_from() -> None:
    layer = layer_of((2, 2), kernel_size=3, padding=1)
    before = layer.weight.detach().clone()
    share(layer, Instant(), border="exclude")
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("border", ["share", "exclude"])
@pytest.mark.parametrize("order", ["plain", "transposed"])
@each_mechanism
def test_any_order_in_memory(mechanism: Any, order: str, border: str) -> None:
    layer = square(groups=2)
    other = copy.deepcopy(layer)
    weight = other.weight.detach()
    weight = (
        weight.contiguous()
        if order == "plain"
        else weight.transpose(0, 3).contiguous().transpose(0, 3)
    )
    assert weight.stride() != layer.weight.stride()
    other.weight = nn.Parameter(weight)
    for each in (layer, other):
        share(each, mechanism, border)  # type: ignore[arg-type]
    torch.testing.assert_close(layer.weight, other.weight, rtol=0, atol=1e-14)
    assert other.weight.stride() == weight.stride()


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@each_mechanism
def test_number_formats(mechanism: Any, dtype: torch.dtype, noise: float) -> None:
    """As in double precision, to the rounding of the weights; norms too."""
    if isinstance(mechanism, Instant):
        noise = 0.0
    elif noise:
        mechanism = {
            Hebbian: Hebbian(steps=3, batch=2, rate=0.02),
            Circuit: Circuit(RateCircuit(), Plasticity(1e-5), 3),
        }[type(mechanism)]
    layer = square(6, dtype=dtype)
    exact = square(6)
    with torch.no_grad():
        exact.weight.copy_(layer.weight)
    for scaling in (None, "neuron"):
        for each in (layer, exact):
            share(
                each, mechanism, noise=noise, scaling=scaling, patterns=Patterns(seed=1),
                generator=torch.Generator().manual_seed(3) if noise == 0 else None,
            )  # fmt: skip
        assert layer.weight.dtype == dtype
        if noise == 0:
            bound = 6 * torch.finfo(dtype).eps * exact.weight.abs().max().item()
            torch.testing.assert_close(layer.weight.double(), exact.weight, rtol=0, atol=bound)
        assert layer.weight.isfinite().all()


def test_sharing_again_and_again_does_not_let_halves_drift() -> None:
    layer = LocallyConnected2d(2, 3, 3, 33, padding=1, init=0.0, dtype=torch.bfloat16)
    start = layer.weight.detach().clone()
    for _ in range(20):
        share(layer)
    assert torch.equal(layer.weight, start)


@each_mechanism
def test_autocast_does_not_reach_a_sleep(mechanism: Any) -> None:
    layer, other = square(dtype=torch.float32), square(dtype=torch.float32)
    share(layer, mechanism)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        share(other, mechanism)
    assert torch.equal(layer.weight, other.weight)


# Where sleeps end


def test_the_published_sleep_leaves_what_theory_predicts() -> None:
    """100 batches of 128 Gaussian tiles, rate 0.1, gamma 1e-5, the border excluded.

    With C_b the second moment of a batch, deviations follow d <- (1 - eta C_b - eta gamma) d +
    eta gamma d_0, and E[C_b^2] = 1 + (D + 1) / B for Gaussian tiles.
    """
    layer = layer_of((32, 32), kernel_size=3, padding=1)
    neurons = Neurons.of(layer, "exclude")
    weights = neurons.weights()
    before = weights - neurons.mean(weights)
    share(layer, Hebbian(redraw=1), border="exclude")
    weights = Neurons.of(layer, "exclude").weights()
    left = np.linalg.norm(weights - neurons.mean(weights)) / np.linalg.norm(before)
    eta, gamma, dimension, batch = 0.1, 1e-5, 36, 128
    mean = square = 1.0
    for _ in range(100):
        kept = 1 - 2 * eta * (1 + gamma) + eta**2 * (1 + (dimension + 1) / batch)
        square = kept * square + 2 * eta * gamma * (1 - eta) * mean + (eta * gamma) ** 2
        mean = (1 - eta * (1 + gamma)) * mean + eta * gamma
    assert left == pytest.approx(math.sqrt(square), rel=0.1)
    assert 1e-5 < left < 1e-4


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_noise_acts_as_decay(sigma: float) -> None:
    """The mean ends at gamma / (gamma + s) of what it was, s = sigma^2 (1 - 1/N) (App. A.3)."""
    gamma, neurons = 0.3, 12
    layer = LocallyConnected1d(3, 40, 1, neurons, bias=False, dtype=torch.float64, init=1.0)
    w_init = layer.weight.detach()[..., 0].numpy().copy()  # (N, O, D)
    mechanism = Hebbian(steps=400, batch=16, rate=0.05, gamma=gamma)
    share(layer, mechanism, noise=sigma, generator=torch.Generator().manual_seed(0))
    weights = layer.weight.detach()[..., 0].numpy()
    kept = (weights.mean(0) * w_init.mean(0)).sum() / (w_init.mean(0) ** 2).sum()
    s = theory.noise_decay(sigma, neurons)
    assert kept == pytest.approx(gamma / (gamma + s), rel=0.04)
    wanted = theory.noisy_weights(w_init.swapaxes(0, 1), np.eye(3), gamma, sigma).swapaxes(0, 1)
    assert np.linalg.norm(weights - wanted) < 0.15 * np.linalg.norm(wanted)


def test_a_long_circuit_sleep_ends_where_theory_says() -> None:
    """g_dev and g_mean of the rate circuit (gamma large enough to get there)."""
    response, gamma = RateCircuit(alpha=10), 0.2
    layer = layer_of((6, 6), channels=2, kernel_size=2, stride=2, init=1.0)
    w_init = layer.weight.detach().flatten(3).flatten(0, 1).transpose(0, 1).numpy().copy()
    rule = Plasticity(2e-5, gamma, momentum=0.0)
    share(layer, Circuit(response, rule, 8000))
    weights = layer.weight.detach().flatten(3).flatten(0, 1).transpose(0, 1).numpy()
    wanted = theory.circuit_weights(w_init, np.eye(8), gamma, response)
    np.testing.assert_allclose(weights, wanted, atol=0.1 * np.abs(wanted).max())


@pytest.mark.parametrize("channels", [3, 16, 32])
@pytest.mark.parametrize("kind", ["gaussian", "one-hot"])
def test_the_default_circuit_sleep_is_fit_for_a_network(kind: str, channels: int) -> None:
    """Minutes of sleep leave a few per cent of the deviations and most of the mean, at any D."""
    sleep = Circuit()
    assert 1 < sleep.minutes < 15
    layer = layer_of((6, 6), channels, 2, kernel_size=3, padding=1, init=0.5, dtype=torch.float32)
    start = torch.stack(grid_means(layer.weight.detach(), 3)).clone()
    slept = share(layer, sleep, patterns=Patterns(kind))["layer"]  # type: ignore[arg-type]
    assert 0.01 < slept.after.spread / slept.before.spread < 0.12
    end = torch.stack(grid_means(layer.weight.detach(), 3))
    kept = (end * start).sum() / start.square().sum()
    assert 0.93 < kept < 0.96


# Scaling


@pytest.mark.parametrize("border", ["share", "exclude"])
@pytest.mark.parametrize("scaling", ["neuron", "grid", "layer"])
@pytest.mark.parametrize("mechanism", ["hebbian", "circuit"])
def test_scaling_returns_norms(mechanism: str, scaling: Any, border: Any) -> None:
    layer, plain = square(), square()
    sleep = (
        Circuit(RateCircuit(), presentations=400)
        if mechanism == "circuit"
        else MECHANISMS[mechanism]
    )

    def norms(neurons: Neurons) -> np.ndarray:
        squares = (neurons.weights() ** 2).sum((2, 3))  # (P, O)
        if scaling == "grid":
            return np.sqrt(neurons.mean(squares))
        return np.sqrt(squares if scaling == "neuron" else squares.mean())

    before = norms(Neurons.of(layer, border))
    share(layer, sleep, border, scaling=scaling)
    share(plain, sleep, border)
    scaled, unscaled = Neurons.of(layer, border), Neurons.of(plain, border)
    np.testing.assert_allclose(norms(scaled), before, rtol=1e-12)
    factor = (before / norms(unscaled))[..., None, None]
    np.testing.assert_allclose(
        scaled.weights(), factor * unscaled.weights(), rtol=1e-10, atol=1e-15
    )
    assert not np.allclose(factor, 1, rtol=1e-3)


def test_scaling_leaves_silent_neurons_silent() -> None:
    layer = square()
    with torch.no_grad():
        layer.weight[..., 2, :, :, :] = 0
    share(layer, scaling="neuron")
    assert (layer.weight[..., 2, :, :, :] == 0).all()
    assert layer.weight.isfinite().all()


# Models, seeds, optimizers


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
    assert slept(generator=generator()).equal(slept(generator=generator()))
    shared = generator()
    once, again = slept(generator=shared), slept(generator=shared)
    assert not once.equal(again)
    assert not once.equal(first)


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
    tiles = {
        "2": Tiles(torch.randn(5, 8, 4, 3, 3)),
        "4": Tiles(torch.randn(5, 8, 4, 1, 1)),
    }
    mechanism = Hebbian(steps=5, batch=8, rate=0.05)
    share(net, mechanism, patterns=tiles)
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
    connect(layer, weights=torch.tensor([1, 1, 0, 1]).bool().view(4, 1, 1, 1))
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    layer(torch.tensor([[[1.0, 2.0, 3.0, 6.0]]])).sum().backward()
    optimizer.step()
    share_moments(optimizer, layer)
    moments = optimizer.state[layer.weight]["momentum_buffer"].flatten()
    assert moments.tolist() == [3, 3, 0, 3]


# Stability


def test_the_published_rate_explodes_where_inputs_are_long_and_ours_does_not() -> None:
    """D = 576: refused as published, and what would have happened; the relative rate settles."""
    layer = layer_of((3, 3), 64, 2, kernel_size=3, padding=1)
    published = {"response": RateCircuit(), "plasticity": Plasticity(), "presentations": 400}
    with pytest.raises(StabilityError, match=r"layer 'layer' cannot sleep like this: .*at most"):
        share(layer, Circuit(**published, reference=1e9))
    grown = transfer(
        Gaussian(576, 400), response=RateCircuit(), plasticity=Plasticity(), check=False
    )
    assert np.linalg.norm(grown.deviation) / 24 > 5
    relative = share(layer, Circuit(**published, reference=81))["layer"]
    assert relative.after.norm < relative.before.norm


def test_strong_inhibition_needs_small_steps() -> None:
    layer = square()
    with pytest.raises(StabilityError, match=r"response.dt must be < .* response.alpha < .* = 59"):
        share(layer, Circuit(RateCircuit(alpha=59), presentations=5))
    share(layer, Circuit(RateCircuit(alpha=58), presentations=5))
    share(layer, Circuit(RateCircuit(alpha=59).with_dt(0.5), presentations=5))


def test_a_hebbian_rate_too_large_names_what_is_safe() -> None:
    """D = 2,304 in batches of 32: a rate of 0.15 grows deviations seventyfold in ten batches."""
    layer = layer_of((4, 4), 256, 2, kernel_size=3, padding=1, dtype=torch.float32)
    with pytest.raises(StabilityError, match=r"layer 'layer' .* sleep.rate must .*2304") as error:
        share(layer, Hebbian(steps=10, batch=32, rate=0.15))
    safe = float(str(error.value).split(" = ")[1].split()[0])
    largest = (1 + math.sqrt(2304 / 32)) ** 2  # Marchenko and Pastur's edge
    assert safe == pytest.approx(2 / largest, rel=0.05)
    before = layer_statistics(layer).spread
    share(layer, Hebbian(steps=2, batch=32, rate=safe))
    assert layer_statistics(layer).spread < before


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (1, 5), (50, 50)])
def test_the_largest_singular_value(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    exact = torch.linalg.matrix_norm(matrix, ord=2).item()
    assert largest_singular_value(matrix) == pytest.approx(exact, rel=0.05)
    assert largest_singular_value(torch.zeros(3, 3)) == 0
    assert math.isnan(largest_singular_value(torch.full((3, 3), math.nan)))


@pytest.mark.parametrize("mechanism", [Hebbian(steps=40, batch=1, rate=0.5)])
def test_a_noisy_sleep_that_explodes_is_refused_and_leaves_the_weights(mechanism: Any) -> None:
    layer = square(6)
    before = layer.weight.detach().clone()
    with pytest.raises(StabilityError, match="layer 'layer' cannot sleep like this"):
        share(layer, mechanism, noise=2.0)
    assert torch.equal(layer.weight, before)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sleep("instant"), r"mechanism must be Instant\(\), Hebbian.* got 'instant'"),
        (lambda: Sleep(border="shared"), "border must be one of share, exclude, got 'shared'"),
        (lambda: Sleep(Hebbian(), noise=-0.1), "noise must be finite and >= 0, got -0.1"),
        (lambda: Sleep(Hebbian(), noise=math.inf), "noise must be finite and >= 0, got inf"),
        (lambda: Sleep(noise=0.1), r"noise must be 0 for Instant\(\)"),
        (lambda: Sleep(scaling="neurons"), "scaling must be one of"),
        (lambda: Sleep(Hebbian(), patterns="gaussian"), "patterns must be"),
        (lambda: Hebbian(steps=0), "sleep.steps must be a whole number >= 1, got 0"),
        (lambda: Hebbian(batch=1.5), "sleep.batch must be a whole number >= 1, got 1.5"),
        (lambda: Hebbian(rate=0), "sleep.rate must be finite and > 0"),
        (lambda: Hebbian(gamma=-0.1), "sleep.gamma must be finite and >= 0, got -0.1"),
        (lambda: Hebbian(gamma=math.nan), "sleep.gamma must be finite and >= 0, got nan"),
        (lambda: Hebbian(momentum=1), "sleep.momentum must be at least 0 and below 1"),
        (lambda: Hebbian(redraw=0), "sleep.redraw must be a whole number >= 1, got 0"),
        (lambda: Circuit(presentations=0), "sleep.presentations must be a whole number >= 1"),
        (lambda: Circuit(reference=0), "sleep.reference must be finite and > 0"),
        (lambda: Circuit(RateCircuit(rectified=True)), "rectified must be False"),
        (lambda: Patterns("gauss"), "patterns.kind must be one of gaussian"),
        (lambda: Patterns(seed=-1), "patterns.seed must be >= 0"),
    ],
)
def test_bad_settings(make: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()


def test_bad_input() -> None:
    layer = square()
    with pytest.raises(InvalidArgument, match="a locally connected layer to sleep, got a Linear"):
        share(nn.Linear(2, 2))
    with pytest.raises(InvalidArgument, match=r"got 'tiles of shape \(5, 8, 4, 2, 2\)'"):
        share(layer, Hebbian(steps=5, batch=8), patterns=torch.randn(5, 8, 4, 2, 2))
    with pytest.raises(InvalidArgument, match="40 tiles, as the sleep shows, got '35 tiles'"):
        share(layer, Hebbian(steps=5, batch=8), patterns=torch.randn(5, 7, 4, 3, 3))
    tiles = torch.randn(5, 8, 4, 3, 3)
    tiles[3, 2, 1, 0, 0] = math.nan
    with pytest.raises(InvalidArgument, match="finite"):
        share(layer, Hebbian(steps=5, batch=8), patterns=tiles)
    with pytest.raises(InvalidArgument, match="border must be one of"):
        frame_of(layer, "shared")  # type: ignore[arg-type]
    assert math.isnan(Circuit(InstantResponse()).minutes)


def test_frames_are_kept() -> None:
    one: Frame = frame_of(square())
    assert frame_of(square(seed=3)) is one
    assert frame_of(square(), "exclude") is not one
