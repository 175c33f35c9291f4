"""Scores over seeds: paired gains, intervals, and what is there without data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.benchmark.scoring import Score
from experiments.common.options import TrainingOptions
from experiments.dynamic_sharing.brains import Brains, report, rows, run, variants
from neurosim.data.errors import DataError
from neurosim.errors import InvalidArgument


def scored(model: str, raw: float) -> Score:
    nan = float("nan")
    return Score(model, "V4", "layer1", "pls", raw, 0.1, 0.0, 1.0, nan, nan, nan, 100)


def test_gains_are_paired_by_seed(tmp_path: Path) -> None:
    """Differences between seeds are larger than the gain, which is the same for each."""

    def of_seeds(model: str, raws: list[float]) -> dict[int | None, list[Score]]:
        return {seed: [scored(model, raw)] for seed, raw in zip((4, 7, 1), raws, strict=True)}

    before, after = [0.1, 0.3, 0.5], [0.2, 0.41, 0.59]
    scores = {
        "untrained conv": of_seeds("untrained conv", before),
        "conv": of_seeds("conv", after),
        "pixels": {None: [scored("pixels", 0.2)]},
    }
    found = {row.model: row for row in rows(scores)}
    assert found["conv"].gain == pytest.approx([0.1, 0.11, 0.09])
    assert found["untrained conv"].gain is None
    assert found["pixels"].gain is None
    printed = report(tmp_path, list(found.values()))
    low, high = stats.ttest_1samp(np.subtract(after, before), 0).confidence_interval()
    assert any(f"0.100  {low:.3f} to {high:.3f}" in line for line in printed.lines)
    with (tmp_path / "brains.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["model"] for row in table] == ["untrained conv"] * 3 + ["conv"] * 3 + ["pixels"]
    assert [row["seed"] for row in table] == ["4", "7", "1", "4", "7", "1", ""]
    assert float(table[4]["gain"]) == pytest.approx(0.11)


def test_options_reach_the_networks() -> None:
    options = TrainingOptions(epochs=3, subset=100, batch_size=32)
    for variant in variants(Brains(lr=0.5), options):
        variant.settings.check()
        wake = variant.settings.optimisation
        assert (wake.lr, wake.epochs, wake.batch_size) == (0.5, 3, 32)
        assert variant.settings.data.subset == 100


def test_missing_data_are_named_before_anything_is_trained(tmp_path: Path) -> None:
    options = TrainingOptions(data=tmp_path, out=tmp_path / "out")
    with pytest.raises((DataError, InvalidArgument), match=r"macaque_v4\.npz"):
        run(Brains(), options)
    assert not (tmp_path / "out").exists()
