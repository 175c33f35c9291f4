"""A sleep as one matrix against stepping every neuron."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.dynamics import (
    Gaussian,
    InstantResponse,
    InverseTime,
    OneHot,
    Plasticity,
    RateCircuit,
    simulate,
    transfer,
)
from neurosim.errors import InvalidArgument, StabilityError


@pytest.mark.parametrize("neurons", [2, 17])
@pytest.mark.parametrize(
    ("response", "plasticity"),
    [
        (RateCircuit(), Plasticity()),
        (RateCircuit(alpha=3, dt=0.5, bias=2), Plasticity(gamma=0.2, momentum=0.3)),
        (InstantResponse(), Plasticity(InverseTime())),
        (InstantResponse(4.0), Plasticity(InverseTime(), momentum=0.0)),
    ],
    ids=["circuit", "fine circuit", "Eq. 4", "Eq. 21"],
)
def test_equals_stepping_any_group(response, plasticity, neurons: int) -> None:
    inputs = Gaussian(20, 80, seed=1)
    operator = transfer(inputs, response=response, plasticity=plasticity)
    w = np.random.default_rng(2).normal(1, 1, (neurons, 20))
    run = simulate(
        w, inputs, response=response, plasticity=plasticity, solver="euler", initial="rest"
    )
    np.testing.assert_allclose(operator.apply(w), run.weights, rtol=0, atol=1e-12)


def test_groups_are_independent_and_stack() -> None:
    operator = transfer(Gaussian(6, 30), response=RateCircuit(), plasticity=Plasticity())
    w = np.random.default_rng(3).standard_normal((4, 5, 8, 6))
    whole = operator.apply(w)
    np.testing.assert_allclose(whole[2, 3], operator.apply(w[2, 3]), atol=1e-14)
    assert (operator.constant == 0).all()


def test_does_not_depend_on_threads() -> None:
    inputs = Gaussian(200, 300, seed=4)
    plasticity = Plasticity(InverseTime(), gamma=0.01)
    one, many = (
        transfer(inputs, response=InstantResponse(), plasticity=plasticity, threads=n)
        for n in (1, 5)
    )
    np.testing.assert_array_equal(one.deviation, many.deviation)
    np.testing.assert_array_equal(one.mean, many.mean)


def test_what_a_long_sleep_is() -> None:
    """Deviations all but vanish, the mean survives Eq. 4 whole, and one-hot inputs mix nothing."""
    plasticity = Plasticity(InverseTime(), gamma=1e-3)
    operator = transfer(OneHot(8, 3000), response=InstantResponse(), plasticity=plasticity)
    np.testing.assert_array_equal(operator.mean, np.eye(8))
    np.testing.assert_allclose(operator.deviation, np.diag(np.diag(operator.deviation)), atol=1e-15)
    assert np.abs(operator.deviation).max() < 0.01


def test_refuses_what_has_no_matrix() -> None:
    with pytest.raises(InvalidArgument, match="rectified"):
        transfer(Gaussian(4, 5), response=RateCircuit(rectified=True), plasticity=Plasticity())
    with pytest.raises(StabilityError, match="at most"):
        transfer(Gaussian(2304, 50), response=RateCircuit(), plasticity=Plasticity())
