"""Which files commands take, what sort of runs they hold, and which results they replace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.common.convergence_grid import ConvergenceStudy
from experiments.common.run_files import run_files, sort_of, why_not
from neurosim.cli import main
from neurosim.errors import InvalidArgument
from neurosim.recording import RunReader, RunWriter


def study(path: Path, *quantities: str, kind: str = "convergence") -> Path:
    with RunWriter(path, kind=kind, config={"study": "mine"}) as run:
        for name in quantities:
            run.scale(name, np.arange(2))
        run.start()
    return path


def test_only_continuations_are_left_out(tmp_path: Path) -> None:
    for name in ("run", "run.seg1", "run.seg2", "my.segment", "a.segue.seg10"):
        study(tmp_path / f"{name}.h5")
    assert list(run_files([tmp_path])) == ["my.segment", "run"]
    with pytest.raises(InvalidArgument, match=r"folders with some \(\*.h5\)"):
        run_files([tmp_path / "..", tmp_path / "run.h5"][:1])


def test_sorts_of_runs(tmp_path: Path) -> None:
    for name, quantities, kind, sort in (
        ("curves", ("inverse_snr",), "convergence", "convergence"),
        ("theorem", ("error",), "convergence", "other"),
        ("network", (), "training", "training"),
        ("seen", (), "activations", "other"),
    ):
        with RunReader(study(tmp_path / f"{name}.h5", *quantities, kind=kind)) as run:
            assert sort_of(run) == sort
            assert run.path.name in why_not(run)


@pytest.mark.parametrize("command", ["report", "analyze"])
def test_runs_of_another_sort_are_named_and_left_out(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["converge", "--kernels", "2", "--gammas", "0.1", "--presentations", "20"]
    out = ["--out", str(tmp_path / "runs")]
    assert main([*words, *out, "--record-every", "10", "--trials", "1", "--quiet"]) == 0
    other = study(tmp_path / "runs" / "theorem.h5", "error")
    assert main([command, str(tmp_path / "runs"), "--out", str(tmp_path / "page")]) == 0
    assert "theorem.h5: mine has a figure of its own" in capsys.readouterr().err
    assert main([command, str(other), "--out", str(tmp_path / "other")]) == 2
    assert "runs must be of training or of a convergence study" in capsys.readouterr().err


def test_a_large_grid_is_spread_out_at_once() -> None:
    axis = tuple(np.linspace(1, 2, 40).tolist())
    study = ConvergenceStudy(alphas=axis, taus=axis, gammas=axis, rules=("circuit", "instant"))
    points = study.points()
    assert len(points) == 3 * 40**2 * (40 + 1)  # the instant rule has no tau
