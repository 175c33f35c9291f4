"""Closed forms refuse what they do not hold for, in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.dynamics import InstantResponse, Plasticity, RateCircuit, theory
from neurosim.errors import InvalidArgument

W, C = np.ones((4, 3)), np.eye(3)
CIRCUIT = RateCircuit()
BOUND = {
    "gamma": 0.1, "sigma": 0.0, "fourth_moment": 9.0, "start_error": 1.0, "w_star": 1.0,
    "w_init": 1.0,
}  # fmt: skip

MISTAKES = {
    "alpha for a circuit": (
        lambda: theory.circuit_weights(W, C, 0.1, 10), "circuit must be a RateCircuit, got 10",
    ),
    "C of other inputs": (
        lambda: theory.shared_weights(W, np.eye(4), 0.1), r"C.shape must be \(D, D\) with D = 3",
    ),
    "C of one axis": (lambda: theory.shared_weights(W, np.ones(3), 0.1), "C.ndim must be 2, got 1"),
    "C not symmetric": (
        lambda: theory.shared_weights(W, np.triu(np.ones((3, 3))), 0.1), "C must be symmetric",
    ),
    "C negative": (
        lambda: theory.convergence_rates(CIRCUIT, Plasticity(), np.diag([1.0, -1.0])),
        "positive semidefinite, got 'smallest eigenvalue -1'",
    ),
    "one neuron": (lambda: theory.noise_floor(W[0], C, 0.1, 0.1), r"w_init.shape must be \(..., N"),
    "gamma 0": (lambda: theory.shared_weights(W, C, 0.0), "gamma must be > 0, got 0.0"),
    "gammas": (lambda: theory.shared_weights(W, C, [0.1]), r"gamma must be a number, got \[0.1\]"),
    "gamma negative": (lambda: theory.snr_floor(-2.0), "gamma must be > 0, got -2.0"),
    "alpha -1": (lambda: theory.biased_weights(W, C, 0.1, -1), "alpha must be >= 0, got -1"),
    "alpha of a fixed point": (
        lambda: theory.fixed_point_rates(W, np.ones(3), -1, 0), "alpha must be >= 0, got -1",
    ),
    "x of other weights": (
        lambda: theory.fixed_point_rates(W, np.ones(4), 1, 0), r"must be \(..., N, 4\), got \(4, 3",
    ),
    "tau 0": (lambda: theory.response_gains_asymptotic(0, 10, 150), "tau must be > 0, got 0"),
    "gains": (lambda: theory.limit_weights(W, C, 0.1, 0.5), "gains must be a Gains, got 0.5"),
    "no neurons": (lambda: theory.noise_decay(0.1, 0), "neurons must be a whole number >= 1"),
    "sigma": (lambda: theory.noise_decay(-0.1, 5), "sigma must be >= 0, got -0.1"),
    "response": (lambda: theory.response_gains(10), "response must be a RateCircuit or an Instant"),
    "plasticity": (
        lambda: theory.leading_eigenvalues(InstantResponse(), 1e-3, 3, 3), "must be a Plasticity",
    ),
    "rate a word": (
        lambda: theory.theorem1_bound("slow", 5, **BOUND), "rate must be a number or a callable",
    ),
    "half a step": (
        lambda: theory.theorem1_bound(0.01, 2.5, **BOUND), "steps must be a whole number >= 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_clear_sentence(mistake: str) -> None:
    attempt, message = MISTAKES[mistake]
    with pytest.raises(InvalidArgument, match=message):
        attempt()


def test_a_number_is_a_constant_rate() -> None:
    number = theory.theorem1_bound(0.01, 5, **BOUND)
    function = theory.theorem1_bound(lambda t: np.full(len(t), 0.01), 5, **BOUND)
    np.testing.assert_array_equal(number, function)


def test_one_gamma_or_many() -> None:
    floors = theory.snr_floor([0.1, 0.01])
    assert floors.shape == (2,)
    assert floors[0] == theory.snr_floor(0.1) == pytest.approx(2 * np.log(0.1 / 1.1))
