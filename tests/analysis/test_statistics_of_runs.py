"""Intervals over runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.statistics import t_interval


def test_as_scipy_has_them() -> None:
    values = np.random.default_rng(0).normal(3, 2, 7)
    for level in (0.5, 0.95):
        found = t_interval(values, level)
        wanted = stats.ttest_1samp(values, 0).confidence_interval(level)
        assert (found.low, found.high) == pytest.approx(tuple(wanted))
        assert found.mean == pytest.approx(values.mean())


def test_of_one_run_there_is_none() -> None:
    found = t_interval([0.5])
    assert np.isnan([found.low, found.high]).all()
    assert found.text() == "0.500"
    assert t_interval([1.0, 3.0]).text(".1f") == "2.0 (-10.7 to 14.7)"
