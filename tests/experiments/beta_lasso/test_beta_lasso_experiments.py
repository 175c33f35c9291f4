"""beta-LASSO's experiments, small: what they build, choose, print and leave behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.beta_lasso import filters, kernels, nonzeros, scaling, table1, table2
from experiments.beta_lasso.measures import accuracy, mean_with_interval
from experiments.beta_lasso.published import cells, published
from experiments.beta_lasso.setting import Lasso, first_and_last
from experiments.common.options import TrainingOptions
from experiments.common.variants import Outcome
from neurosim.cli import main
from neurosim.errors import InvalidArgument
from neurosim.recording import RunReader

SMALL = ["--dataset", "digits-translated", "--batch-size", "20", "--subset", "60",
         "--test-subset", "50", "--device", "cpu", "--quiet", "--json"]  # fmt: skip
SIZE = ["--channels", "2", "--kernel", "4", "--epochs", "2"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


def reproduce(capsys: pytest.CaptureFixture[str], name: str, *words: str) -> dict:
    assert main(["reproduce", name, *words, *SMALL, "--out", "here"]) == 0
    return json.loads(capsys.readouterr().out)


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_published_numbers() -> None:
    """Cells that the paper's abstract and text repeat."""
    assert cells("cifar10", "S-FC beta50")["top1_4000"] == 85.19
    assert cells("cifar100", "S-FC beta50")["top1_4000"] == 59.56
    assert cells("svhn", "S-FC beta50")["top1_4000"] == 94.07
    assert cells("cifar10", "S-FC") == {"top1_400": 72.77, "top1_4000": 78.63}
    assert cells("svhn", "3-FC")["top1_4000"] == 86.02
    assert len(published()) == 7 * 6 + 3 * 3
    assert cells("mnist", "S-FC") == {"top1_400": None, "top1_4000": None}


def test_settings_are_those_that_the_documentation_says() -> None:
    base = Lasso().base(TrainingOptions(device="cpu"))
    wake = base.optimisation
    assert (wake.optimizer, wake.batch_size, wake.lr, wake.lr_schedule) == (
        "sgd", 512, 0.1, "cosine",
    )  # fmt: skip
    assert (wake.momentum, wake.weight_decay, wake.epochs) == (0, 0, 400)
    assert (base.data.pad, base.data.flip) == (4, True)
    house_numbers = Lasso().base(TrainingOptions(device="cpu", dataset="svhn")).data
    assert (house_numbers.pad, house_numbers.flip) == (0, False)
    lasso = Lasso().lasso(base).optimisation
    assert (lasso.optimizer, lasso.l1, lasso.l1_first, lasso.beta) == (
        "beta-lasso", 2e-5, 1e-4, 50,
    )  # fmt: skip
    lasso.check()


def test_table1_has_the_papers_rows() -> None:
    found = table1.variants(Lasso(), TrainingOptions(device="cpu"))
    assert [v.name for v in found] == [
        "D-CONV", "D-LOCAL", "D-FC", "S-CONV", "S-LOCAL", "S-FC", "3-FC",
    ]  # fmt: skip
    for variant in found:
        variant.settings.check()
        assert variant.published["top1_400"] is not None
    assert [v.settings.network.channels for v in found[:6]] == [15] * 3 + [150] * 3


def test_table2_chooses_penalties_on_images_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--grid", "1e-4", "3e-1", "--held-out", "30", "--betas", "50", "--seeds", "0", "1"]
    found = reproduce(capsys, "betalasso-table2", *words, *SIZE, "--variants", "S-FC",
                      "S-FC-beta50")  # fmt: skip
    assert found["chosen"] == {"50.0": 1e-4}  # 0.3 leaves nothing
    with RunReader("here/search/beta50-l1_0.0001-seed0.h5") as run:
        assert run.config["data"]["validation"] == 30
    left = rows("here/betalasso-table2-weights.csv")
    assert len(left) == 2 * 2 * 3  # variants, seeds, layers
    for row in left:
        with RunReader(f"here/{row['variant']}-seed{row['seed']}.h5") as run:
            layer = [str(n) for n in run["weight_layer"]].index(row["layer"])
            assert run["nonzeros"][-1][layer] == int(row["nonzeros"]) <= int(row["parameters"])
    bounds = found["bounds"]
    total = sum(int(row["parameters"]) for row in left[:3])
    assert bounds["S-FC"]["total"] == bounds["S-FC"]["nonzeros"] == total
    assert bounds["S-FC-beta50"]["theorem2"] < bounds["S-FC"]["theorem2"]
    assert not list(Path("here").glob("*.checkpoints"))


def test_nonzeros_beside_relatives(capsys: pytest.CaptureFixture[str]) -> None:
    found = reproduce(capsys, "betalasso-nonzeros", *SIZE, "--l1", "1e-3", "--keep-checkpoints")
    # 16 x 16 pixels to 8 x 8 positions with 2 channels, kernel 4: 32 weights, or 64 times that
    assert found["relatives"]["S-CONV"] == [32, 128 * 48, 480]
    assert found["relatives"]["S-LOCAL"] == [32 * 64, 128 * 48, 480]
    assert found["weights"][0]["parameters"] == [256 * 128, 128 * 48, 480]
    path = Path("here/S-FC-beta50-seed0.h5")  # its network was kept
    test = accuracy(path, None, "test")
    assert test.images == 50
    assert 100 * test.top1 == pytest.approx(found["variants"][0]["top1"][0])
    assert accuracy(path, None, "train").images == 60
    assert len(found["figures"]) == 4
    assert all(Path(figure).stat().st_size > 1000 for figure in found["figures"])


