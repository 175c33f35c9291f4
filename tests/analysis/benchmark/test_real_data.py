"""Real neural data: read right, and known facts about them found again.

Skipped unless NEUROSIM_DATA is a folder with the archives that `analysis.benchmark.datasets` reads.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.benchmark.candidates import pixels
from analysis.benchmark.crossvalidation import predictivity
from analysis.benchmark.datasets import DATASETS, SESSIONS, cowley2023, kriegeskorte2008
from analysis.benchmark.form import Benchmark, read_benchmark
from analysis.benchmark.regression import Ridge
from analysis.benchmark.scoring import Scoring, score
from analysis.representations.similarity import compare, noise_ceiling
from neurosim.errors import InvalidArgument


def place(name: str) -> Path:
    """The archive of a data set, or a reason to skip."""
    folder = os.environ.get("NEUROSIM_DATA")
    path = Path(folder or "") / DATASETS[name][0]
    if folder is None or not path.is_file():
        pytest.skip(f"{DATASETS[name][0]} is not in the folder NEUROSIM_DATA")
    return path


def colours(benchmark: Benchmark) -> NDArray[np.float64]:
    """Coarse colours and edges: 7 x 7 means of the channels and of absolute gradients."""
    images = np.stack(benchmark.stimuli.images(0, benchmark.count)).astype(float) / 255
    size = images.shape[1] // 7 * 7
    grey = images.mean(3)
    maps = [*images.transpose(3, 0, 1, 2),
            *(np.abs(np.gradient(grey, axis=axis)) for axis in (1, 2))]  # fmt: skip
    cells = [m[:, :size, :size].reshape(-1, 7, size // 7, 7, size // 7).mean((2, 4)) for m in maps]
    features = np.stack(cells, 1).reshape(benchmark.count, -1)
    return (features - features.mean(0)) / features.std(0)


def test_v4_follows_coarse_colours() -> None:
    """As with the data: ridge gives a median r of 0.28 to 0.39, shuffled responses none."""
    path = place("cowley2023")
    for session in SESSIONS[::2]:
        benchmark = cowley2023(path, session)
        responses = benchmark.measured["V4"].mean  # type: ignore[union-attr]
        found = predictivity(colours(benchmark), responses, Ridge(300.0))
        assert 0.2 < found.mean < 0.45, session
        shuffled = np.random.default_rng(0).permutation(responses)
        assert abs(predictivity(colours(benchmark), shuffled, Ridge(300.0)).mean) < 0.06, session


def test_v4_has_a_ceiling_where_it_has_repetitions() -> None:
    """Known: halves correlate with 0.61, Spearman-Brown 0.76."""
    path = place("cowley2023")
    benchmark = cowley2023(path, "210325")
    ceiling = benchmark.measured["V4"].ceiling(np.arange(benchmark.count))  # type: ignore[union-attr]
    assert ceiling is not None
    assert ceiling.mean == pytest.approx(0.76, abs=0.02)
    assert cowley2023(path, "190923").measured["V4"].ceiling(np.arange(10)) is None  # type: ignore[union-attr]
    with pytest.raises(InvalidArgument, match="session must be one of"):
        cowley2023(path, "200000")


def test_monkeys_and_people_see_alike() -> None:
    """Known: monkey and human IT correlate with 0.44, people with the others with 0.37."""
    benchmark = kriegeskorte2008(place("kriegeskorte2008"))
    monkey, people = (benchmark.measured[f"{who} IT"].matrices for who in ("monkey", "human"))  # type: ignore[union-attr]
    assert compare(monkey, people.mean(0))[0, 0] == pytest.approx(0.44, abs=0.06)
    assert noise_ceiling(people)[0] == pytest.approx(0.37, abs=0.02)
    assert len(benchmark.measured["judgements"].subjects) == 16  # type: ignore[union-attr]


def test_benchmarks_survive_their_file(tmp_path: Path) -> None:
    benchmark = kriegeskorte2008(place("kriegeskorte2008"))
    read = read_benchmark(benchmark.write(tmp_path / "benchmark.h5"))
    assert read.stimuli.fingerprint == benchmark.stimuli.fingerprint
    settings = Scoring(draws=30)
    before, after = (score([pixels()], b, settings=settings) for b in (benchmark, read))
    for one, other in zip(before, after, strict=True):
        assert one.raw == pytest.approx(other.raw, abs=1e-6)
    assert all(-0.1 < found.raw < 0.35 for found in before)
