"""Ensembles: the same numbers whatever the threads, the order or the company."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from neurosim.dynamics import (
    Gaussian,
    InstantResponse,
    InverseTime,
    Plasticity,
    RateCircuit,
    Setting,
    simulate,
    simulate_ensemble,
)
from neurosim.errors import Diverged, InvalidArgument, Stopped


def grid() -> list[Setting]:
    settings = [
        Setting(Gaussian(d, 120), RateCircuit(steps=20), Plasticity(gamma=g), neurons=n, trial=t)
        for d in (4, 25)
        for g in (0.1, 0.01)
        for n in (3, 60)
        for t in (0, 1)
    ]
    rule = (InstantResponse(), Plasticity(InverseTime()))
    return [*settings, Setting(Gaussian(4, 50), *rule, noise=0.3, solver="euler")]


def test_same_whatever_the_threads_and_the_company() -> None:
    settings = grid()
    one = dict(simulate_ensemble(settings, seed=9, record_every=10, threads=1))
    many = dict(simulate_ensemble(settings, seed=9, record_every=10, threads=7))
    alone = dict(simulate_ensemble([settings[5]], seed=9, record_every=10))
    assert sorted(one) == sorted(many) == list(range(len(settings)))
    for index, trajectory in one.items():
        np.testing.assert_array_equal(trajectory.weights, many[index].weights)
        np.testing.assert_array_equal(trajectory.inverse_snr, many[index].inverse_snr)
    np.testing.assert_array_equal(one[5].weights, alone[0].weights)


def test_trials_differ_and_settings_share_their_draws() -> None:
    runs = dict(simulate_ensemble(grid(), seed=1))
    start = [runs[i].problem.weights for i in range(6)]
    assert np.abs(start[0] - start[1]).max() > 0.1  # trials
    np.testing.assert_array_equal(start[0], start[4])  # gammas


def test_is_what_simulate_computes() -> None:
    (setting,) = grid()[-1:]
    ((_, run),) = simulate_ensemble([setting], seed=4)
    again = simulate(
        run.problem.weights,
        run.problem.inputs.array(),
        response=setting.response,
        plasticity=setting.plasticity,
        solver="euler",
        noise=0.3,
        seed=run.problem.seed,
    )
    np.testing.assert_array_equal(run.weights, again.weights)


def test_an_error_reaches_the_caller() -> None:
    wild = Setting(Gaussian(4, 2000), RateCircuit(), Plasticity(rate=0.5))
    with pytest.raises(Diverged):
        dict(simulate_ensemble([*grid(), wild], check=False))
    with pytest.raises(InvalidArgument, match="threads must be a whole number >= 1 or None"):
        dict(simulate_ensemble(grid(), threads=0))


def test_leaving_early_stops_what_is_running() -> None:
    """Ctrl-C must not wait for populations that take minutes."""
    slow = Setting(Gaussian(81, 50_000), RateCircuit(), Plasticity(), solver="euler")  # a minute
    quick = Setting(Gaussian(4, 10), RateCircuit(), Plasticity())
    results = simulate_ensemble([slow, quick], threads=2)
    assert next(results)[0] == 1
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 5


def test_the_caller_has_its_threads_back_between_results() -> None:
    """Whoever draws or fits what an ensemble yields may multiply matrices on all cores."""
    quick = Setting(Gaussian(4, 10), RateCircuit(), Plasticity())
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        results = simulate_ensemble([quick], threads=1)
        next(results)
        assert blas_threads() == before
        results.close()


def blas_threads() -> list[int]:
    return [found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"]


def test_mistakes_are_found_before_the_first_result_is_asked_for() -> None:
    with pytest.raises(InvalidArgument, match="seed must be"):
        simulate_ensemble(grid(), seed=-1)


def test_a_run_can_be_stopped_from_another_thread() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped, match="before presentation 0"):
        simulate(
            np.ones((2, 3)), Gaussian(3, 10), response=RateCircuit(), plasticity=Plasticity(),
            stop=stop,
        )  # fmt: skip


def test_rates_of_a_member_can_be_replayed() -> None:
    ((_, run),) = simulate_ensemble([grid()[0]], seed=3)
    assert np.isfinite(run.rates([0, 119]).r).all()
