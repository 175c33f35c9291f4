"""Bounds against what simulations do on either side of them."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.dynamics import (
    Constant,
    Gaussian,
    InstantResponse,
    InverseSqrt,
    Plasticity,
    RateCircuit,
    check_stability,
    simulate,
)
from neurosim.dynamics.stability import (
    largest_alpha,
    largest_dt,
    largest_rate,
    mean_square_map,
    stable_plasticity,
)
from neurosim.errors import Diverged, StabilityError


def growth(response, plasticity, dimension: int, presentations: int, **kwargs) -> float:
    w = np.random.default_rng(0).normal(0, 1, (30, dimension))
    run = simulate(
        w,
        Gaussian(dimension, presentations, seed=1),
        response=response,
        plasticity=plasticity,
        check=False,
        **kwargs,
    )
    return float(np.sqrt(run.variance[-1].mean() / w.var(0).mean()))


@pytest.mark.parametrize("alpha", [0.0, 10.0, 100.0])
def test_largest_dt_separates_decay_from_growth(alpha: float) -> None:
    bound = largest_dt(30, alpha)
    assert largest_alpha(30, bound) == pytest.approx(alpha)
    w, x = np.ones((2, 1)), np.ones((1, 1))
    last = []
    for factor, steps in ((0.9, 6000), (1.1, 1500)):
        circuit = RateCircuit(alpha=alpha, dt=bound * factor, steps=steps)
        run = simulate(w, x, response=circuit, plasticity=Plasticity(Constant(0.0)), check=False)
        r = run.rates([0]).r_inh[0]
        last.append(np.abs(r[-200:] - 1 / (1 + alpha)).max())
    assert last[0] < 1e-3
    assert last[1] > 1


def test_published_numbers() -> None:
    """alpha = 100 needs dt < 0.59 ms; the rate bound at the published settings is 0.0042."""
    assert largest_dt(30, 100) == pytest.approx(0.594, abs=1e-3)
    assert largest_alpha(30, 1) == pytest.approx(59)
    bound = largest_rate(RateCircuit(), 0.95, 1.0)  # the docstring rounds it to 0.0042
    assert bound == pytest.approx(0.05 * (1 / 30 + 0.05), rel=0.1)
    # The largest root of the polynomial that it comes from leaves the unit circle there.
    for factor, stable in ((0.99, True), (1.01, False)):
        eta, a = factor * bound, 1 / 30
        steps = np.poly1d([1, -1]) * np.poly1d([1, -0.95]) * np.poly1d([1, a - 1])
        polynomial = steps + np.poly1d([eta * a, 0, 0])
        assert (np.abs(polynomial.roots).max() < 1) == stable
    assert largest_rate(RateCircuit(tau=300), 0.99, 1.0) == pytest.approx(
        0.01 * (1 / 300 + 0.01), rel=0.02
    )


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("response", [RateCircuit(steps=3000), InstantResponse()])
def test_largest_rate_separates_decay_from_growth(response, momentum: float) -> None:
    """One lasting x: the deviation along it shrinks below the bound and grows above."""
    x = np.full((3000 if isinstance(response, InstantResponse) else 1, 4), 0.5)
    bound = largest_rate(response, momentum, 1.0)
    w = np.array([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])

    def final_size(factor: float) -> float:
        plasticity = Plasticity(Constant(bound * factor), 1e-6, momentum)
        try:
            run = simulate(w, x, response=response, plasticity=plasticity, check=False)
        except Diverged:
            return np.inf
        return float(np.abs(run.weights @ x[0]).max())

    assert final_size(0.9) < 0.5
    assert final_size(1.1) > 1


@pytest.mark.parametrize("dimension", [9, 36, 81])
def test_the_published_settings_pass(dimension: int) -> None:
    check_stability(
        RateCircuit(), Plasticity(), energy=dimension, dimension=dimension, presentations=10_000
    )
    assert growth(RateCircuit(), Plasticity(), dimension, 400) < 1


def test_the_published_rate_at_larger_inputs() -> None:
    """It grows deviations about twelvefold in 400 presentations at D = 576; scaled, it is fine."""
    with pytest.raises(StabilityError, match=r"at most 0\.\d+ times") as info:
        check_stability(RateCircuit(), Plasticity(), energy=576, dimension=576, presentations=400)
    assert f"above {largest_rate(RateCircuit(), 0.95, 576):.3g}" in str(info.value)
    assert 5 < growth(RateCircuit(), Plasticity(), 576, 400, record_every=400) < 20
    scaled = stable_plasticity(Plasticity(), 576)
    assert isinstance(scaled.rate, InverseSqrt)
    check_stability(RateCircuit(), scaled, energy=576, dimension=576, presentations=400)
    assert growth(RateCircuit(), scaled, 576, 400, record_every=400) < 1


@pytest.mark.parametrize("response", [RateCircuit(steps=20), InstantResponse()])
def test_the_mean_square_map_predicts_the_spread(response) -> None:
    """Many draws of x against the map's powers, both for a decaying and a growing setting."""
    dimension, presentations = 6, 12
    for factor in (0.5, 3.0):
        eta = factor * 0.05 * largest_rate(response, 0.9, dimension)
        plasticity = Plasticity(Constant(eta), 0.01, 0.9)
        matrix = mean_square_map(
            response, plasticity, response.deviation_mode, dimension, dimension,
            np.full(response.steps, eta),
        )  # fmt: skip
        generator = np.random.default_rng(7)
        sums = []
        for _ in range(600):
            x = generator.standard_normal((presentations, dimension))
            x *= np.sqrt(dimension) / np.linalg.norm(x, axis=1, keepdims=True)
            w = generator.standard_normal((2, dimension))
            w -= w.mean(0)
            # The map is the homogeneous part: no pull toward the start beyond decay. Shift
            # w_init to zero by starting from a state with w_init = 0 and change = w.
            sums.append(_homogeneous(w, x, response, plasticity))
        measured = np.mean(sums)
        moments = np.zeros(8)
        moments[7] = 1.0
        predicted = (np.linalg.matrix_power(matrix, presentations) @ moments)[7]
        assert measured == pytest.approx(predicted, rel=0.25)


def _homogeneous(w, x, response, plasticity) -> float:
    """|w|^2 after presentations that pull toward zero, relative to its start."""
    from neurosim.dynamics import Euler, Given
    from neurosim.dynamics.problem import Problem, Recorder

    problem = Problem(np.zeros_like(w), Given.of(x), response, plasticity, initial="rest")
    state = problem.start()
    state.weights = w.copy()
    Euler().run(problem, state, len(x), Recorder(None))
    return float((state.weights**2).sum() / (w**2).sum())


def test_divergence_is_reported_not_returned() -> None:
    w = np.random.default_rng(0).normal(1, 1, (5, 9))
    for solver in ("collapsed", "euler"):
        with pytest.raises(Diverged, match="NaN or Inf by presentation"):
            simulate(
                w, Gaussian(9, 3000), response=RateCircuit(), check=False, solver=solver,
                plasticity=Plasticity(Constant(0.1)),
            )  # fmt: skip


def test_noise_counts_as_input_energy() -> None:
    args = {"energy": 9.0, "dimension": 9, "presentations": 100}
    plasticity = Plasticity(Constant(2e-4))
    check_stability(RateCircuit(), plasticity, **args)
    with pytest.raises(StabilityError):
        check_stability(RateCircuit(), plasticity, noise=3.0, **args)
