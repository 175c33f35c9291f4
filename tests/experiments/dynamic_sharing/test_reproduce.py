"""The published studies, at full size where that is seconds, against what they claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.convergence.snr import convergence_curves
from experiments.common.options import RunOptions
from experiments.common.registry import EXPERIMENTS, experiment
from experiments.dynamic_sharing import theorem1
from neurosim.errors import InvalidArgument
from neurosim.recording import RunReader


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Run an experiment once and keep what it found."""
    found: dict[str, Any] = {}

    def once(name: str) -> Any:
        if name not in found:
            out = tmp_path_factory.mktemp(name)
            report = experiment(name)(RunOptions(out=out, quiet=True))
            with RunReader(report.run_file) as file:
                curves = convergence_curves(file) if name.startswith("fig") else None
            found[name] = (report, curves)
        return found[name]

    return once


def where(curves: Any, **point: float) -> int:
    rows = zip(*(curves.grid[key] for key in point), strict=True)
    return list(rows).index(tuple(point.values()))


def test_fig4a_reaches_the_minimum_of_eq5(run: Any) -> None:
    _, curves = run("fig4a")
    assert curves.mean.shape == (9, 1000)
    for gamma in (0.1, 0.01, 0.001):
        floor = 2 * np.log(gamma / (1 + gamma))
        for kernel in (3, 6, 9):
            g = where(curves, gamma=gamma, kernel=kernel)
            assert curves.mean[g, -1] == pytest.approx(floor, abs=0.4)
            assert np.log(curves.limits["eq5"][g]) == pytest.approx(floor, abs=0.02)
            few_hundred = np.searchsorted(curves.presentations, 1000)
            assert curves.mean[g, few_hundred] < floor / 2


def test_fig5a_drifts_to_the_biased_limit(run: Any) -> None:
    _, curves = run("fig5a")
    for kernel in (3, 6, 9):
        g = where(curves, gamma=0.1, kernel=kernel)
        assert curves.mean[g, -1] == pytest.approx(np.log(curves.limits["eq25"][g]), abs=0.15)
        for gamma in (0.1, 0.01, 0.001):  # first a very good solution, then worse
            g = where(curves, gamma=gamma, kernel=kernel)
            assert curves.mean[g].min() < curves.mean[g, -1] - 0.2


@pytest.mark.parametrize("name", ["fig4b", "fig5b"])
def test_fig4b_ends_at_the_circuits_own_limit(run: Any, name: str) -> None:
    _, curves = run(name)
    for kernel in (3, 6, 9):
        g = where(curves, gamma=0.1, kernel=kernel)
        own, biased = (np.log(curves.limits[key][g]) for key in ("circuit", "eq25"))
        assert curves.mean[g, -1] == pytest.approx(own, abs=0.12)
        assert abs(curves.mean[g, -1] - biased) > 0.4
        g = where(curves, gamma=0.01, kernel=kernel)
        best = curves.presentations[curves.mean[g].argmin()]
        assert 1000 < best < 4000  # "around 2k iterations in Fig. 4B"


def test_theorem1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A tenth of the published length: levels at the exact floor, below the bound."""
    monkeypatch.setattr(theorem1, "PRESENTATIONS", 20_000)
    monkeypatch.setattr(theorem1, "TRIALS", 3)
    monkeypatch.setattr(theorem1, "POINTS", np.geomspace(10, 20_000, 20).astype(int))
    report = theorem1.run(RunOptions(out=tmp_path, quiet=True))
    found = report.values
    assert (found["error"] <= found["bound"]).all()
    np.testing.assert_allclose(found["error_minus_residual"][2:], found["floor"][2:], rtol=0.1)
    assert found["floor_exponents"][0] == pytest.approx(4, abs=0.1)
    assert found["floor_exponents"][-1] < 3


def test_integrators(run: Any) -> None:
    report, _ = run("integrators")
    orders = report.values["orders"]
    assert orders["Euler"] == pytest.approx(1, abs=0.05)
    assert orders["RK4"] == pytest.approx(4, abs=0.1)
    assert orders["RK45"] > 4
    assert orders["DOP853"] > 6


def test_every_experiment_has_a_claim_and_can_be_found() -> None:
    for name in EXPERIMENTS:
        function = experiment(name)
        module = __import__(function.__module__, fromlist=["run"])
        assert "laim" in (module.__doc__ or "")
    with pytest.raises(InvalidArgument, match="did you mean 'fig4"):
        experiment("fig4")
