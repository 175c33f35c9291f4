"""Sleeps that are refused: those that would explode, and bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from brute_force import layer_of
from little_sleeps import square
from torch import nn

from neurosim.dynamics import Gaussian, InstantResponse, Plasticity, RateCircuit, transfer
from neurosim.errors import InvalidArgument, StabilityError
from neurosim.models import resnet20
from neurosim.nn.masked import sever_weights
from neurosim.sleep import (
    Circuit,
    Hebbian,
    Layerwise,
    Patterns,
    Sleep,
    frame_of,
    layer_statistics,
    share,
)
from neurosim.sleep.operator import largest_singular_value

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
        (lambda: Hebbian(redraw=0), "sleep.redraw must be a whole number >= 1 or None, got 0"),
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
    with pytest.raises(InvalidArgument, match=r"model must be a Module, got \[Locally"):
        share([layer])
    with pytest.raises(InvalidArgument, match="generator must be a Generator or None, got 0"):
        share(layer, Hebbian(), generator=0)
    with pytest.raises(InvalidArgument, match=r"sleep.response must be .*RateCircuit.*, got 1000"):
        Circuit(1000)
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


def test_layerwise_and_noisy_sleeps_are_checked_before_training() -> None:
    network = resnet20(connectivity="local", input_size=8)
    with pytest.raises(InvalidArgument, match="must have the kernel size and dilation of"):
        Sleep(Layerwise(steps=2)).check(network)
    layer = layer_of((3, 3), 4, 2, kernel_size=3, padding=1)
    severed = sever_weights(layer_of((3, 3), 4, 2, kernel_size=3, padding=1), 0.5)
    with pytest.raises(InvalidArgument, match="absent"):
        Sleep(Layerwise(steps=2)).check(severed)
    wild = Circuit(plasticity=Plasticity(1.0), presentations=5)
    with pytest.raises(StabilityError, match="cannot sleep like this"):
        Sleep(wild, noise=0.1).check(layer)
    for mechanism in (Circuit(presentations=5), Hebbian(steps=2)):
        with pytest.raises(InvalidArgument, match="patterns"):
            Sleep(mechanism, noise=0.1, patterns={"other": Patterns()}).check(layer)
        Sleep(mechanism, noise=0.1).check(layer)
