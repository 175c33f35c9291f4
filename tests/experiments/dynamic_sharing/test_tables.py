"""Experiments that train networks, small: what they build, print and leave behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenarios import assert_refused

from experiments.common.options import TrainingOptions
from experiments.common.variants import Outcome, run_variants
from experiments.dynamic_sharing import digits, table1, table2
from experiments.dynamic_sharing.published import published
from experiments.dynamic_sharing.sleep import SleepStudy, one_sleep
from experiments.dynamic_sharing.sleep import variants as sleep_variants
from neurosim.cli import main
from neurosim.errors import InvalidArgument
from neurosim.recording import RunReader, Status
from neurosim.sleep import Circuit, Instant
from neurosim.training import SleepSettings

OPTIONS = TrainingOptions(device="cpu")
QUICK = [
    "--epochs",
    "1",
    "--subset",
    "60",
    "--test-subset",
    "50",
    "--device",
    "cpu",
    "--quiet",
    "--json",
]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main([*arguments, *QUICK]) == 0
    return json.loads(capsys.readouterr().out)


def test_published_numbers() -> None:
    """Cells that the paper's text repeats, and sums that catch a shifted column."""
    cells = published()
    assert cells["cifar10", 4, "conv", "top1"] == 88.3
    assert cells["cifar10", 4, "ws10", "top1"] == 85.1
    assert cells["tinyimagenet", 8, "ws100", "top5"] == 64.8
    assert cells["cifar100", 0, "lc", "top1"] == 34.9
    assert cells["cifar10", 8, "conv", "top1_spread"] == 0.9
    assert cells["tinyimagenet", 0, "conv", "lr"] == 0.005
    assert cells["imagenet", None, "ws1-conv1", "top1"] == 63.6
    # Sec. B.2: "from about 2% for weight sharing every 1-10 iterations, to about 5%".
    gains = [
        cells["imagenet", None, f"{n}-conv1", "top1"] - cells["imagenet", None, n, "top1"]
        for n in ("ws1", "ws10", "ws100", "lc")
    ]
    assert gains == pytest.approx([1.9, 2.3, 4.6, 5.5])
    for padding in (0, 4, 8):  # every accuracy has its spread, its rate and its decay
        rows = {(k.dataset, k.variant) for k in cells if k.padding == padding}
        assert len(rows) == 3 * (5 if padding == 0 else 8)
        for dataset, variant in rows:
            assert {k.quantity for k in cells if k[:3] == (dataset, padding, variant)} >= {
                "top1",
                "top1_spread",
                "lr",
                "weight_decay",
            }


def test_table1_is_the_papers() -> None:
    rows = {v.name: v for v in table1.variants(table1.Table1(), OPTIONS)}
    assert list(rows) == [
        "conv", "lc", "reps4", "reps8", "reps16", "longer4", "longer8", "ws1", "ws10", "ws100",
    ]  # fmt: skip
    for row in rows.values():
        assert row.settings.optimisation.batch_size == 512
        assert row.settings.data.pad == 4
        row.settings.check()
    assert rows["conv"].settings.network.connectivity == "conv"
    assert rows["conv"].settings.optimisation.lr == 1e-2
    assert rows["reps16"].settings.data.repetitions == 16
    assert rows["longer8"].settings.optimisation.epochs == 1600
    assert rows["longer8"].settings.optimisation.lr == 1e-3 / 8
    sleep, schedule = rows["ws10"].settings.sleep.build()  # type: ignore[misc]
    assert isinstance(sleep.mechanism, Instant)
    assert (schedule.n, schedule.phase) == (10, "epoch")  # type: ignore[union-attr]
    assert rows["ws10"].published["top1"] == 85.1
    unpadded = table1.variants(table1.Table1(padding=0), TrainingOptions(dataset="cifar100"))
    assert [v.name for v in unpadded] == ["conv", "lc", "ws1", "ws10", "ws100"]
    assert unpadded[-1].settings.optimisation.lr == 1e-4
    other = table1.variants(table1.Table1(), TrainingOptions(dataset="mnist"))
    assert other[0].published["top1"] is None


def test_paddings_are_the_papers() -> None:
    with pytest.raises(InvalidArgument, match="--padding must be 0, 4 or 8, got 2"):
        table1.variants(table1.Table1(padding=2), OPTIONS)


def test_table2_and_13() -> None:
    rows = table2.variants(table2.Table2(), OPTIONS)
    assert [v.name for v in rows] == ["conv", "lc", "ws1", "ws10", "ws100"]
    assert all(v.settings.network.width == 0.5 for v in rows)
    assert [v.settings.optimisation.lr for v in rows] == [1e-3, 5e-4, 1e-3, 5e-4, 5e-4]
    first = table2.variants(table2.Table2(conv_first=True), OPTIONS)
    assert {v.settings.network.conv_first for v in first} == {1}
    assert first[1].published == {"top1": 63.6, "top5": 84.5}


def test_a_table_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    found = command(capsys, *["reproduce", "digits", "--seeds", "0", "1", "--out", "here"])
    assert [v["variant"] for v in found["variants"]] == ["conv", "lc", "ws1", "ws10", "circuit10"]
    assert set(found["recovered"]) == {"ws1", "ws10", "circuit10"}
    with Path(found["table"]).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10
    for row in rows:
        with RunReader(f"here/{row['variant']}-seed{row['seed']}.h5") as run:
            assert run.status is Status.COMPLETE
            assert run.seed == int(row["seed"])
            assert run["top1"][-1] == pytest.approx(float(row["top1"]), rel=1e-5)
            assert run.config["data"]["subset"] == 60
    for figure in found["figures"]:
        assert Path(figure).stat().st_size > 1000


