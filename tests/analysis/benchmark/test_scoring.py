"""Layer commitment and scores, on benchmarks whose best layer and score are known."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from analysis.benchmark import table as score_table
from analysis.benchmark.behaviour import Trials
from analysis.benchmark.candidates import Features, Network, pixels
from analysis.benchmark.form import Benchmark, Choices, Dissimilarities, Recording
from analysis.benchmark.scoring import (
    Score,
    Scoring,
    average,
    halves,
    score,
)
from analysis.representations.similarity import dissimilarities
from analysis.representations.stimuli import Pictures, View
from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording import RunReader, RunWriter

COUNT, SOURCES, NOISE, REPETITIONS = 240, 6, 1.5, 6
RIDGE = Scoring(metric="ridge", draws=50)


def brain(repetitions: int = REPETITIONS, objects: bool = True) -> tuple[Any, np.ndarray]:
    """Two regions, each a noisy readout of its own sources, and those sources."""
    random = np.random.default_rng(0)
    sources = random.standard_normal((2, COUNT, SOURCES))
    measured = {}
    for name, source in zip(("V4", "IT"), sources, strict=True):
        signal = source @ np.linalg.qr(random.standard_normal((SOURCES, SOURCES)))[0]
        noise = NOISE * random.standard_normal((COUNT, repetitions, SOURCES))
        names = tuple(f"{name}-{number}" for number in range(SOURCES))
        measured[name] = Recording(signal[:, None] + noise, names)
    pixels = random.integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    ids = tuple(f"s{number}" for number in range(COUNT))
    labels = tuple("abcd" * (COUNT // 4)) if objects else None
    return Benchmark("test", Pictures(ids, pixels), measured, labels), sources


def models(sources: np.ndarray) -> list[Features]:
    """One that holds both regions' sources in layers of its own, and a stranger."""
    random = np.random.default_rng(1)
    noise = random.standard_normal((3, COUNT, 50))
    layers = {"early": noise[0], "middle": np.hstack([5 * sources[0], noise[1] / 20]),
              "late": np.hstack([5 * sources[1], noise[1] / 20])}  # fmt: skip
    return [Features("good", layers), Features("stranger", {"only": noise[2]})]


def test_every_region_gets_its_layer_and_meets_its_ceiling() -> None:
    benchmark, sources = brain()
    found = {(s.model, s.region): s for s in score(models(sources), benchmark, settings=RIDGE)}
    assert found["good", "V4"].layer == "middle"
    assert found["good", "IT"].layer == "late"
    ceiling = 1 / (1 + NOISE**2 / REPETITIONS)
    for region in ("V4", "IT"):
        best, stranger = found["good", region], found["stranger", region]
        assert best.ceiling == pytest.approx(ceiling, abs=0.07)
        assert best.score == pytest.approx(1, abs=0.15)
        assert abs(stranger.raw) < 0.25
        assert best.low <= best.raw <= best.high
        assert best.stimuli == COUNT // 2


