"""What a run hands back: records, snapshots, their numbers and times."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from neurosim.dynamics import (
    Constant,
    Gaussian,
    InstantResponse,
    Plasticity,
    RateCircuit,
    Trajectory,
    simulate,
)
from neurosim.dynamics.rates import scaled
from neurosim.errors import NeurosimError

WEIGHTS = np.random.default_rng(0).normal(1, 1, (5, 3))
CIRCUIT = RateCircuit(steps=4, dt=0.5)


def run(**options) -> Trajectory:
    given = {"response": CIRCUIT, "plasticity": Plasticity(1e-3)} | options
    return simulate(WEIGHTS, Gaussian(3, 10, seed=1), **given)


def test_snapshots_say_when_they_were_taken() -> None:
    found = run(snapshots=[0, 4, 9])
    assert found.snapshot_presentations.tolist() == [0, 4, 9]
    np.testing.assert_array_equal(found.snapshots[0], WEIGHTS)
    for number, shown in ((1, 4), (2, 9)):
        np.testing.assert_allclose(found.snapshots[number].mean(0), found.mean[shown - 1])
    assert run().snapshot_presentations.shape == (0,)


def test_the_start_can_be_recorded() -> None:
    found, usual = run(record_every=5, record_start=True), run(record_every=5)
    assert found.presentations.tolist() == [0, 5, 10]
    np.testing.assert_allclose(found.mean[0], WEIGHTS.mean(0))
    np.testing.assert_allclose(found.variance[0], WEIGHTS.var(0))
    np.testing.assert_array_equal(found.mean[1:], usual.mean)


def test_times_are_the_ends_of_presentations() -> None:
    found = run(record_every=5, record_start=True, final_steps=1)
    np.testing.assert_allclose(found.times, [0, 10, 18.5])
    np.testing.assert_allclose(found.rates([4, 9]).time[0, -1], found.times[1])
    assert np.nanmax(found.rates([9]).time) == found.times[2]
    assert run(response=InstantResponse()).times.tolist() == list(range(1, 11))


def test_everything_as_an_xarray_dataset() -> None:
    pytest.importorskip("xarray")
    found = run(record_every=2, snapshots=[3])
    data = found.to_xarray()
    np.testing.assert_array_equal(data["inverse_snr"].sel(presentation=4), found.inverse_snr[1])
    np.testing.assert_array_equal(data["snapshots"].sel(snapshot=3), found.snapshots[0])
    assert data["mean"].dims == ("presentation", "component")
    assert float(data["time"].sel(presentation=4)) == 8.0
    np.testing.assert_array_equal(data["weights"], found.weights)
    np.testing.assert_array_equal(data["initial_weights"], WEIGHTS)


def test_without_xarray_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(NeurosimError, match='"pip install xarray"'):
        run().to_xarray()


class Jump:
    """A rate of the user's own that jumps once."""

    breaks = (7.0,)

    def __call__(self, t: np.ndarray) -> np.ndarray:
        return np.where(np.asarray(t) > 7, 1e-3, 0.0)


def test_a_scaled_rate_still_jumps_where_it_did() -> None:
    half = scaled(Jump(), 0.5)
    assert getattr(half, "breaks", None) == Jump.breaks
    np.testing.assert_array_equal(half(np.array([5.0, 9.0])), [0.0, 5e-4])
    smooth = scaled(lambda t: 1e-3 + 0 * t, 0.5)
    np.testing.assert_array_equal(smooth(np.zeros(2)), Constant(5e-4)(np.zeros(2)))
