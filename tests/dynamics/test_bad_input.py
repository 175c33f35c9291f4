"""Every mistake gets one sentence that names the argument, its value and what is allowed."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.dynamics import (
    Brian2,
    Constant,
    Continuous,
    Euler,
    Gaussian,
    Independent,
    InstantResponse,
    InverseSqrt,
    InverseTime,
    OneHot,
    Plasticity,
    RateCircuit,
    Setting,
    simulate,
    simulate_ensemble,
    simulate_setting,
    transfer,
)
from neurosim.dynamics.inputs import distance_covariance
from neurosim.errors import InvalidArgument, StabilityError

W, X = np.ones((4, 3)), np.ones((5, 3))
X3 = Gaussian(3, 5)
SETTING = Setting(X3, RateCircuit(steps=5), Plasticity())
OPERATOR = transfer(X3, response=InstantResponse(), plasticity=Plasticity())
NAN = np.array([[1.0, np.nan, 0.0]] * 4)


def run(weights=W, inputs=X, **kwargs):
    defaults = {"response": RateCircuit(steps=5), "plasticity": Plasticity()}
    return simulate(weights, inputs, **(defaults | kwargs))


MISTAKES = {
    "shapes disagree": (lambda: run(inputs=np.ones((5, 4))), "components as weights, 3, got 4"),
    "weights of one axis": (lambda: run(weights=np.ones(3)), r"weights.ndim must be 2, got 1"),
    "NaN in weights": (lambda: run(weights=NAN), r"weights must be finite, got nan at ind"),
    "Inf in inputs": (lambda: run(inputs=X * np.inf), r"inputs must be finite, got inf at index"),
    "words as weights": (lambda: run(weights=[["a"]]), "weights must be an array of numbers"),
    "one neuron": (lambda: run(weights=W[:1]), r"\(neurons\) must be >= 2, got 1"),
    "tau 0": (lambda: RateCircuit(tau=0), "response.tau must be > 0 ms, got 0"),
    "tau inf": (lambda: RateCircuit(tau=np.inf), "response.tau must be > 0 ms, got inf"),
    "tau text": (lambda: RateCircuit(tau="fast"), r"response\.tau must be a number, got 'fast'"),  # type: ignore
    "dt negative": (lambda: RateCircuit(dt=-1), "response.dt must be > 0 ms, got -1"),
    "alpha negative": (lambda: RateCircuit(alpha=-1), "alpha must be finite and >= 0, got -1"),
    "bias NaN": (lambda: RateCircuit(bias=np.nan), "response.bias must be finite, got nan"),
    "steps 0": (lambda: RateCircuit(steps=0), "response.steps must be a whole number >= 1, got 0"),
    "steps 1.5": (lambda: RateCircuit(steps=1.5), "response.steps must be a whole"),  # type: ignore
    "dt that does not divide": (lambda: RateCircuit().with_dt(0.7), "divisor of the presentation"),
    "alpha negative, instant": (lambda: InstantResponse(-2), "response.alpha must be >= 0"),
    "gamma 0": (lambda: Plasticity(gamma=0), "plasticity.gamma must be finite and > 0, got 0"),
    "momentum 1": (lambda: Plasticity(momentum=1), "plasticity.momentum must be at least 0"),
    "rate negative": (lambda: Constant(-1), "rate.base must be finite and >= 0, got -1"),
    "rate NaN": (lambda: InverseSqrt(base=np.nan), "rate.base must be finite"),
    "scale 0": (lambda: InverseSqrt(scale=0), "rate.scale must be > 0"),
    "offset 0": (lambda: InverseTime(offset=0), "rate.offset must be > 0"),
    "rate a word": (lambda: Plasticity(rate="slow"), "number or a callable of t, got 'slow'"),  # type: ignore
    "rate for numbers only": (
        lambda: run(plasticity=Plasticity(lambda t: 1e-4 if t > 50 else 0.0)),  # type: ignore
        "plasticity.rate must map an array of times",
    ),
    "rate turns negative": (lambda: run(plasticity=Plasticity(lambda t: 1e-9 * (5 - t))), ">= 0 a"),
    "rate turns NaN": (lambda: run(plasticity=Plasticity(lambda t: t * np.nan)), ">= 0 at every"),
    "rate turns inf": (lambda: run(plasticity=Plasticity(lambda t: t + np.inf)), "finite at every"),
    "unknown solver": (lambda: run(solver="eulr"), r"solver must be one of .*did you mean 'euler'"),
    "noise for collapsed": (lambda: run(noise=0.1, seed=0), 'use solver "euler"'),
    "noise for collapsed, instant": (
        lambda: run(noise=0.1, seed=0, response=InstantResponse()), 'use solver "euler"$',
    ),
    "momentum and noise for continuous": (
        lambda: run(noise=0.1, seed=0, solver="continuous"), 'use solver "euler"$',
    ),
    "noise without seed": (lambda: run(noise=0.1, solver="euler"), "seed must be given"),
    "noise negative": (lambda: run(noise=-1, solver="euler", seed=0), "noise must be finite and"),
    "rectified for collapsed": (lambda: run(response=RateCircuit(rectified=True)), "linear rates"),
    "momentum for continuous": (lambda: run(solver="continuous"), 'use solver "collapsed" or "eu'),
    "instant for continuous": (
        lambda: run(response=InstantResponse(), solver="continuous"), "got an InstantResponse",
    ),
    "rectified for continuous": (
        lambda: run(response=RateCircuit(rectified=True), solver="continuous"),
        'rectified = True; use solver "euler"',
    ),
    "instant for brian2": (lambda: run(response=InstantResponse(), solver=Brian2()), "RateCircuit"),
    "unknown method": (lambda: Continuous("RK5"), "solver.method must be one of"),  # type: ignore
    "rtol 0": (lambda: Continuous(rtol=0), "solver.rtol must be finite and > 0"),
    "dt of an adaptive method": (lambda: Continuous("DOP853", dt=0.1), "dt must be None, which DO"),
    "rtol of RK4": (lambda: Continuous("RK4", rtol=1e-6), "rtol must be None, which RK4 does not"),
    "atol of RK4": (lambda: Continuous("RK4", atol=1e-6), "atol must be None, which RK4 does not"),
    "initial": (lambda: run(initial="warm"), "initial must be one of zero, rest, got 'warm'"),
    "record_every 0": (lambda: run(record_every=0), "record_every must be a whole .* got 0"),
    "final_steps": (lambda: run(final_steps=6), "from 1 to response.steps = 5"),
    "final_steps, instant": (
        lambda: run(response=InstantResponse(), final_steps=1), "the response a RateCircuit",
    ),
    "snapshot too late": (lambda: run(snapshots=[6]), "snapshots must be whole .* 0 to 5"),
    "rates too late": (lambda: run().rates([5]), "presentations must be whole .* to 4"),
    "rates of none": (lambda: run().rates([]), "presentations must be at least one number, got"),
    "half a record": (lambda: run(record_every=2.5), "record_every must be a whole number"),
    "half a step": (lambda: run(final_steps=2.5), "final_steps must be a whole number >= 1 or"),
    "true steps": (lambda: RateCircuit(steps=True), "response.steps must be a whole number"),
    "half a snapshot": (lambda: run(snapshots=[2.7]), "snapshots must be whole numbers .*2.7"),
    "snapshots backwards": (lambda: run(snapshots=[4, 0]), r"in increasing order, got \[4, 0\]"),
    "snapshot twice": (lambda: run(snapshots=[1, 1]), r"in increasing order, got \[1, 1\]"),
    "one snapshot": (lambda: run(snapshots=3), "snapshots must be whole numbers .*, got 3"),
    "rates of one": (lambda: run().rates(3), "presentations must be whole numbers .*, got 3"),
    "rates twice": (lambda: run().rates([1, 1]), r"in increasing order, got \[1, 1\]"),
    "start without records": (
        lambda: run(record_every=None, record_start=True), "record_start must be False where",
    ),
    "response a word": (
        lambda: run(response="circuit"), "a RateCircuit or an InstantResponse, got 'circuit'",
    ),
    "response a class": (lambda: run(response=RateCircuit), "got the class RateCircuit itself"),
    "response an array": (lambda: run(response=W), "an InstantResponse, got a ndarray$"),
    "plasticity a number": (lambda: run(plasticity=1e-3), "plasticity must be a Plasticity, got 0"),
    "solver a class": (lambda: run(solver=Euler), "solver must be one of .*got the class Euler"),
    "solver None": (lambda: run(solver=None), "solver must be one of .*got None"),
    "noise a word": (lambda: run(noise="0.1"), "noise must be a number, got '0.1'"),
    "noise None": (lambda: run(noise=None), "noise must be a number, got None"),
    "noise an array": (lambda: run(noise=W), "noise must be a number, got a ndarray"),
    "seed negative": (lambda: run(seed=-1), "seed must be an integer >= 0"),
    "stream of none": (lambda: Gaussian(0, 5), "inputs.dimension must be a whole number >= 1"),
    "stream seed": (lambda: Gaussian(3, 5, seed="x"), "inputs.seed must be an integer"),  # type: ignore
    "std 0": (lambda: Gaussian(3, 5, std=0), "inputs.std must be > 0"),
    "covariance shape": (lambda: Gaussian(3, 5, covariance=np.eye(2)), r"covariance.shape must be"),
    "covariance negative": (
        lambda: Gaussian(2, 5, covariance=np.diag([1.0, -1.0])), "positive semidefinite",
    ),
    "covariance asymmetric": (
        lambda: Gaussian(2, 5, covariance=np.array([[1.0, 0.5], [0.0, 1.0]])), "asymmetric",
    ),
    "kind": (lambda: Independent(3, 5, kind="cauchy"), "inputs.kind must be one of"),  # type: ignore
    "order": (lambda: OneHot(3, 5, order="shuffled"), "inputs.order must be one of"),  # type: ignore
    "a setting for a list": (
        lambda: simulate_ensemble(SETTING), "settings must be a list of Settings, got a Setting",
    ),
    "a list of others": (lambda: simulate_ensemble([SETTING, 3]), "must be a Setting, got 3"),
    "no setting": (lambda: simulate_setting([SETTING]), "setting must be a Setting, got a list"),
    "half a neuron": (
        lambda: Setting(X3, RateCircuit(), Plasticity(), neurons=2.5), "neurons must be a whole",
    ),
    "transfer of a word": (
        lambda: transfer(X, response="circuit", plasticity=Plasticity()), "response must be a Rate",
    ),
    "transfer of other weights": (
        lambda: OPERATOR.apply([[1.0, 2.0]]), r"weights.shape must be \(..., N, 3\), got \(1, 2\)",
    ),
    "length": (lambda: distance_covariance(3, 0.0), "length must be > 0 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_clear_sentence(mistake: str) -> None:
    attempt, message = MISTAKES[mistake]
    with pytest.raises(InvalidArgument, match=message) as info:
        attempt()
    assert "\n" not in str(info.value)
    assert isinstance(info.value, ValueError)  # what callers of numerical code catch


def test_numbers_of_numpy_are_numbers() -> None:
    """As they come out of an array or a grid."""
    given = RateCircuit(tau=np.float32(30), steps=np.int64(5), dt=np.float64(1))
    plasticity = Plasticity(np.float32(1e-4), gamma=np.float32(0.01))
    found = run(
        response=given, plasticity=plasticity, record_every=np.int32(2), final_steps=np.int64(3),
        snapshots=np.array([1, 3]), noise=np.float32(0),
    )  # fmt: skip
    assert found.presentations.tolist() == [2, 4]
    assert found.snapshot_presentations.tolist() == [1, 3]
    assert plasticity.at(np.zeros(1)) == pytest.approx(1e-4)


def test_a_response_cannot_be_changed_by_deriving_from_it() -> None:
    """Half of the solvers would use a new `mean_mode`, the others never ask for it."""
    for response in (RateCircuit, InstantResponse):
        with pytest.raises(TypeError, match="Mine cannot derive from a response"):
            type("Mine", (response,), {})


def test_the_broken_bound_is_named_with_the_largest_allowed_value() -> None:
    with pytest.raises(StabilityError, match=r"response.dt must be < .* = 0.5941 ms.*got 1 .*59"):
        run(response=RateCircuit(alpha=100))
    with pytest.raises(StabilityError, match=r"rate must be at most (0\.\d+) times") as info:
        run(plasticity=Plasticity(Constant(1.0)), response=RateCircuit())
    factor = float(str(info.value).split("at most ")[1].split(" ")[0])
    run(plasticity=Plasticity(Constant(0.99 * factor)), response=RateCircuit())
