"""The experiments on low-rank local connectivity, small: what they train, choose and print."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from experiments.common.options import TrainingOptions
from experiments.common.variants import Outcome, Variant
from experiments.low_rank import flops, table1, table2, table3
from experiments.low_rank.published import published
from experiments.low_rank.study import ROWS, SPLITS, Found, Study, chosen
from neurosim.cli import main
from neurosim.errors import InvalidArgument

OPTIONS = TrainingOptions(device="cpu")
SMALL = {"epochs": 1, "subset": 40, "test-subset": 30, "batch-size": 20, "device": "cpu"}
QUICK = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
QUICK += ["--quiet", "--json"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


def command(capsys: pytest.CaptureFixture[str], name: str, *arguments: str) -> dict[str, Any]:
    assert main(["reproduce", name, *QUICK, *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_published_numbers() -> None:
    """Cells that Tables 1 to 3 repeat, of all 20 rows, three sets and three parts."""
    cells = published()
    assert len(cells) == 20 * 3 * 3
    assert {key.row for key in cells} <= set(ROWS)
    for (dataset, row), top1 in {
        ("cifar10", "conv"): 78.80,
        ("cifar10", "bias-1"): 80.94,
        ("cifar10", "low-rank-3"): 82.70,
        ("cifar10", "input-dependent-3"): 84.91,
        ("celeba", "low-rank-3"): 97.73,
        ("mnist", "wide-3"): 99.10,
        ("mnist", "local-1"): 98.74,
        ("celeba", "coord"): 97.40,
    }.items():
        assert cells[dataset, row, "test"] == top1
    assert cells["cifar10", "conv", "train"] == 97.47
    assert cells["cifar10", "fc", "validation"] == 68.36


def test_the_protocol() -> None:
    for dataset, validation in (("mnist", 5_000), ("cifar10", 5_000), ("celeba", 19_867)):
        settings = Study().base(TrainingOptions(dataset=dataset, device="cpu"))
        wake = settings.optimisation
        assert (wake.optimizer, wake.lr, wake.batch_size) == ("adam", 1e-2, 512)
        assert (wake.epochs, wake.warmup, wake.lr_schedule) == (150, 10, "cosine")
        assert (wake.weight_decay, wake.label_smoothing) == (0, 0)
        assert (settings.data.validation, settings.data.pad, settings.data.flip) == (
            validation, 0, False,
        )  # fmt: skip
        assert settings.record.splits


def test_rows_of_the_tables() -> None:
    study = Study(ranks=(2, 4))
    names = [v.name for v in study.variants(table1.ROWS, OPTIONS)]
    assert names[:5] == ["conv", "bias-1", "bias-2", "bias-3", "bias-all"]
    assert names[5:9] == ["low-rank-1-k2", "low-rank-1-k4", "low-rank-2-k2", "low-rank-2-k4"]
    assert len(names) == 13
    everything = {*table1.ROWS, *table2.ROWS, *table3.ROWS}
    assert {"coord", "local-1", "local-2", "local-3", "wide-3", "input-dependent-3"} <= everything
    for variant in study.variants(tuple(ROWS), OPTIONS):
        variant.settings.check()
    with pytest.raises(InvalidArgument, match="did you mean 'low-rank-3'"):
        Study(rows=("lowrank-3",)).variants(table1.ROWS, OPTIONS)
    with pytest.raises(InvalidArgument, match="--ranks must be"):
        Study(ranks=(0,)).variants(table1.ROWS, OPTIONS)
    with pytest.raises(InvalidArgument, match="--validation must be given for svhn"):
        Study().base(TrainingOptions(dataset="svhn", device="cpu"))


def found(name: str, validation: list[float], test: list[float]) -> Found:
    class Run:
        def __init__(self, seed: int, splits: dict[str, float]) -> None:
            self.seed, self.splits = seed, splits

    parts = zip(validation, test, strict=True)
    runs = [Run(s, {"train": 1.0, "validation": v, "test": t}) for s, (v, t) in enumerate(parts)]
    variant = Variant(name, Study().base(OPTIONS))
    return Found(Outcome(variant, tuple(runs)))  # type: ignore[arg-type]


def test_the_rank_is_chosen_on_validation_images() -> None:
    few, more = found("wide-3-k2", [0.7, 0.9], [0.9, 0.9]), found("wide-3-k4", [0.8, 0.9], [0, 0.2])
    conv = found("conv", [0.5], [0.6])
    assert [one.name for one in chosen([conv, few, more])] == ["conv", "wide-3-k4"]
    assert (more.row, more.rank, conv.row, conv.rank) == ("wide-3", 4, "conv", None)
    assert (few.mean("validation"), more.mean("test")) == (pytest.approx(80), pytest.approx(10))
    values = 100 * np.array([0.7, 0.9])
    assert few.error("validation") == pytest.approx(values.std(ddof=1) / np.sqrt(2))
    assert conv.text("test") == "60.00"


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = ("--rows", "conv", "low-rank-3", "--ranks", "2", "3", "--seeds", "0", "1")
    result = command(capsys, "lrlc-table1", *rows)
    assert set(result["networks"]) == {"conv", "low-rank-3-k2", "low-rank-3-k3"}
    assert len(result["chosen"]) == 2
    for accuracies in result["networks"].values():
        assert list(accuracies) == list(SPLITS)
        assert all(len(values) == 2 for values in accuracies.values())
    with Path(result["table"]).open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * 3
    assert sum(int(line["chosen"]) for line in lines) == 2 * 3
    again = command(capsys, "lrlc-table1", *rows, "--resume", "--out", "runs/lrlc-table1")
    assert again["networks"] == result["networks"]


@pytest.mark.parametrize(
    ("name", "rows", "networks"),
    [
        ("lrlc-rank-sweep", ["conv", "bias-3", "low-rank-3"], 4),
        ("lrlc-init", ["low-rank-3"], 4),
        ("lrlc-factorized", ["low-rank-3"], 4),
        ("lrlc-params", ["low-rank-3", "wide-3"], 4),
    ],
)
def test_a_figure(
    capsys: pytest.CaptureFixture[str], name: str, rows: list[str], networks: int
) -> None:
    result = command(capsys, name, "--rows", *rows, "--ranks", "2", "3", "--seeds", "0")
    assert len(result["networks"]) == networks
    assert all(Path(path).exists() for path in result["figures"])
    if name == "lrlc-params":
        at = {network: one["at"] for network, one in result["networks"].items()}
        assert at["wide-3-k3"] > at["wide-3-k2"] > 9 * 64 * 64
        assert abs(at["wide-3-k3"] / at["low-rank-3-k3"] - 1) < 0.02
    if name == "lrlc-factorized":
        assert {"low-rank-3-full-k2", "low-rank-3-factorized-k3"} <= set(result["networks"])


def test_flops_are_counted_as_they_are_spent(tmp_path: Path) -> None:
    """Against a count by hand; the converted network computes as much as the convolutional one."""
    found: dict[str, Any] = {}
    for rank in (2, 4):
        for name, model in flops.networks(rank, 10).items():
            x = torch.randn(4, 3, 10, 10)
            found[name, rank] = flops.cost(name, rank, model, x)
    product = 2 * 9 * 64
    layers = (product * 3 * 8 * 8, product * 64 * 6 * 6, product * 64 * 4 * 4)
    conv = (sum(layers) + 2 * 64 * 10) / 1e6
    assert found["conv", 2].inference == pytest.approx(conv)
    assert found["low-rank, converted", 4].inference == pytest.approx(conv)
    for rank in (2, 4):
        more = (rank - 1) * layers[2] / 1e6
        assert found["low-rank", rank].inference == pytest.approx(conv + more)
        assert found["wide", rank].inference == pytest.approx(conv + more, rel=0.01)
        assert found["input-dependent", rank].inference == pytest.approx(conv + more, rel=0.02)
        assert found["input-dependent", rank].inference > found["low-rank", rank].inference
        assert found["low-rank", rank].memory > 0
    with pytest.raises(InvalidArgument, match="--ranks"):
        flops.Costs(ranks=()).check()


def test_how_low_rank_sleeping_networks_are(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--variants", "lc", "ws10", "--seeds", "0", "--ranks", "1", "9", "300")
    result = command(capsys, "lrlc-sleeping", *arguments)
    lc, slept = result["networks"]
    assert (lc["variant"], slept["variant"]) == ("lc", "ws10")
    assert slept["error"]["9"] < 1e-6 < 0.1 < lc["error"]["9"]  # nine grids of a 3x3 layer
    assert slept["effective_rank"] <= 9 < lc["effective_rank"]
    for one in (lc, slept):
        assert one["error"]["300"] < 1e-6
        assert one["top1"]["300"] == one["full"]
    assert slept["top1"]["9"] == slept["full"]