def test_resume_keeps_what_is_finished(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "digits", "--seeds", "0", "--variants", "conv", "lc", "--out", "here"]
    first = command(capsys, *words)
    stamp = Path("here/conv-seed0.h5").stat().st_mtime_ns
    Path("here/lc-seed0.h5").unlink()
    assert not list(Path("here").glob("*.checkpoints"))
    again = command(capsys, *words, "--resume")
    assert Path("here/conv-seed0.h5").stat().st_mtime_ns == stamp
    drop = [
        [{k: v for k, v in row.items() if k != "minutes"} for row in found["variants"]]
        for found in (first, again)
    ]
    assert drop[0] == drop[1]
    assert main([*words, *QUICK]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*words, *QUICK, "--resume", "--epochs", "2"]) == 2
    assert "--epochs was 1 in the run to resume, got 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("reproduce digits --variants conf", "did you mean 'conv'?"),
        ("reproduce digits --seeds 1 1", "--seeds must be without repetitions"),
        ("reproduce digits --resume", "--resume needs --out"),
        ("reproduce digits --dataset cifar11", "cifar10"),
        ("reproduce digits --batch-size 0", "--batch-size must be >= 1, got 0"),
        ("reproduce sleep --alphas 100 --dt 1 --presentations 10", "response.dt must be < "),
        ("train --sleep instant --connectivity conv", "--sleep must be none"),
        ("train --sleep instant --alpha 3", "--alpha means nothing to --sleep instant"),
        ("train --every 1", "--every means nothing to --sleep none"),
        ("train --scaling layer", "--scaling means nothing to --sleep none"),
        ("train --lr 0", "--lr must be finite and > 0, got 0"),
        ("train --dataset nowhere.npz", "nowhere.npz"),
        ("train --device cuda:9", "--device must be"),
        ("train --model resnet20 --width 2", "--width must be 1"),
    ],
)
def test_bad_input_is_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(words, message, capsys)


def test_the_sleep_study_covers_its_grid() -> None:
    study = SleepStudy(alphas=(10.0, 100.0), presentations=(50, 200), scalings=("none", "layer"))
    rows = sleep_variants(study, OPTIONS)
    assert len(rows) == len({v.name for v in rows}) == 2 + 2 * 2 * 2
    sleeps = {v.name: v.settings.sleep.build()[0] for v in rows[1:]}  # type: ignore[index]
    assert isinstance(sleeps["instant"].mechanism, Instant)
    scaled = sleeps["alpha100-200-scale_layer"]
    assert isinstance(scaled.mechanism, Circuit)
    assert scaled.scaling == "layer"
    assert scaled.mechanism.response.alpha == 100  # type: ignore[union-attr]
    factors = {v.name: one_sleep(Outcome(v, ())) for v in rows if v.name.startswith("alpha")}
    # Longer sleeps leave less of deviations; stronger inhibition leaves more of the mean.
    assert factors["alpha10-200"][1] < factors["alpha10-50"][1] < 1
    assert factors["alpha10-200"][2] < factors["alpha100-200"][2] < 1
    assert factors["alpha10-200"][0] == pytest.approx(0.5)


def test_recovery_of_known_numbers() -> None:
    class Fake:
        def __init__(self, name: str, values: list[float]) -> None:
            self.variant = type("V", (), {"name": name})()
            self.values = np.array(values)

        def last(self, name: str) -> np.ndarray:
            return self.values

    rows = [Fake("conv", [0.9, 0.9, 0.9]), Fake("lc", [0.3, 0.3, 0.3]), Fake("x", [0.6, 0.7, 0.5])]
    share, low, high = digits.recovery(rows)["x"]  # type: ignore[arg-type]
    assert share == pytest.approx(0.5)
    # With fixed ends the ratio is linear in x: a plain t interval, 4.303 std / sqrt(3) / 0.6.
    assert high - share == pytest.approx(4.3027 * 0.1 / 3**0.5 / 0.6, rel=1e-4)
    assert share - low == pytest.approx(high - share)


def test_variants_share_a_folder_by_name() -> None:
    options = TrainingOptions(
        epochs=1, subset=60, test_subset=20, out=Path("x"), quiet=True, device="cpu"
    )
    rows = digits.variants(options)
    _, outcomes = run_variants("digits", rows[:1], options, (3,))
    assert [run.seed for run in outcomes[0].runs] == [3]
    assert np.isnan(outcomes[0].snr)  # a convolutional network has none


@pytest.mark.parametrize(
    ("sleep", "message"),
    [
        ({"sleep": "instant", "every": 3}, "--every must be left out: rows ws1, ws10 and ws100"),
        ({"sleep": "instant", "unit": "epochs"}, "--unit must be left out"),
        ({"sleep": "instant", "at_steps": (3,)}, "--at-steps must be left out"),
        ({"sleep": "none"}, "--sleep must be a mechanism; --variants conv lc"),
    ],
)
def test_rows_say_when_networks_sleep(sleep: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        table1.variants(table1.Table1(sleep=SleepSettings(**sleep)), OPTIONS)
    with pytest.raises(InvalidArgument, match=message):
        table2.variants(table2.Table2(sleep=SleepSettings(**sleep)), OPTIONS)
