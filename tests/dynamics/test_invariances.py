"""What must not change, whatever the solver."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.dynamics import (
    Brian2,
    Collapsed,
    Constant,
    Continuous,
    Euler,
    InstantResponse,
    InverseTime,
    Plasticity,
    RateCircuit,
    simulate,
)

FAST = [Collapsed(), Euler(), Continuous("DOP853"), Continuous("RK4")]
CIRCUIT_SOLVERS = [*FAST, Continuous("LSODA"), Continuous("RK45"), Brian2()]
PLASTIC = Plasticity(Constant(1e-4), gamma=0.05, momentum=0.0)


def population(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(1, 1, (7, 4)), generator.standard_normal((6, 4))


@pytest.mark.parametrize("solver", CIRCUIT_SOLVERS, ids=lambda s: getattr(s, "method", s.name))
def test_relabelling_neurons_changes_nothing(solver) -> None:
    w, x = population()
    order = np.random.default_rng(1).permutation(len(w))
    args = {"response": RateCircuit(steps=30), "plasticity": PLASTIC, "solver": solver}
    one, other = simulate(w, x, **args), simulate(w[order], x, **args)
    np.testing.assert_allclose(other.weights, one.weights[order], rtol=0, atol=1e-9)
    np.testing.assert_allclose(other.inverse_snr, one.inverse_snr, rtol=1e-7)


@pytest.mark.parametrize("solver", FAST, ids=lambda s: getattr(s, "method", s.name))
def test_rotating_inputs_and_weights_changes_nothing(solver) -> None:
    w, x = population()
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((4, 4)))
    args = {"response": RateCircuit(steps=30), "plasticity": PLASTIC, "solver": solver}
    one, other = simulate(w, x, **args), simulate(w @ rotation, x @ rotation, **args)
    np.testing.assert_allclose(other.weights, one.weights @ rotation, rtol=0, atol=1e-8)


@pytest.mark.parametrize("solver", CIRCUIT_SOLVERS, ids=lambda s: getattr(s, "method", s.name))
def test_the_bias_changes_rates_not_weights(solver) -> None:
    w, x = population()
    args = {"plasticity": PLASTIC, "solver": solver, "initial": "rest"}
    runs = [simulate(w, x, response=RateCircuit(steps=30, bias=b), **args) for b in (0.0, 3.0)]
    np.testing.assert_allclose(runs[1].weights, runs[0].weights, rtol=0, atol=1e-9)
    rates = [run.rates([2]) for run in runs]
    np.testing.assert_allclose(rates[1].r, rates[0].r + 3.0, rtol=0, atol=1e-8)


@pytest.mark.parametrize("solver", ["collapsed", "euler"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_eq4_conserves_the_mean(solver: str, momentum: float) -> None:
    w, x = population()
    x = np.tile(x, (50, 1))
    plasticity = Plasticity(InverseTime(), 0.1, momentum)
    run = simulate(w, x, response=InstantResponse(), plasticity=plasticity, solver=solver)
    np.testing.assert_allclose(run.mean, np.tile(w.mean(0), (300, 1)), rtol=0, atol=1e-13)
    finite = simulate(w, x, response=InstantResponse(5.0), plasticity=plasticity, solver=solver)
    assert np.linalg.norm(finite.mean[-1]) < np.linalg.norm(w.mean(0))


@pytest.mark.parametrize("solver", FAST, ids=lambda s: getattr(s, "method", s.name))
def test_equal_neurons_stay_equal(solver) -> None:
    _, x = population()
    w = np.tile(np.arange(1.0, 5.0), (6, 1))
    run = simulate(w, x, response=RateCircuit(steps=30), plasticity=PLASTIC, solver=solver)
    np.testing.assert_allclose(run.weights, np.tile(run.weights[0], (6, 1)), rtol=0, atol=1e-13)


def test_scaling_weights_scales_the_run() -> None:
    """At rest the system is homogeneous in the weights."""
    w, x = population()
    args = {"response": RateCircuit(steps=30), "plasticity": Plasticity(), "initial": "rest"}
    one, other = simulate(w, x, **args), simulate(5 * w, x, **args)
    np.testing.assert_allclose(other.weights, 5 * one.weights, rtol=1e-12)


@pytest.mark.parametrize("solver", ["collapsed", "euler"])
def test_recording_and_snapshots_do_not_disturb_the_run(solver: str) -> None:
    generator = np.random.default_rng(3)
    w, x = generator.normal(1, 1, (50, 6)), generator.standard_normal((90, 6))
    args = {"response": RateCircuit(steps=20), "plasticity": Plasticity(), "solver": solver}
    quiet = simulate(w, x, record_every=None, **args)
    loud = simulate(w, x, record_every=1, snapshots=[0, 31, 90], **args)
    np.testing.assert_allclose(loud.weights, quiet.weights, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(loud.snapshots[0], w)
    np.testing.assert_allclose(loud.snapshots[1].mean(0), loud.mean[30], atol=1e-12)
    np.testing.assert_allclose(loud.snapshots[1].var(0), loud.variance[30], atol=1e-12)
    np.testing.assert_array_equal(loud.snapshots[2], loud.weights)
    assert len(quiet.mean) == 0
    assert simulate(w, x, record_every=7, **args).presentations.tolist() == [*range(7, 91, 7)]


def test_statistics_by_hand() -> None:
    w, x = population()
    run = simulate(w, x, response=RateCircuit(), plasticity=Plasticity())
    final = run.weights
    mean, variance = final.mean(0), final.var(0)
    assert run.inverse_snr[-1] == pytest.approx(np.mean(variance / mean**2))
    assert run.snr[-1] == pytest.approx(np.mean(mean**2 / variance))
    start = w.mean(0)
    cosine = mean @ start / np.linalg.norm(mean) / np.linalg.norm(start)
    assert run.alignment[-1] == pytest.approx(cosine)


def test_results_do_not_change_with_the_callers_arrays() -> None:
    w, x = population()
    run = simulate(w, x, response=RateCircuit(), plasticity=Plasticity())
    alignment, rates = run.alignment, run.rates([1]).r
    w *= -2
    x[:] = 0
    np.testing.assert_array_equal(run.alignment, alignment)
    np.testing.assert_array_equal(run.rates([1]).r, rates)
