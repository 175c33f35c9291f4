"""Synaptic scaling: norms after a sleep are what they were before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from brute_force import Neurons
from little_sleeps import MECHANISMS, square

from neurosim.dynamics import RateCircuit
from neurosim.sleep import Circuit, share


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
