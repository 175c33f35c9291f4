"""Scores of models on a benchmark: which layer stands for a region, and how well it does.

As in Brain-Score a model commits to one layer for each region. Here half of the stimuli choose
it, the layer that scores best on them, and the other half score it: a model gains nothing from
having many layers to choose from. For responses the raw score is the cross-validated r of a
regression (or the similarity of matrices or kernels) and the ceiled score r^2 / ceiling; for
dissimilarities it is the mean similarity with the subjects' matrices, over the upper noise
ceiling; for choices i2n, over the root of its ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from analysis.arguments import as_names
from analysis.benchmark.behaviour import i2n, object_probabilities
from analysis.benchmark.candidates import Candidate, check_candidates
from analysis.benchmark.ceiling import ceiled, ceiled_error
from analysis.benchmark.crossvalidation import Splits, cross_validate
from analysis.benchmark.form import Benchmark, Choices, Dissimilarities, Measured, Recording
from analysis.benchmark.regression import REGRESSIONS, Array, gram
from analysis.representations.activations import check_layers
from analysis.representations.cka import linear_cka
from analysis.representations.similarity import compare, dissimilarities, evaluate, noise_ceiling
from analysis.statistics import Estimate
from neurosim.errors import InvalidArgument, require, require_choice, require_instance

Metric = Literal["pls", "ridge", "linear", "rdm", "cka"]
METRICS = (*REGRESSIONS, "rdm", "cka")
HALF_SEED = 0
UNKNOWN = math.nan


@dataclass(frozen=True)
class Scoring:
    """How models are scored."""

    metric: Metric = "pls"
    """Regression on responses (pls, ridge, linear), or similarity of matrices or kernels."""
    distance: str = "correlation"
    """Between patterns, for matrices."""
    comparison: str = "spearman"
    """Between matrices."""
    splits: int = 10
    """Splits into stimuli to fit and stimuli to predict."""
    commit: bool = True
    """Choose layers on one half of the stimuli, score on the other; else one layer on all."""
    draws: int = 1000
    """Of bootstraps."""

    def __post_init__(self) -> None:
        require_choice("metric", self.metric, METRICS)
        require(self.splits >= 1, "splits", self.splits, ">= 1")
        require(self.draws >= 2, "draws", self.draws, ">= 2")


@dataclass(frozen=True)
class Score:
    """What a model came to on a region."""

    model: str
    region: str
    layer: str
    metric: str
    raw: float
    error: float  # standard error of raw
    low: float  # 95 % interval of raw: over neuroids, or over stimuli and subjects
    high: float
    ceiling: float  # NaN where nothing was repeated
    score: float  # raw, relative to the ceiling; NaN without one
    score_error: float
    stimuli: int  # that were scored


def score(
    candidates: Sequence[Candidate],
    benchmark: Benchmark,
    layers: str | Sequence[str] | None = None,
    settings: Scoring | None = None,
    *,
    folder: str | Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[Score]:
    """Scores of all models on all regions of a benchmark.

    Args:
        candidates: the models; their names must differ.
        benchmark: stimuli and measurements.
        layers: those that may stand for regions (default: every model's own).
        settings: metric, splits, commitment.
        folder: where activations are kept (default: a temporary one).
        tell: called with a line of progress.
    """
    settings = settings or Scoring()
    require_instance("settings", settings, Scoring)
    require_instance("benchmark", benchmark, Benchmark)
    check_candidates(candidates)
    layers = None if layers is None else as_names(layers)
    for candidate in candidates:
        if layers is not None:
            check_layers(layers, candidate.layers)
        chosen = tuple(layers or candidate.layers)
        if not settings.commit and len(chosen) > 1:
            raise InvalidArgument(
                f"{candidate.name}: without commitment one layer must be given, got {len(chosen)}"
            )
    scores = []
    with ExitStack() as stack:
        place = Path(folder or stack.enter_context(TemporaryDirectory(prefix="neurosim-")))
        for candidate in candidates:
            if tell is not None:
                tell(f"{benchmark.name}: {candidate.name}")
            found = candidate.features(benchmark, place)
            scores += _score_model(candidate, found, benchmark, layers, settings)
    return scores


def halves(
    stimuli: int, objects: Sequence[str] | None, seed: int = HALF_SEED
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stimuli that choose layers and stimuli that score them, with the same share of objects."""
    drawn = Splits(count=1, train=0.5, seed=seed).draw(stimuli, objects)
    return np.sort(drawn[0][0]), np.sort(drawn[0][1])


def average(scores: Sequence[Score]) -> dict[str, tuple[float, bool]]:
    """Mean over regions for every model, and whether it is of ceiled scores.

    Of raw scores where any region lacks a ceiling, so that all models are treated alike.
    """
    whole = not any(math.isnan(found.score) for found in scores)
    models = dict.fromkeys(found.model for found in scores)
    return {
        model: (
            float(np.mean([s.score if whole else s.raw for s in scores if s.model == model])),
            whole,
        )
        for model in models
    }


@dataclass(eq=False)
class _Layer:
    """A layer of a model: its features, and the Gram matrix that all regressions share."""

    model: str
    name: str
    features: np.ndarray

    @cached_property
    def kernel(self) -> Array:
        return gram(self.features)


def _score_model(
    candidate: Candidate,
    found: Mapping[str, np.ndarray],
    benchmark: Benchmark,
    layers: Sequence[str] | None,
    settings: Scoring,
) -> list[Score]:
    """One layer in memory at a time: first all compete, then the winners are scored."""
    choosing = scoring = np.arange(benchmark.count)
    if settings.commit:
        choosing, scoring = halves(benchmark.count, benchmark.objects)
    names = list(layers or candidate.layers)
    neural = {r: m for r, m in benchmark.measured.items() if not isinstance(m, Choices)}
    winners = dict.fromkeys(neural, names[0])
    if len(names) > 1:
        best = dict.fromkeys(neural, -math.inf)
        for name in names:
            layer = _Layer(candidate.name, name, found[name])
            for region, measured in neural.items():
                value = _quick(layer, measured, choosing, benchmark, settings)
                if value > best[region]:
                    best[region], winners[region] = value, name
    scores: dict[str, Score] = {}
    for name in dict.fromkeys(winners.values()):
        layer = _Layer(candidate.name, name, found[name])
        for region in (region for region in neural if winners[region] == name):
            scores[region] = _full(layer, benchmark, region, scoring, settings)
    for region, measured in benchmark.measured.items():
        if isinstance(measured, Choices):
            last = _Layer(candidate.name, names[-1], found[names[-1]])
            scores[region] = _behaviour(last, benchmark, region, measured)
    return [scores[region] for region in benchmark.measured]


def _quick(
    layer: _Layer,
    measured: Measured,
    rows: NDArray[np.int64],
    benchmark: Benchmark,
    settings: Scoring,
) -> float:
    """The raw score on some of the stimuli."""
    if isinstance(measured, Recording):
        return _responses(layer, measured, rows, benchmark, settings).mean
    assert isinstance(measured, Dissimilarities)
    model = _matrix(layer.features, f"layer {layer.name!r}", rows, benchmark, settings)
    theirs = measured.matrices[:, rows[:, None], rows]
    return float(compare(model, theirs, settings.comparison).mean())


def _full(
    layer: _Layer, benchmark: Benchmark, region: str, rows: NDArray[np.int64], settings: Scoring
) -> Score:
    """Score, interval and ceiling on some of the stimuli."""
    measured = benchmark.measured[region]
    if isinstance(measured, Recording):
        found = _responses(layer, measured, rows, benchmark, settings)
        low, high = found.interval(draws=settings.draws)
        raw, error, ceiling, relative, relative_error = found.mean, found.error, *[UNKNOWN] * 3
        consistency = measured.ceiling(rows) if settings.metric in REGRESSIONS else None
        if consistency is not None:
            ceiling = consistency.mean
            relative, relative_error = ceiled(raw, ceiling), ceiled_error(raw, error, ceiling)
        metric = settings.metric
    else:
        assert isinstance(measured, Dissimilarities)
        theirs = measured.matrices[:, rows[:, None], rows]
        ours = _matrix(layer.features, f"layer {layer.name!r}", rows, benchmark, settings)
        result = evaluate({layer.model: ours}, theirs, settings.comparison, draws=settings.draws)[0]
        raw, error, low, high = result.mean, result.error, result.low, result.high
        ceiling = noise_ceiling(theirs, settings.comparison)[1] if len(theirs) > 1 else UNKNOWN
        relative, relative_error = raw / ceiling, error / ceiling
        metric = f"{settings.distance} {settings.comparison}"
    return Score(
        layer.model, region, layer.name, metric, raw, error, low, high, ceiling, relative,
        relative_error, len(rows),
    )  # fmt: skip


def _responses(
    layer: _Layer,
    measured: Recording,
    rows: NDArray[np.int64],
    benchmark: Benchmark,
    settings: Scoring,
) -> Estimate:
    """Per split, of every neuroid for regressions, of the population for matrices and kernels."""
    responses = measured.mean[rows]
    labels = None if benchmark.objects is None else np.asarray(benchmark.objects)[rows]
    splits = Splits(count=settings.splits)
    if settings.metric in REGRESSIONS:
        kernel = layer.kernel[np.ix_(rows, rows)]
        return cross_validate(kernel, responses, REGRESSIONS[settings.metric], splits, labels)
    values = []
    for part, _ in splits.draw(len(rows), labels):  # 90 % at a time, as Brain-Score has it
        used = rows[part]
        if settings.metric == "cka":
            values.append(linear_cka(layer.features[used], measured.mean[used]))
        else:
            ours = _matrix(layer.features, f"layer {layer.name!r}", used, benchmark, settings)
            theirs = _matrix(measured.mean, "the responses", used, benchmark, settings)
            values.append(float(compare(ours, theirs, settings.comparison)[0, 0]))
    return Estimate(np.array(values)[:, None])


def _matrix(
    values: np.ndarray, where: str, rows: NDArray[np.int64], benchmark: Benchmark, settings: Scoring
) -> Array:
    """Dissimilarities of some of the stimuli; errors have their own names."""
    names = [f"{benchmark.stimuli.ids[row]!r} in {where}" for row in rows]
    return dissimilarities(values[rows], settings.distance, names=names)


def _behaviour(layer: _Layer, benchmark: Benchmark, region: str, measured: Choices) -> Score:
    """i2n of the stimuli in the trials, from a classifier on those that are there to fit."""
    labels, ids = np.asarray(benchmark.objects), np.asarray(benchmark.stimuli.ids)
    fit, shown = measured.fitting, np.isin(ids, measured.trials.stimulus)
    x = layer.features
    probabilities, objects = object_probabilities(x[fit], labels[fit], x[shown])
    found = i2n(probabilities, objects, ids[shown], measured.trials)
    return Score(
        layer.model, region, layer.name, "i2n", found.raw, UNKNOWN, UNKNOWN, UNKNOWN, found.ceiling,
        found.score, found.error, int(shown.sum()),
    )  # fmt: skip