def test_filters_with_pixels_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    reproduce(capsys, "betalasso-filters", *SIZE, "--seeds", "0", "--variants", "S-FC-sgd-permuted")
    options = TrainingOptions(device="cpu", dataset="digits-translated")
    names = [variant.name for variant in filters.variants(Lasso(2, 4), options)]
    assert names == [f"{n}{p}" for p in ("", "-permuted") for n in ("S-CONV", "S-FC-sgd",
                                                                    "S-FC-beta50")]  # fmt: skip
    with RunReader("here/S-FC-sgd-permuted-seed0.h5") as run:
        assert run.config["network"]["permute"] is True
        assert run["locality"].shape == (2, 1, 3, 3)
    shown = filters._filters(
        Outcome.read(_variant("S-FC-sgd-permuted"), [Path("here/S-FC-sgd-permuted-seed0.h5")])
    )
    assert shown.shape == (128, 1, 16, 16)


def _variant(name: str):
    options = TrainingOptions(device="cpu", dataset="digits-translated", epochs=2)
    return next(v for v in filters.variants(Lasso(2, 4), options) if v.name == name)


def test_kernels_of_any_odd_size(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--kernels", "1", "5", "--width", "0.03", "--epochs", "1"]
    found = reproduce(capsys, "betalasso-kernels", *words)
    assert [v["variant"] for v in found["variants"]] == [
        "1x1-sgd", "1x1-beta50", "5x5-sgd", "5x5-beta50",
    ]  # fmt: skip
    with pytest.raises(InvalidArgument, match="--kernels must be one or more odd sizes"):
        kernels.Kernels((4,)).check()


def test_scaling_counts_and_trains(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--trained", "1", "2", "--counted", "15", "150", "--sides", "32", "--epochs", "1"]
    found = reproduce(capsys, "betalasso-scaling", *words)
    counts = {row["network"]: row for row in rows("here/betalasso-scaling-parameters.csv")}
    assert int(counts["shallow-dense"]["alpha 150, side 32"]) // 10**6 == 256
    assert len(found["fitted"]) == 6
    for name, count, train, test in found["fitted"]:
        assert count > 0
        assert 0 <= train <= 100
        assert 0 <= test <= 100
        assert name.rpartition("-")[0] in ("D-CONV", "S-CONV", "3-FC")


def test_growth_with_the_image() -> None:
    """Fourth power of the side for fully connected networks, square for the others."""
    for kind, power in (("dense", 4), ("local", 2), ("conv", 2)):
        sizes = [scaling.parameters("shallow", kind, 4, side) for side in (32, 64, 128)]
        growth = (sizes[2] - sizes[1]) / (sizes[1] - sizes[0])
        assert np.log2(growth) == pytest.approx(power, abs=0.35)


def test_from_scratch_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--epochs", "3", "--sharing", "2", "--seeds", "0", "1"]
    lasso = ["--channels", "2", "--kernel", "4", "--pad", "0", "--l1", "1e-4", "--first", "5"]
    found = reproduce(capsys, "from-scratch", *words, *lasso)
    names = [variant["variant"] for variant in found["variants"]]
    assert names == ["S-CONV", "S-FC-sgd", "S-FC-lasso", "learned-awake", "learned-sleeps",
                     "S-LOCAL-awake", "S-LOCAL-sleeps"]  # fmt: skip
    for conversion in found["conversions"]:
        assert conversion["arranged"] > conversion["unordered"]
        assert 0 < conversion["connections"] < 1
    with RunReader("here/learned-sleeps-seed0.h5") as run:
        assert len(run["sleep"]) == 2 * 3  # after every batch
        left, size = int(run["nonzeros"][-1][0]), int(run["parameters"][0])
        share = found["conversions"][0]["connections"]
        assert left / size <= share + 1e-6  # what was severed stays severed
    assert not list(Path("here").glob("*.checkpoints"))


def test_snapshots_at_the_start_and_the_end() -> None:
    options = TrainingOptions(
        device="cpu", dataset="digits-translated", subset=50, batch_size=20, epochs=4
    )
    assert first_and_last(Lasso().base(options)).record.snapshot_every == 12
    assert nonzeros.variants(Lasso(2), options)[0].settings.record.snapshot_every == 12


def test_intervals() -> None:
    assert mean_with_interval([0.5]) == "0.500"
    # t with 2 degrees of freedom: 4.303 x 1 / sqrt(3)
    assert mean_with_interval([1.0, 2.0, 3.0], 2) == "2.00 ± 2.48"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["betalasso-table2", "--betas", "-1"], "--betas must be >= 0"),
        (["betalasso-table2", "--held-out", "0"], "--held-out must be >= 1"),
        (["betalasso-nonzeros", "--l1", "-1"], "--l1 must be finite and >= 0"),
        (["betalasso-nonzeros", "--first", "-1"], "--first must be >= 0"),
        (["betalasso-scaling", "--fit", "101"], "--fit must be above 0 and at most 100"),
        (["from-scratch", "--sharing", "0"], "--sharing must be >= 1"),
    ],
)
def test_bad_input(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert main(["reproduce", *words, *SMALL]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_table2_rows() -> None:
    options = TrainingOptions(device="cpu", dataset="digits-translated")
    found = table2.variants(table2.Table2(), Lasso(2), options, {50.0: 7e-5})
    assert [v.name for v in found][-4:] == ["S-FC", "S-FC-beta0", "S-FC-beta1", "S-FC-beta50"]
    assert [v.settings.optimisation.l1 for v in found][-4:] == [0, 2e-5, 2e-5, 7e-5]
