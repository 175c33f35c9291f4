"""Orders of convergence, and the limit of small dt."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from experiments.dynamic_sharing.integrators import CIRCUIT, GAMMA, RATE, exact_weights
from neurosim.dynamics import (
    Constant,
    Continuous,
    Given,
    InverseSqrt,
    Plasticity,
    RateCircuit,
    simulate,
)
from neurosim.dynamics.problem import Problem

PLASTICITY = Plasticity(Constant(RATE), GAMMA, momentum=0.0)


@pytest.fixture(scope="module")
def exact() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(8)
    w, x = generator.normal(1, 1, (3, 2)), generator.standard_normal((2, 2))
    return w, x, exact_weights(Problem(w, Given.of(x), CIRCUIT, PLASTICITY))


def order(steps: list[float], errors: list[float]) -> float:
    return float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def error(weights: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(weights - exact))


def test_euler_is_of_order_one(exact) -> None:
    w, x, truth = exact
    steps = [0.5, 0.25, 0.125, 0.0625, 0.03125]
    for solver in ("euler", "collapsed"):
        runs = [
            simulate(w, x, response=CIRCUIT.with_dt(dt), plasticity=PLASTICITY, solver=solver)
            for dt in steps
        ]
        assert order(steps, [error(r.weights, truth) for r in runs]) == pytest.approx(1, abs=0.05)


def test_rk4_is_of_order_four(exact) -> None:
    w, x, truth = exact
    steps = [0.75, 0.375, 0.1875, 0.09375]
    runs = [
        simulate(w, x, response=CIRCUIT, plasticity=PLASTICITY, solver=Continuous("RK4", dt=dt))
        for dt in steps
    ]
    assert order(steps, [error(r.weights, truth) for r in runs]) == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("method", ["RK45", "DOP853", "LSODA"])
def test_adaptive_methods_reach_their_tolerance(method, exact) -> None:
    w, x, truth = exact
    run = simulate(
        w, x, response=CIRCUIT, plasticity=PLASTICITY, solver=Continuous(method, rtol=1e-10)
    )
    assert error(run.weights, truth) < 1e-8


def test_a_rate_that_jumps_does_not_spoil_the_order() -> None:
    """InverseSqrt starts at t = 50, inside the first presentation."""
    generator = np.random.default_rng(9)
    w, x = generator.normal(1, 1, (3, 2)), generator.standard_normal((2, 2))
    args = {"response": CIRCUIT, "plasticity": Plasticity(InverseSqrt(1e-2), GAMMA, 0.0)}
    truth = simulate(w, x, solver=Continuous("DOP853", rtol=1e-12, atol=1e-14), **args).weights
    steps = [2.5, 1.25, 0.625]
    errors = [
        error(simulate(w, x, solver=Continuous("RK4", dt=dt), **args).weights, truth)
        for dt in steps
    ]
    assert order(steps, errors) == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
def test_smaller_steps_change_nothing_in_the_limit(momentum: float) -> None:
    """Rate and momentum are rescaled with dt so that the weights converge as dt -> 0."""
    generator = np.random.default_rng(10)
    w, x = generator.normal(1, 1, (10, 4)), generator.standard_normal((5, 4))
    plasticity = Plasticity(InverseSqrt(), 0.05, momentum)
    runs = [
        simulate(w, x, response=RateCircuit().with_dt(dt), plasticity=plasticity).weights
        for dt in (1.0, 0.5, 0.25, 0.125, 0.0625)
    ]
    changes = [np.abs(a - b).max() for a, b in itertools.pairwise(runs)]
    ratios = np.array(changes[:-1]) / np.array(changes[1:])
    np.testing.assert_allclose(ratios, 2, rtol=0.15)  # first order: each halving halves the change


def test_trace_of_the_continuous_solver() -> None:
    generator = np.random.default_rng(11)
    w, x = generator.normal(1, 1, (4, 3)), generator.standard_normal((3, 3))
    args = {"plasticity": PLASTICITY, "response": RateCircuit()}
    runs = [
        simulate(w, x, solver=Continuous("DOP853", rtol=1e-11), **args),
        simulate(w, x, solver=Continuous("RK4", dt=0.5), **args),
        simulate(w, x, solver="euler", **(args | {"response": RateCircuit().with_dt(1 / 64)})),
    ]
    rates = [run.rates([1]) for run in runs]
    np.testing.assert_allclose(rates[1].r, rates[0].r, atol=1e-6)
    np.testing.assert_allclose(rates[2].r[0, 63::64], rates[0].r[0], atol=3e-3)
    np.testing.assert_allclose(rates[2].r_inh[0, 63::64], rates[0].r_inh[0], atol=3e-3)
