"""Finished experiments can be asked again: what came of removed checkpoints is in the folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from analysis.benchmark.scoring import Score
from experiments.commands.studies.find import find_study
from experiments.dynamic_sharing import brains
from neurosim.cli import main

SMALL = (
    "--dataset digits-translated --epochs 1 --subset 60 --test-subset 40 --batch-size 20 "
    "--device cpu --quiet --json --out here"
)
LITTLE = "--channels 2 --kernel 4"
EXPERIMENTS = {
    "betalasso-table2": f"{LITTLE} --seeds 0 --grid 1e-4 1e-3 --held-out 20 --betas 50 "
    "--variants S-FC S-FC-beta50",
    "betalasso-scaling": "--trained 1 --counted 15 --sides 32 --seeds 0 1",
    "from-scratch": f"{LITTLE} --pad 0 --sharing 1 --seeds 3",
    "lrlc-sleeping": "--ranks 1 9 --seeds 0 --variants lc ws1",
    "brains": "--variants conv --seeds 3 5",
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With scores that need no data of monkeys, but depend on the weights."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    nan = float("nan")

    def scored(candidate: Any, *_: object) -> list[Score]:
        module = getattr(candidate, "module", None)
        parameters = module.parameters() if isinstance(module, nn.Module) else ()
        raw = float(sum(p.abs().sum() for p in parameters))
        return [Score(candidate.name, "V4", "x", "pls", raw, 0.1, 0.0, 1.0, nan, nan, nan, 9)]

    monkeypatch.setattr(brains, "find_benchmarks", lambda data: [])
    monkeypatch.setattr(brains, "scored", scored)


def reproduce(capsys: pytest.CaptureFixture[str], name: str, *words: str) -> dict[str, Any]:
    code = main(["reproduce", name, *EXPERIMENTS[name].split(), *SMALL.split(), *words])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_finished_experiment_goes_on(capsys: pytest.CaptureFixture[str], name: str) -> None:
    first = reproduce(capsys, name)
    assert not list(Path("here").rglob("*.checkpoints"))
    stamps = {path: path.stat().st_mtime_ns for path in Path("here").rglob("*.h5")}
    assert reproduce(capsys, name, "--resume") == first
    assert {path: path.stat().st_mtime_ns for path in Path("here").rglob("*.h5")} == stamps
    again = reproduce(capsys, name, "--overwrite")  # what was derived belongs to the old runs
    assert again.keys() == first.keys()


def test_what_depends_on_other_options_is_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    name = "lrlc-sleeping"
    reproduce(capsys, name)
    words = [*EXPERIMENTS[name].replace("--ranks 1 9", "--ranks 2").split(), *SMALL.split()]
    assert main(["reproduce", name, *words, "--resume"]) == 2
    assert "has no checkpoint any more" in capsys.readouterr().err
    reproduce(capsys, name, "--overwrite", "--keep-checkpoints")
    assert main(["reproduce", name, *words, "--resume", "--keep-checkpoints"]) == 0
    assert list(Path("here").glob("*.checkpoints"))


def test_seeds_of_brains_are_those_that_were_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    found = reproduce(capsys, "brains")
    with Path(found["table"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows if row["model"] == "conv"] == ["3", "5"]
    assert [row["seed"] for row in rows if row["model"] == "pixels"] == [""]


def test_a_point_of_a_sweep_whose_worker_died_runs_again(tmp_path: Path) -> None:
    study = find_study(["betalasso-scaling"])
    config = {"dataset": "digits-translated", "epochs": 1, "subset": 60, "batch_size": 20,
              "trained": 1, "counted": 15, "sides": 32, "device": "cpu"}  # fmt: skip
    first = study.run(config, tmp_path / "point")
    assert str(study.run(config, tmp_path / "point")) == str(first)
