"""Figures show all that they are given, also where it is much or nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from analysis.convergence.figures import integrators
from analysis.convergence.integrators import IntegratorOrder
from analysis.figures import first_middle_last
from analysis.statistics import mean_of_known
from analysis.training import TrainingCurves, recorded_series
from analysis.training.figures import divergence
from neurosim.errors import InvalidArgument


def curves(layers: tuple[str, ...]) -> TrainingCurves:
    """Of a run whose statistics are 1, with one sleep."""
    given: dict[str, Any] = dict.fromkeys(one.name for one in fields(TrainingCurves))
    shape = (3, len(layers))
    given |= {
        "layers": layers,
        "steps": np.arange(3),
        "sleeps": np.array([1]),
        "statistics": {"inverse_snr": np.ones(shape)},
        "sleep_statistics": {"inverse_snr": np.ones((1, 2, len(layers)))},
    }
    return TrainingCurves(**given)


def test_a_sixth_method_is_drawn_too() -> None:
    x = np.array([1.0, 10.0])
    orders = [IntegratorOrder(f"method {n}", x, x, 1 / x, 1.0) for n in range(7)]
    (ax,) = integrators(orders).axes
    assert len(ax.lines) == 7


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, 1), (2, 2), (9, 3)])
def test_divergence_of_any_number_of_layers(count: int, shown: int) -> None:
    """A run without local layers has nothing to show."""
    layers = tuple(f"layer{n}" for n in range(count))
    (ax,) = divergence({"run": curves(layers)}).axes
    assert [line.get_label() for line in ax.lines] == first_middle_last(layers)
    assert len(ax.lines) == shown


def test_series_of_what_was_not_recorded() -> None:
    with pytest.raises(InvalidArgument, match="layer must be one of conv1, got 'conv2'"):
        recorded_series(curves(("conv1",)), "conv2", "inverse_snr")
    with pytest.raises(InvalidArgument, match="measure must be one of inverse_snr, got 'zz'"):
        recorded_series(curves(("conv1",)), "conv1", "zz")


def test_means_leave_out_what_is_not_known() -> None:
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(mean_of_known(values, 0), [2, 5, np.nan])
    np.testing.assert_array_equal(mean_of_known(values, 1), [1, 4])


def test_what_a_run_recorded_does_not_need_what_is_computed_from_its_weights() -> None:
    """Packages import each other in one direction."""
    program = (
        "import sys, analysis.training.figures\n"
        "print([name for name in sys.modules if name.startswith('analysis.trajectories')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
