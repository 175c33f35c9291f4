"""Searches on a validation split, small: grids, a sampler, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from scenarios import assert_refused

from experiments.commands import tune
from experiments.common.options import TrainingOptions
from neurosim.cli import main
from neurosim.errors import InvalidArgument
from neurosim.recording import RunReader

WORDS = "--epochs 1 --subset 60 --test-subset 50 --device cpu --quiet --json"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main([*arguments, *WORDS.split()]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tune --padding 2 --dataset cifar10", "--padding"),
        ("tune --processes 2", "--processes must be left out: --workers says"),
    ],
)
def test_bad_searches_are_refused_in_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(words, message, capsys)


def test_paddings_are_those_of_the_table() -> None:
    with pytest.raises(InvalidArgument, match="--padding must be 0, 4 or 8, got 2"):
        tune.variants(tune.Tune(padding=2), TrainingOptions(device="cpu"))


def test_tune_finds_the_best_of_a_grid(capsys: pytest.CaptureFixture[str]) -> None:
    words = "tune --dataset digits-translated --lrs 1e-2 1e-4 --weight-decays 1e-2 --validation 60"
    pytest.importorskip("distributed", reason="needs the extra [cluster]")
    found = command(capsys, *words.split(), "--variants", "conv", "--workers", "1")
    scores = {row["variant"]: row["top1_mean"] for row in found["variants"]}
    assert set(scores) == {"conv-lr0.01-wd0.01", "conv-lr0.0001-wd0.01"}
    assert scores[found["best"]["conv"]] == max(scores.values())
    files = sorted(Path(found["run_file"], "runs").glob("*.h5"))
    assert len(files) == 2
    with RunReader(files[0]) as run:
        assert run.config["data"]["validation"] == 60
    for dataset, conv, local, epochs in (
        ("cifar10", 4 * 2, 4 * 2, 200), ("tinyimagenet", 3 * 2, 2 * 2, 50), ("imagenet", 6, 4, 20),
    ):  # fmt: skip
        rows = tune.variants(tune.Tune(), TrainingOptions(dataset=dataset))
        assert sum(v.name.startswith("conv-") for v in rows) == conv
        assert sum(v.name.startswith("lc-") for v in rows) == local
        assert {v.settings.optimisation.epochs for v in rows} == {epochs}
        assert {v.settings.data.validation for v in rows} <= {5_000, 10_000}
    with pytest.raises(InvalidArgument, match="variants"):
        tune.variants(tune.Tune(), TrainingOptions(dataset="digits-translated", variants=("x",)))


def test_a_sampled_search_goes_on_where_it_was_cut_short(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    optuna = pytest.importorskip("optuna", reason="needs the extra [cluster]")
    small = "--validation 60 --subset 60 --test-subset 60 --epochs 2 --variants conv --workers 1"
    words = ["tune", "--dataset", "digits-translated", "--lrs", "1e-2", "1e-4", *small.split()]
    words += ["--sampler", "random", "--out", str(tmp_path / "t")]
    first = command(capsys, *words, "--samples", "1")
    assert len(first["variants"]) == 1
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "t/optuna.jsonl"))
    )
    begun = optuna.load_study(study_name="conv", storage=storage).ask()  # then came a kill
    rate = begun.suggest_float("lr", 1e-4, 1e-2, log=True)
    begun.suggest_float("weight_decay", 1e-4, 1e-2, log=True)
    found = command(capsys, *words, "--samples", "3")
    names = [row["variant"] for row in found["variants"]]
    assert len(names) == len(set(names)) == 3
    assert names[0] == first["variants"][0]["variant"]
    assert names[1].startswith(f"conv-lr{rate:g}-")
    trials = optuna.load_study(study_name="conv", storage=storage).trials
    assert [trial.value for trial in trials] == pytest.approx(
        [row["top1"][0] / 100 for row in found["variants"]]
    )
    assert all(1e-4 <= trial.params["lr"] <= 1e-2 for trial in trials)
    assert len(list((tmp_path / "t/runs").glob("*.h5"))) == 3
