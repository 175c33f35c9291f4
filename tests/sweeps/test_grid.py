"""Options of functions, grids, batches and the index: without any process."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.sweeps import collect
from experiments.commands.studies.find import OWN, find_study
from experiments.common.registry import EXPERIMENTS
from neurosim.errors import InvalidArgument, RunFileError
from neurosim.sweeps import Point, StudyFolder, build_grid, read_records, read_words
from neurosim.sweeps.batches import Batches
from neurosim.sweeps.index import COMPLETE, FAILED, IndexWriter, Record, columns, states
from neurosim.sweeps.options import arguments, options_of


@dataclass(frozen=True)
class Inner:
    decay: float = 0.1


@dataclass(frozen=True)
class Outer:
    rate: float = 1.0
    kinds: tuple[Literal["a", "b"], ...] = ("a", "b")
    place: Path | None = None
    inner: Inner = field(default_factory=Inner)


def command(outer: Outer, seed: int = 0, loud: bool = False) -> tuple[Outer, int, bool]:
    return outer, seed, loud


def test_a_configuration_fills_in_nested_settings() -> None:
    options = options_of(command)
    assert list(options) == ["rate", "kinds", "place", "decay", "seed", "loud"]
    grid = build_grid(
        "c", options, read_words(["kind=a,b", "decay=1e-2", "loud=yes", "place=x"]), 2
    )
    configs = [point.config for point in grid]
    assert len(grid) == len(configs) == 4
    got = [command(**arguments(command, config)) for config in configs]
    outer = Outer(kinds=("a",), place=Path("x"), inner=Inner(0.01))
    assert got[:2] == [(outer, 0, True), (outer, 1, True)]
    assert got[2][0] == replace(outer, kinds=("b",))
    assert [grid.at(number) for number in range(4)] == configs


def test_the_name_of_a_point_is_that_of_what_it_computes() -> None:
    options = options_of(command)
    keys = [
        next(iter(build_grid("c", options, given))).key
        for given in ({"rate": 1.0}, {"rate": 1}, {"rate": "1"}, {"rate": 1, "decay": 0.1}, {})
    ]
    assert len(set(keys)) == 1  # what is at its default changes nothing, however it is said
    others = [build_grid("c", options, {"rate": 2}), build_grid("d", options, {"rate": 1})]
    assert len({keys[0], *(next(iter(grid)).key for grid in others)}) == 3


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3_000),
    st.integers(1, 40),
    st.floats(1e-5, 5.0),
    st.randoms(use_true_random=False),
)
def test_batches_hand_out_every_point_once_whatever_dies(total, slots, seconds, random) -> None:
    batches = Batches((Point(str(n), {}) for n in range(total)), total)
    done: Counter[str] = Counter()
    while points := batches.take(slots):
        assert len(points) == 1 or len(points) * seconds <= 4 or not batches.known
        if len(points) > 1 and random.random() < 0.2:
            batches.again(points, suspect=True)
            continue
        batches.learn([seconds] * len(points))
        done.update(point.key for point in points)
    assert done == Counter(map(str, range(total)))


def test_who_may_have_killed_a_worker_is_soon_alone() -> None:
    batches = Batches(iter([Point(str(n), {}) for n in range(4)]), 4)
    points = [Point(str(n), {}) for n in range(500)]
    deaths = 0
    batches.again(points, suspect=True)
    while len(taken := list(batches.take(2))) > 1 or taken[0].key != "123":
        if any(point.key == "123" for point in taken):
            deaths += 1
            batches.again(taken, suspect=True)
    assert deaths <= 3


def test_the_index_survives_a_torn_line_and_keeps_the_last_word(tmp_path: Path) -> None:
    home = StudyFolder.create(tmp_path / "s", "c", {"a": 1})
    first = IndexWriter(home.index)
    fixed, varying = columns([{"a": 1, "b": 2}, {"a": 1, "b": 3}])
    assert (fixed, varying) == ({"a": 1}, {"b": [2, 3]})
    first.append(Record(FAILED, ["x", "y"], fixed, varying, errors=["no", "no"]))
    first.append(Record(COMPLETE, ["y"], {"b": 3}, {}, metrics={"m": [0.5]}, file="runs/y.h5"))
    first.close()
    whole = first.path.read_bytes()
    second = IndexWriter(home.index)
    second.append(Record(COMPLETE, ["z"], {"a": 5}, {}, metrics={"m": [0.25]}))
    second.close()
    for cut in range(len(whole) + 1):  # a kill at any byte
        first.path.write_bytes(whole[:cut])
        lines = whole[:cut].count(b"\n")
        assert len(list(read_records(home.index))) == lines + 1
    assert states(home.index) == {"x": FAILED, "y": COMPLETE, "z": COMPLETE}
    table = collect(home.path)
    assert table.index.tolist() == ["x", "y", "z"]
    assert table.loc["y", ["a", "b", "m", "status"]].tolist() == [1, 3, 0.5, COMPLETE]
    assert table.loc["x", "error"] == "no"
    assert np.isnan(table.loc["z", "b"])
    assert table["a"].tolist() == [1, 1, 5]  # the default where nothing was said


@pytest.mark.skipif(os.name != "posix", reason="needs limits on the size of files")
def test_the_index_stays_whole_on_a_full_disk(tmp_path: Path) -> None:
    import resource

    writer = IndexWriter(tmp_path / "index")
    writer.append(Record(COMPLETE, ["first"], {}, {}))
    whole = writer.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))  # ten bytes are left
    try:
        with pytest.raises(RunFileError, match="make room, and the same command goes on"):
            writer.append(Record(COMPLETE, ["second"], {}, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert writer.path.read_bytes() == whole
    writer.append(Record(COMPLETE, ["third"], {}, {}))
    writer.close()
    assert states(tmp_path / "index") == {"first": COMPLETE, "third": COMPLETE}


@pytest.mark.parametrize("name", ["train", *EXPERIMENTS])
def test_every_experiment_can_be_swept(name: str) -> None:
    study = find_study([name])
    assert study.options
    assert not set(study.options) & set(OWN)
    seed = {"seed", "seeds"} & set(study.options)
    grid = build_grid(name, study.options, {}, seeds=2 if seed else None)
    assert len(grid) == (2 if seed else 1)
    arguments(study.run.function, next(iter(grid)).config)  # type: ignore[attr-defined]


def test_a_small_experiment_runs_as_a_point(tmp_path: Path) -> None:
    study = find_study(["reproduce", "fig4a"])
    found = study.run({"seed": 1}, tmp_path / "point")
    assert found["settings"]["0"]["minus_log_snr"] == pytest.approx(-4.81, abs=0.1)
    assert (tmp_path / "point/fig4a.h5").exists()
    again = study.run({"seed": 1}, tmp_path / "point")  # a retry replaces what was left there
    assert str(again) == str(found)


def test_refused() -> None:
    options = options_of(command)
    for words, message in {
        "rat=1": "did you mean 'rate'",
        "rate=x": "must be a number, got 'x'",
        "kind=c": "one of a, b, got 'c'",
        "seed=1.5": "must be an integer",
        "loud=maybe": "must be true or false",
    }.items():
        with pytest.raises(InvalidArgument, match=message):
            build_grid("c", options, read_words([words]))
    with pytest.raises(InvalidArgument, match="exclude each other"):
        build_grid("c", options, {"seed": [1, 2]}, seeds=2)
    with pytest.raises(
        InvalidArgument, match=r"--seeds must be a number of seeds, >= 1, got \[1, 2\]"
    ):
        build_grid("c", options, {}, seeds=[1, 2])


def test_defaults_that_are_not_equal_to_themselves(tmp_path: Path) -> None:
    def run(a: int, level: float = float("nan"), f: object = None) -> None: ...

    for _ in range(2):
        StudyFolder.create(tmp_path / "s", "s", build_grid("s", options_of(run), {"a": 1}).defaults)

    def other(a: int, f: object = np.tanh) -> None: ...

    with pytest.raises(InvalidArgument, match="the default of f must be numbers, text or lists"):
        build_grid("s", options_of(other), {"a": 1})


def test_arrays_are_values() -> None:
    options = options_of(command)
    given = {"rate": np.linspace(0, 1, 3), "seed": [np.int64(4), 5]}
    plain = build_grid("c", options, {"rate": [0.0, 0.5, 1.0], "seed": [4, 5]})
    assert list(build_grid("c", options, given)) == list(plain)
