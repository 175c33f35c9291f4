"""Curves and figures from run files that the test writes itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from analysis import figures
from analysis.convergence import figures as convergence_figures
from analysis.convergence.noise import fit_slope
from analysis.convergence.snr import FLOOR, convergence_curves, is_floored, log_inverse_snr
from neurosim.errors import RunFileError
from neurosim.recording import RunReader, RunWriter


def write(path: Path, values: np.ndarray, kind: str = "convergence") -> None:
    """A study over two gammas with the given inverse SNRs (2, trials, R); NaN is not yet there."""
    with RunWriter(path, kind=kind, config={"study": "test"}) as run:
        run.scale("setting", np.arange(2))
        run.scale("trial", np.arange(values.shape[1]))
        run.scale("presentation", 10 * np.arange(1, values.shape[2] + 1))
        run.constant("grid/gamma", np.array([0.1, 0.01]), dims=("setting",))
        run.constant("grid/kernel", np.array([3, 3]), dims=("setting",))
        run.constant("limit/eq5", np.array([0.008, np.nan]), dims=("setting",))
        run.dataset("inverse_snr", dims=("setting", "trial", "presentation"))
        run.start()
        run.write("inverse_snr", values)


def test_curves_by_hand(tmp_path: Path) -> None:
    values = np.exp(np.array([[[0.0, -1], [0, -3]], [[-2, -4], [np.nan, np.nan]]]))
    write(tmp_path / "x.h5", values)
    with RunReader(tmp_path / "x.h5") as run:
        curves = convergence_curves(run)
    np.testing.assert_allclose(curves.mean, [[0, -2], [-2, -4]])
    np.testing.assert_allclose(curves.high - curves.mean, [[0, 1], [np.nan] * 2], atol=1e-12)
    assert curves.trials.tolist() == [2, 1]
    assert curves.presentations.tolist() == [10, 20]
    assert curves.varying == {"gamma": [0.1, 0.01]}
    assert not curves.floored.any()
    assert (curves.study, curves.status) == ("test", "complete")


def test_logs_are_floored_and_flagged(tmp_path: Path) -> None:
    assert log_inverse_snr(0.0) == np.log(FLOOR)
    assert np.isnan(log_inverse_snr(np.nan))
    assert is_floored([0.0, 1e-40, 1.0, np.nan]).tolist() == [True, True, False, False]
    write(tmp_path / "x.h5", np.array([[[1.0, 0.0]], [[1.0, 1.0]]]))
    with RunReader(tmp_path / "x.h5") as run:
        curves = convergence_curves(run)
    assert curves.floored.tolist() == [True, False]
    assert np.isfinite(curves.mean).all()


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.h5", np.ones((2, 1, 2)), kind="training")
    with (
        RunReader(tmp_path / "x.h5") as run,
        pytest.raises(RunFileError, match="must be of kind 'convergence', got 'training'"),
    ):
        convergence_curves(run)


def test_the_figure_shows_every_setting_and_limit(tmp_path: Path) -> None:
    write(tmp_path / "x.h5", np.random.default_rng(0).uniform(0.1, 1, (2, 3, 5)))
    with RunReader(tmp_path / "x.h5") as run:
        curves = convergence_curves(run)
    figure = convergence_figures.convergence(curves)
    (ax,) = figure.axes
    drawn = [line for line in ax.lines if len(np.asarray(line.get_xdata())) == 5]
    assert len(drawn) == 2
    np.testing.assert_allclose(np.asarray(drawn[1].get_ydata()), curves.mean[1])
    levels = [np.asarray(line.get_ydata())[0] for line in ax.lines if line not in drawn]
    np.testing.assert_allclose(levels, [np.log(0.008)])
    legend = ax.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["γ = 0.1", "γ = 0.01", "Eq. 5"]
    paths = figures.save(figure, tmp_path / "figure")
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert paths[1].read_bytes().startswith(b"%PDF")


def test_fit_slope() -> None:
    x = np.geomspace(1, 100, 9)
    assert fit_slope(x, 7 * x**-1.5) == pytest.approx(-1.5)
