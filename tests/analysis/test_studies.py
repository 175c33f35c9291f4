"""Tables and figures of studies, whatever their options and metrics are called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.sweeps import collect
from analysis.sweeps import figures as sweep_figures
from analysis.sweeps.summary import best_points, choose_metric, over_seeds, rises
from neurosim.sweeps import StudyFolder
from neurosim.sweeps.index import COMPLETE, FAILED, IndexWriter, Record


def study(folder: Path, rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> Path:
    """A study whose points have these options and metrics."""
    home = StudyFolder.create(folder, "train", {})
    index = IndexWriter(home.index)
    for number, (config, metrics) in enumerate(rows):
        columns = {name: [value] for name, value in metrics.items()}
        index.append(Record(COMPLETE, [str(number)], config, {}, metrics=columns))
    index.close()
    return folder


def test_means_intervals_and_the_best_point(tmp_path: Path) -> None:
    home = StudyFolder.create(tmp_path / "s", "train", {})
    index = IndexWriter(home.index)
    rows = [
        ({"connectivity": c, "lr": lr, "seed": seed}, base + 0.01 * seed)
        for c, lr, base in (("conv", 0.1, 0.8), ("conv", 0.01, 0.9), ("local", 0.1, 0.6),
                            ("local", 0.01, 0.4))
        for seed in range(3)
    ]  # fmt: skip
    for number, (config, value) in enumerate(rows):
        index.append(Record(COMPLETE, [str(number)], config, {}, metrics={"top1": [value]}))
    index.append(Record(FAILED, ["f"], {"connectivity": "conv", "lr": 0.5, "seed": 0}, {}))
    index.close()
    table = collect(home.path)
    means = over_seeds(table, "top1").set_index(["connectivity", "lr"])
    row = means.loc[("conv", 0.1)]
    assert row["mean"] == pytest.approx(0.81)
    # 0.80, 0.81, 0.82: standard error 0.01 / sqrt 3, t of 2 degrees of freedom 4.3027
    assert row["high"] - row["mean"] == pytest.approx(4.30265 * 0.01 / 3**0.5, rel=1e-4)
    best = best_points(table, "top1").set_index("connectivity")["lr"]
    assert best.to_dict() == {"conv": 0.01, "local": 0.1}
    worst = best_points(table.rename(columns={"top1": "test_loss"}), "test_loss")
    assert worst.set_index("connectivity")["lr"].to_dict() == {"conv": 0.1, "local": 0.01}
    assert sweep_figures.heat_maps(table, "top1") is not None
    drawn = sweep_figures.lines(table, "top1")
    assert drawn is not None
    assert len(drawn.axes[0].lines) == 2


def test_columns_are_in_the_same_order_in_every_process(tmp_path: Path) -> None:
    rows = [
        ({"beta": b, "alpha": a}, {"seconds_used": a, "error.": b, "iterations": a + b})
        for a in (1, 2) for b in (3, 4)
    ]  # fmt: skip
    folder = study(tmp_path / "s", rows)
    code = f"from analysis.sweeps import collect; print(*collect({str(folder)!r}).columns)"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        ).stdout
        for seed in "012"
    }  # fmt: skip
    assert len(said) == 1
    assert said.pop().startswith("beta alpha seconds_used error. iterations status")
    assert choose_metric(collect(folder), None) == "seconds_used"


def labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_options_that_are_none_are_drawn(tmp_path: Path) -> None:
    rows = [
        ({"c": c, "k": k, "seed": s}, {"x": k + (c or 0)})
        for c in (None, 1, 2) for k in (3, 5) for s in range(2)
    ]  # fmt: skip
    table = collect(study(tmp_path / "s", rows))
    drawn = sweep_figures.heat_maps(table, "x")
    assert drawn is not None
    axes = drawn.axes[0]
    assert (labels(axes.xaxis), labels(axes.yaxis)) == (["none", "1", "2"], ["3", "5"])
    np.testing.assert_array_equal(axes.images[0].get_array(), [[3, 4, 5], [5, 6, 7]])
    drawn = sweep_figures.lines(table, "x")
    assert drawn is not None
    (axes,) = drawn.axes
    assert axes.get_xlabel() == "k"
    assert len(axes.lines) == 3


@pytest.mark.parametrize("everywhere", [False, True])
def test_panels_without_any_number(tmp_path: Path, everywhere: bool) -> None:
    rows = [
        ({"net": n, "a": a, "b": b}, {"x": np.nan if everywhere or n == "local" else a * b})
        for n in ("conv", "local") for a in (1, 2, 3) for b in (1, 2, 3)
    ]  # fmt: skip
    table = collect(study(tmp_path / "s", rows))
    for draw in (sweep_figures.heat_maps, sweep_figures.lines):
        drawn = draw(table, "x")
        assert drawn is not None
        drawn.savefig(tmp_path / "figure.png")


def test_options_that_are_lists_or_are_called_as_columns_of_the_summary(tmp_path: Path) -> None:
    rows = [
        ({"sizes": list(sizes), "mean": m, "std": m, "runs": 7}, {"x": m * sum(sizes)})
        for sizes in ((1, 2), (3, 4)) for m in (1, 2)
    ]  # fmt: skip
    table = collect(study(tmp_path / "s", rows))
    found = over_seeds(table, "x")
    assert list(found.columns) == ["sizes", "mean.", "std", "mean", "runs", "low", "high"]
    assert found["mean"].tolist() == [3, 6, 7, 14]
    assert found["runs"].tolist() == [1] * 4
    assert best_points(table, "x")["sizes"].tolist() == [(1, 2)]
    assert sweep_figures.heat_maps(table, "x") is not None


def test_options_of_several_kinds(tmp_path: Path) -> None:
    """A list of one is its only value, and may be missing."""
    rows = [
        ({"widths": w, "k": k, "n": n}, {"x": k * n})
        for w in ([1, 2], 3, None, "all") for k in (1, 2) for n in (1, 2, 3, 4, 5)
    ]  # fmt: skip
    table = collect(study(tmp_path / "s", rows))
    assert over_seeds(table, "x")["widths"].drop_duplicates().tolist() == [None, 3, (1, 2), "all"]
    assert len(best_points(table, "x")) == 1
    drawn = sweep_figures.heat_maps(table, "x")
    assert drawn is not None
    assert [a.get_title() for a in drawn.axes[:2]] == ["k = 1", "k = 2"]
    assert labels(drawn.axes[0].yaxis) == ["none", "3", "(1, 2)", "all"]
    assert sweep_figures.lines(table, "x") is not None


def test_what_is_best() -> None:
    assert all(map(rises, ("top1", "variants.top1_mean", "r2", "reward", "snr")))
    assert not any(map(rises, ("loss", "log_inverse_snr", "test_loss")))
