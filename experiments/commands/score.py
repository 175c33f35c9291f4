"""Scores of models on a benchmark, offline: what `neurosim score` does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from analysis.benchmark.assemblies import read_folder
from analysis.benchmark.candidates import Network
from analysis.benchmark.datasets import DATASETS
from analysis.benchmark.form import FILE, Benchmark, Recording, read_benchmark
from analysis.benchmark.scoring import Metric, Scoring, score
from analysis.representations.activations import Extraction
from experiments.common.networks import candidate
from experiments.common.result import Report
from experiments.common.scores import report, scores_folder
from neurosim.data.sources import data_folder
from neurosim.errors import InvalidArgument, require
from neurosim.progress import StatusLine


@dataclass(frozen=True)
class ScoreOptions:
    """On what models are scored, how, and where results go."""

    benchmark: str = "cowley2023"
    """Name of a data set, a benchmark file, or a folder with one of ours or Brain-Score's."""
    layers: tuple[str, ...] | None = None
    """Layers that may stand for a region (default: the outputs of all blocks)."""
    metric: Metric | None = None
    """pls, ridge and linear predict responses; rdm and cka compare representations (default:
    pls)."""
    comparison: str = "spearman"
    """Of dissimilarity matrices: spearman, rho-a, kendall, tau-a, pearson, cosine."""
    splits: int = 10
    """Splits into 90% of the stimuli to fit and 10% to predict."""
    commit: bool = True
    """Choose layers on one half of the stimuli and score on the other."""
    pool: int | None = None
    """Average larger maps down to so many rows and columns before comparing."""
    dtype: Literal["float32", "float16"] = "float32"
    """Numbers in which activations are kept."""
    data: Path | None = None
    """Folder of data sets (default: $NEUROSIM_DATA)."""
    device: str = "cpu"
    """Where networks compute."""
    out: Path | None = None
    """Folder for activations, tables and figure (default: runs/score, or the next free one)."""
    overwrite: bool = False
    """Replace tables that are already in the folder; activations there are used again."""
    quiet: bool = False
    """No progress and no table, only errors."""
    json: bool = False
    """Print the results as JSON on standard output instead of a table."""


def run(models: tuple[str, ...], options: ScoreOptions) -> Report:
    """Score models against brains and behaviour, without registering them anywhere.

    A model is a checkpoint (.pt, its folder, or its run file), a function module:function that
    returns a torch network, pixels, or untrained:CHECKPOINT, the same network with new weights:
        neurosim score runs/train/train-seed0.h5 pixels --benchmark cowley2023

    Args:
        models: The models.
        options: On what, how, and where results go.
    """
    require(len(models) > 0, "models", models, "one or more: checkpoints, module:function, pixels")
    settings = Scoring(
        metric=options.metric or "pls", comparison=options.comparison, splits=options.splits,
        commit=options.commit,
    )  # fmt: skip
    extraction = Extraction(dtype=options.dtype, pool=options.pool)
    benchmark = find_benchmark(options.benchmark, options.data)
    responses = any(isinstance(found, Recording) for found in benchmark.measured.values())
    if options.metric is not None and not responses:
        raise InvalidArgument(
            f"--metric must be left out for {benchmark.name}, which has no responses: its "
            f"dissimilarities are compared as --comparison says, got {options.metric}"
        )
    candidates = [
        candidate(name, options.layers, settings=extraction, device=options.device)
        for name in models
    ]  # fmt: skip
    candidates = distinct(candidates, models)
    folder = scores_folder("score", options.out, overwrite=options.overwrite)
    line = StatusLine(quiet=options.quiet)
    scores = score(candidates, benchmark, None, settings, folder=folder, tell=line.say)
    return report("score", folder, scores)


def distinct(candidates: Sequence[Network], texts: Sequence[str]) -> list[Network]:
    """The same models; those of one name, such as runs of one seed, by what was asked for."""
    count = Counter(found.name for found in candidates)
    return [
        found if count[found.name] == 1 else replace(found, name=text)
        for found, text in zip(candidates, texts, strict=True)
    ]


def find_benchmark(name: str, data: Path | None = None) -> Benchmark:
    """A data set by name, or a benchmark from a file or folder."""
    path = Path(name)
    if path.is_file() or (path / FILE).is_file():
        return read_benchmark(path)
    if path.is_dir():
        return read_folder(path)
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise InvalidArgument(
            f"benchmark must be one of {known}, or a file or folder that exists, got {name!r}"
        )
    file, read = DATASETS[name]
    return read(data_folder(data) / file)
