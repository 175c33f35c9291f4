"""The collapsed solver against stepping, for whatever settings hypothesis draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from neurosim.dynamics import (
    Constant,
    InstantResponse,
    InverseSqrt,
    InverseTime,
    Plasticity,
    RateCircuit,
    simulate,
)
from neurosim.dynamics.stability import largest_dt, largest_rate, mean_square_radius

floats = st.floats


@st.composite
def problems(draw: st.DrawFn) -> dict:
    """Arguments of `simulate` within the stability bounds, of any size."""
    dimension = draw(st.integers(1, 324))
    neurons = draw(st.integers(2, min(500, max(2, 30_000 // dimension))))
    presentations = draw(st.integers(0, 12))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs = generator.standard_normal((presentations, dimension)) * draw(floats(0.01, 3))
    inputs[generator.random(presentations) < draw(st.sampled_from([0, 0, 0.3]))] = 0.0
    momentum = draw(st.sampled_from([0.0, 0.5, 0.95, 0.99]) | floats(0, 0.99))
    response = InstantResponse(draw(st.sampled_from([np.inf, 0.0, 10.0])))
    if draw(st.booleans()):
        tau, alpha = draw(floats(2, 100)), draw(floats(0, 100))
        dt = largest_dt(tau, alpha) * draw(floats(0.01, 0.95))
        bias = draw(floats(-2, 2))
        response = RateCircuit(tau, alpha, bias, draw(st.integers(1, 200)), dt)
    energy = float((inputs**2).sum() / max(1, presentations))
    base = draw(floats(0, 0.9)) * largest_rate(response, momentum**response.dt, max(energy, 1.0))
    rate = draw(
        st.sampled_from(
            [
                Constant(base),
                InverseSqrt(base, scale=draw(floats(0.5, 100)), start=draw(floats(0, 200))),
                InverseTime(base * 100, offset=100.0),
                lambda t: base * (1 + np.sin(t)) / 2,
            ]
        )
    )
    plasticity = Plasticity(rate, draw(floats(1e-4, 0.5)), momentum)
    steps = None
    if isinstance(response, RateCircuit) and presentations and draw(st.booleans()):
        steps = draw(st.integers(1, response.steps))
    return {
        "weights": generator.normal(draw(floats(-2, 2)), 1, (neurons, dimension)),
        "inputs": inputs,
        "response": response,
        "plasticity": plasticity,
        "initial": draw(st.sampled_from(["zero", "rest"])),
        "final_steps": steps,
        "record_every": draw(st.sampled_from([1, 2, 5])),
    }


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(problems())
def test_equals_stepping(problem: dict) -> None:
    presentations = len(problem["inputs"])
    response, plasticity = problem["response"], problem["plasticity"]
    for k, x in enumerate(problem["inputs"]):  # the maps of every presentation shrink what they map
        eta = plasticity.step_rates(response, k, 1, response.steps)[:, 0]
        eta = np.full_like(eta, eta.max())  # no growth early on, which would magnify rounding
        for mode in (response.deviation_mode, response.mean_mode):
            assume(mean_square_radius(response, plasticity, mode, x @ x, 1, eta) <= 1 + 1e-9)
    every = range(presentations + 1)
    slow = simulate(**problem, solver="euler", snapshots=every, check=False)
    fast = simulate(**problem, solver="collapsed", check=False)
    largest = np.abs(slow.snapshots).max()
    tolerance = 1e-9  # at the edge of stability rounding adds up
    np.testing.assert_allclose(fast.weights, slow.weights, rtol=0, atol=tolerance * largest)
    np.testing.assert_allclose(fast.mean, slow.mean, rtol=0, atol=tolerance * largest)
    np.testing.assert_allclose(fast.variance, slow.variance, rtol=0, atol=tolerance * largest**2)
    assert (fast.presentations == slow.presentations).all()


@pytest.mark.parametrize("neurons", [20, 400])  # with more neurons than inputs a basis stands in
@pytest.mark.parametrize("every", [None, 1, 7, 100])
def test_long_runs_stay_equal(neurons: int, every: int | None) -> None:
    generator = np.random.default_rng(5)
    problem = {
        "weights": generator.normal(1, 1, (neurons, 25)),
        "inputs": generator.standard_normal((700, 25)),
        "response": RateCircuit(steps=40),
        "plasticity": Plasticity(),
        "record_every": every,
    }
    slow, fast = simulate(**problem, solver="euler"), simulate(**problem)
    np.testing.assert_allclose(fast.weights, slow.weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.mean, slow.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(fast.inverse_snr, slow.inverse_snr, rtol=1e-9)


def test_rates_equal_stepping() -> None:
    generator = np.random.default_rng(6)
    problem = {
        "weights": generator.normal(1, 1, (30, 9)),
        "inputs": generator.standard_normal((50, 9)),
        "response": RateCircuit(),
        "plasticity": Plasticity(),
        "final_steps": 60,
    }
    slow = simulate(**problem, solver="euler").rates([0, 17, 49])
    fast = simulate(**problem).rates([0, 17, 49])
    np.testing.assert_allclose(fast.r, slow.r, rtol=0, atol=1e-11)
    np.testing.assert_allclose(fast.r_inh, slow.r_inh, rtol=0, atol=1e-11)
    assert fast.time[1, 0] == 17 * 150 + 1
    assert np.isnan(fast.r[2, 60:]).all()
    assert np.isfinite(fast.r[2, :60]).all()


def test_degenerate_populations() -> None:
    """Equal neurons, silent inputs and a single step are nothing special."""
    same = np.ones((40, 3))
    inputs = np.random.default_rng(0).standard_normal((100, 3))
    for weights, shown in ((same, inputs), (same + np.eye(40, 3), 0 * inputs)):
        kwargs = {"response": RateCircuit(steps=1), "plasticity": Plasticity(Constant(1e-3))}
        slow = simulate(weights, shown, solver="euler", **kwargs)
        fast = simulate(weights, shown, **kwargs)
        np.testing.assert_allclose(fast.weights, slow.weights, rtol=0, atol=1e-12)
