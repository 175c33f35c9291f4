"""What a sleep does to a layer: means, spread, borders, number formats, ends."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import CASES, Neurons, layer_of
from hypothesis import given, settings
from hypothesis import strategies as st
from little_sleeps import each_mechanism, square
from torch import Tensor, nn

from neurosim.dynamics import Plasticity, RateCircuit, theory
from neurosim.nn import LocallyConnected1d, LocallyConnected2d
from neurosim.sleep import (
    Circuit,
    Frame,
    Hebbian,
    Instant,
    Patterns,
    Sleep,
    frame_of,
    layer_statistics,
    share,
)


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
    share(layer, Hebbian(), border="exclude")
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


def test_frames_are_kept() -> None:
    one: Frame = frame_of(square())
    assert frame_of(square(seed=3)) is one
    assert frame_of(square(), "exclude") is not one