def test_halves_share_no_stimulus_and_balance_objects() -> None:
    benchmark, _ = brain()
    choosing, scoring = halves(COUNT, benchmark.objects)
    assert sorted([*choosing, *scoring]) == list(range(COUNT))
    labels = np.array(benchmark.objects)
    for half in (choosing, scoring):
        assert np.unique(labels[half], return_counts=True)[1].tolist() == [COUNT // 8] * 4


def test_having_many_layers_gains_nothing() -> None:
    """The best of 40 layers of noise, on the half that did not choose it, is noise."""
    benchmark, _ = brain(objects=False)
    random = np.random.default_rng(2)
    layers = {f"layer{n}": random.standard_normal((COUNT, 20)) for n in range(40)}
    found = score([Features("noise", layers)], benchmark, settings=RIDGE)
    assert abs(np.mean([s.raw for s in found])) < 0.12


def test_without_commitment_all_stimuli_count() -> None:
    benchmark, sources = brain()
    settings = Scoring(metric="ridge", commit=False, draws=50)
    found = score([models(sources)[0]], benchmark, ["late"], settings)
    assert [s.stimuli for s in found] == [COUNT, COUNT]
    with pytest.raises(InvalidArgument, match="one layer must be given, got 3"):
        score([models(sources)[0]], benchmark, settings=settings)


def test_without_repetitions_scores_are_raw() -> None:
    benchmark, sources = brain(repetitions=1)
    found = score(models(sources), benchmark, settings=RIDGE)
    assert all(math.isnan(s.score) and math.isnan(s.ceiling) for s in found)
    mean, ceiled = average(found)["good"]
    assert not ceiled
    assert mean == pytest.approx(np.mean([s.raw for s in found if s.model == "good"]))
    header, *_ = score_table.cells(found)
    assert header == ["model", "average*", "V4*", "IT*"]


@pytest.mark.parametrize("metric", ["pls", "linear", "rdm", "cka"])
def test_every_metric_prefers_the_right_layer(metric: str) -> None:
    benchmark, sources = brain()
    found = score([models(sources)[0]], benchmark, settings=Scoring(metric=metric, draws=20))
    assert {s.region: s.layer for s in found} == {"V4": "middle", "IT": "late"}
    assert all(s.raw > 0.3 and s.metric == metric for s in found)


def test_matrices_of_subjects() -> None:
    """A model with the subjects' common patterns meets the noise ceiling, a stranger does not."""
    benchmark, sources = brain()
    few = slice(0, 60)
    random = np.random.default_rng(3)
    patterns = sources[0, few] @ random.standard_normal((SOURCES, 30))
    seen = patterns + 2 * random.standard_normal((4, 60, 30))
    theirs = Dissimilarities(np.array([dissimilarities(p) for p in seen]), tuple("wxyz"))
    stimuli = Pictures(benchmark.stimuli.ids[few], benchmark.stimuli.pixels[few])
    held = Benchmark("matrices", stimuli, {"IT": theirs})
    known = [Features("common", {"a": patterns}), Features("other", {"a": sources[1, few]})]
    common, other = score(known, held, settings=Scoring(draws=60))
    assert common.score == pytest.approx(1, abs=0.15)
    assert common.metric == "correlation spearman"
    assert other.raw < common.low


def test_behaviour_is_read_from_the_last_layer() -> None:
    random = np.random.default_rng(4)
    objects = np.array(list("abcd") * (COUNT // 4))
    names = objects.tolist()
    features = 1.2 * (objects[:, None] == list("abcd")) + random.standard_normal((COUNT, 4))
    fitting = np.arange(COUNT) < COUNT // 2
    ids = [f"s{number}" for number in range(COUNT)]
    rows = []
    for image in np.flatnonzero(~fitting):
        for other in sorted(set("abcd") - {names[image]}):
            margin = features[image]["abcd".index(objects[image])]
            margin = margin - features[image]["abcd".index(other)]
            for _ in range(20):
                right = random.random() < 1 / (1 + np.exp(-2 * margin))
                chosen = objects[image] if right else other
                rows.append((ids[image], objects[image], other, chosen))
    trials = Trials(*(np.array(column) for column in zip(*rows, strict=True)))
    benchmark, _ = brain()
    held = Benchmark("choices", benchmark.stimuli, {"behaviour": Choices(trials, fitting)},
                     tuple(objects.tolist()))  # fmt: skip
    noise = random.standard_normal((COUNT, 4))
    known = [Features("same", {"early": noise, "last": features}),
             Features("noise", {"early": features, "last": noise})]  # fmt: skip
    same, other = score(known, held)
    assert (same.layer, same.metric, same.stimuli) == ("last", "i2n", COUNT // 2)
    assert same.score > 0.6
    assert abs(other.score) < 0.3


def test_networks_and_pixels(tmp_path: Path) -> None:
    """From modules to scores, with activations kept in files and taken up again."""
    benchmark, _ = brain()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    network = Network("net", module, ("0", "1", "2"), View((4, 4)))
    said: list[str] = []
    first = score([network, pixels(4)], benchmark, settings=RIDGE, folder=tmp_path,
                  tell=said.append)  # fmt: skip
    assert said == ["test: net", "test: pixels"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-test.h5", "pixels-test.h5"]
    again = score([network, pixels(4)], benchmark, settings=RIDGE, folder=str(tmp_path))
    assert again == first
    assert Network("net", module, "3", View((4, 4))).layers == ("3",)  # type: ignore[arg-type]
    # Of other layers, or weights: nothing that is there is taken for them, or in the way.
    with torch.no_grad():
        next(module.parameters()).mul_(-1)
    changed = score([Network("net", module, ("0", "2"), View((4, 4)))], benchmark, settings=RIDGE,
                    folder=tmp_path)  # fmt: skip
    assert [s.raw for s in changed] != [s.raw for s in first[: len(changed)]]
    run = tmp_path / "net-test.h5"  # of another kind: not ours to replace
    run.unlink()
    with RunWriter(run, "training", {}) as other:
        other.start()
    with pytest.raises(RunFileError):
        score([network], benchmark, settings=RIDGE, folder=tmp_path)
    with RunReader(run) as kept:
        assert kept.kind == "training"
    (only,) = score([network], Benchmark("IT", benchmark.stimuli, {"IT": benchmark.measured["IT"]}),
                    layers="1", settings=RIDGE)  # fmt: skip
    assert only.layer == "1"
    with pytest.raises(InvalidArgument, match="got 'l'; the nearest is"):
        Network("net", module, ("l",), View())


def test_a_stimulus_without_dissimilarities_is_named_by_its_own_number() -> None:
    benchmark, sources = brain()
    features = sources[0].copy()
    features[3] = 1
    with pytest.raises(InvalidArgument, match=r"stimulus '.*3' in layer 'a' is constant"):
        score(
            [Features("x", {"a": features})],
            benchmark,
            settings=Scoring(metric="rdm", commit=False),
        )


def test_lists_are_arrays_too() -> None:
    """As they come from a table or a literal."""
    values = np.random.default_rng(0).standard_normal((9, 2, 1))
    recording = Recording(values.tolist(), "one")  # type: ignore[arg-type]
    assert recording.neuroids == ("one",)
    np.testing.assert_array_equal(recording.mean, values.mean(1))
    ceiling = recording.ceiling(np.arange(5))
    assert ceiling is not None
    matrix = [[[0.0, 1.0], [1.0, 0.0]]]
    assert Dissimilarities(matrix, ("a",)).stimuli == 2  # type: ignore[arg-type]
    trials = Trials(["s", "t"], ["a", "b"], ["b", "a"], ["a", "a"])  # type: ignore[arg-type]
    assert Choices(trials, [True, False]).stimuli == 2  # type: ignore[arg-type]


def rows(mark: float = 0.5) -> list[Score]:
    return [
        Score("a_1", "V4", "x", "pls", 0.6, 0.01, 0.5, 0.7, 0.72, mark, 0.02, 100),
        Score("a_1", "IT", "y", "pls", 0.5, 0.01, 0.4, 0.6, 0.8, 0.3125, 0.0125, 100),
        Score("b", "V4", "x", "pls", 0.3, 0.02, 0.2, 0.4, 0.72, 0.125, 0.01, 100),
        Score("b", "IT", "y", "pls", 0.2, 0.02, 0.1, 0.3, 0.8, 0.05, 0.01, 100),
    ]


def test_tables(tmp_path: Path) -> None:
    header, first, second = score_table.cells(rows())
    assert header == ["model", "average", "V4", "IT"]
    assert first == ["a_1", "0.406", "0.500 ± 0.020", "0.312 ± 0.013"]
    assert second[0] == "b"
    text = score_table.latex(rows())
    assert r"a\_1 & $0.406$ & $0.500 \pm 0.020$" in text
    assert text.count(r"\\") == 3
    path = score_table.write_csv(tmp_path / "scores.csv", rows())
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert (read[0]["model"], read[1]["region"], float(read[3]["raw"])) == ("a_1", "IT", 0.2)
    score_table.figure(rows()).savefig(tmp_path / "scores.png")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b, m: score([m[0], m[0]], b), "models must be of different names"),
        (lambda b, m: score(m, b, ["middel"]), "the nearest is 'middle'"),
        (lambda b, m: score([Features("x", {"a": np.eye(9)})], b), "do not match: layer 'a' has 9"),
        (lambda b, m: score(m[0], b), "models must be a list of Network, Features or other"),
        (lambda b, m: score([nn.ReLU()], b), r"got a ReLU; Network\(name, module, layers, view\)"),
        (lambda b, m: score(["net"], b), "models must be a list of .*, got 'net'"),
        (lambda b, m: score(m, "b.h5"), "benchmark must be a Benchmark, got 'b.h5'"),
        (lambda b, m: score(m, b, None, "pls"), "settings must be a Scoring, got 'pls'"),
        (lambda b, m: score(m, b, "31"), "must be one of the 3 that there are, got '31'"),
        (lambda b, m: Network("n", "net", ("1",), View()), "module must be a Module, got 'net'"),
        (lambda b, m: Network("n", nn.ReLU(), ("1",), 64), "view must be a View, got 64"),
        (lambda b, m: Recording(np.zeros((9, 2, 3)).tolist(), "abc"), "must each have a name"),
        (lambda b, m: Choices("trials", [True]), "trials must be a Trials, got 'trials'"),
        (lambda b, m: Scoring(metric="plsr"), "did you mean 'pls'"),
        (lambda b, m: Scoring(splits=0), "splits must be >= 1"),
    ],
)
def test_bad_input(call, message: str) -> None:
    benchmark, sources = brain()
    with pytest.raises(InvalidArgument, match=message):
        call(benchmark, models(sources))
