"""Studies of free networks, small: grids, what they print and leave, and what is published."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scenarios import assert_refused

from experiments.common.registry import EXPERIMENTS
from experiments.free_conv import fig_c, routes
from experiments.free_conv.protocol import STRENGTHS, Cell, FreeOptions, cells, settings_of
from experiments.free_conv.published import published
from neurosim.cli import main
from neurosim.errors import InvalidArgument
from neurosim.recording import RunReader, Status

# The header of the published files of results.
HEADER = (
    "fold,epoch,model,aug_type,aug,vcp,loss,val_loss,acc,val_acc,translation,noise,edge_noise,"
    "rotation,swap,dist_1,dist_4,cos_1,cos_4"
)
QUICK = (
    "--dataset digits-translated --epochs 2 --subset 60 --test-subset 40 --batch-size 6 "
    "--device cpu --quiet --json"
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)


def command(capsys: pytest.CaptureFixture[str], words: str) -> dict:
    assert main(["reproduce", *words.split(), *QUICK.split()]) == 0
    return json.loads(capsys.readouterr().out)


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open() as file:
        return list(csv.DictReader(file))


def test_published_numbers() -> None:
    """Cells that the text and the issue of the half-integer repeat; all are counts of images.

    Validation accuracies are medians of counts out of 14,000 and 12,000 images; translated ones
    leave the last batch out: 13,824 and 11,904.
    """
    cells_ = published()
    assert cells_["mnist", "cnn", "translation", 0.0, "val_acc"] == 0.990536
    assert cells_["cifar10", "fcn", "translation", 0.2, "val_acc"] == 0.7315
    assert cells_["mnist", "fcn", "noise", 0.99, "translation"] == 0.27235
    assert cells_["cifar10", "cnn", "rotation", 0.1, "translation"] == 0.4866
    assert len(cells_) == 2 * 66 + 3 * 88 + 2
    images = {
        ("mnist", "val_acc"): 14_000, ("cifar10", "val_acc"): 12_000,
        ("mnist", "translation"): 13_824, ("cifar10", "translation"): 11_904,
    }  # fmt: skip
    for key, value in cells_.items():
        if (key.dataset, key.quantity) in images:
            count = 2 * images[key.dataset, key.quantity] * value  # of a median: maybe a half
            digits = 5 if key.aug_type != "translation" else 6
            assert abs(count - round(count)) <= 1.1 * 2 * images[key.dataset, key.quantity] * (
                0.5 * 10**-digits
            )
        if key.aug == 0 and key.aug_type not in ("translation",):
            same = cells_[key._replace(aug_type="translation")]
            assert value == pytest.approx(same, abs=6e-6)


def test_cells_are_the_papers() -> None:
    options = FreeOptions(device="cpu")
    table = cells(("mnist",), ("cnn", "fcn"), ("translation",), options)
    assert len(table) == 22
    assert STRENGTHS == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
    mnist = settings_of(Cell("mnist", "fcn", "translation", 0.2), options)
    assert (mnist.optimisation.lr, mnist.optimisation.batch_size) == (1e-3, 256)
    assert (mnist.optimisation.epochs, mnist.optimisation.patience) == (250, 50)
    assert (mnist.optimisation.optimizer, mnist.optimisation.weight_decay) == ("adam", 0.0)
    assert (mnist.data.distort, mnist.data.folds) == ("translation:0.2", 5)
    assert mnist.data.evaluations == (
        "translation:0.25", "noise:0.15", "edge-noise-published:0.15", "rotation:0.125", "swap",
    )  # fmt: skip
    cifar = settings_of(Cell("cifar10", "cnn", "edge_noise", 0.3), options)
    assert (cifar.optimisation.lr, cifar.optimisation.batch_size) == (1e-4, 128)
    assert (cifar.optimisation.epochs, cifar.optimisation.patience) == (500, 100)
    assert (cifar.network.model, cifar.network.connectivity) == ("free-cifar", "conv")
    assert cifar.data.distort == "edge-noise-published:0.3"
    text = FreeOptions(device="cpu", edge_noise="text", patience=3, sever="weights", epochs=4)
    severed = settings_of(Cell("cifar10", "fcn", "vcp", 0.2, 0.9), text)
    assert (severed.data.distort, severed.network.severed) == ("translation:0.2", 0.9)
    assert (severed.network.sever, severed.optimisation.patience) == ("weights", 3)
    assert "edge-noise:0.15" in severed.data.evaluations
    for cell in table:
        settings_of(cell, options).check()


def test_cells_of_strength_0_share_their_runs() -> None:
    names = {
        Cell("mnist", "fcn", kind, 0.0).name  # type: ignore[arg-type]
        for kind in ("translation", "rotation", "noise", "edge_noise", "vcp")
    }
    assert names == {"mnist-fcn-plain"}
    assert Cell("mnist", "fcn", "vcp", 0.2).name == Cell("mnist", "fcn", "translation", 0.2).name
    assert Cell("mnist", "fcn", "vcp", 0.2, 0.5).name == "mnist-fcn-translation0.2-vcp0.5"


def test_a_table_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    """Medians from the CSV by hand, a run file for every fold; then drawn again, not trained."""
    words = "--strengths 0 0.3 --held-out 0 3 --out here"
    found = command(capsys, f"free-table1 {words}")
    text = Path(found["table"]).read_text()
    assert text.splitlines()[0] == HEADER
    rows = rows_of(found["table"])
    assert len(rows) == 2 * 2 * 2 * 2  # networks, strengths, folds, epochs
    assert {(row["fold"], row["epoch"]) for row in rows} == {(f, e) for f in "03" for e in "12"}
    for cell in found["cells"]:
        own = [r for r in rows if r["model"] == cell["model"] and float(r["aug"]) == cell["aug"]]
        for quantity in ("acc", "val_acc", "translation"):
            values = np.array([float(row[quantity]) for row in own]).reshape(2, 2)  # fold, epoch
            best = np.array([float(row["val_acc"]) for row in own]).reshape(2, 2).argmax(1)
            assert cell[quantity]["pooled"] == pytest.approx(np.median(values))
            assert cell[quantity]["last"] == pytest.approx(np.median(values[:, -1]))
            at_best = values[np.arange(2), best]
            assert cell[quantity]["best"] == pytest.approx(np.median(at_best))
            mean, low, high = cell[quantity]["mean"]
            assert mean == pytest.approx(values[:, -1].mean())
            reach = 12.706 * abs(values[0, -1] - values[1, -1]) / 2  # t of one degree of freedom
            assert (low, high) == pytest.approx((mean - reach, mean + reach), abs=1e-4)
    files = sorted(Path("here").glob("*.h5"))
    assert len(files) == 8
    stamps = [path.stat().st_mtime_ns for path in files]
    again = command(capsys, f"free-fig3 {words} --resume")
    assert sorted(Path("here").glob("*.h5")) == files
    assert [path.stat().st_mtime_ns for path in files] == stamps
    assert [cell["val_acc"] for cell in again["cells"] if cell["model"] == "cnn"] == [
        cell["val_acc"] for cell in found["cells"] if cell["model"] == "cnn"
    ]
    assert all(Path(path).stat().st_size > 1000 for path in again["figures"])


@pytest.mark.parametrize(
    ("name", "trained"),
    [
        ("free-table2", {"translation0.3"}),
        ("free-tableB1", {"edge_noise0.3"}),
        ("free-tableB2", {"noise0.3"}),
        ("free-tableB3", {"rotation0.3"}),
        ("free-fig4", {"translation0.3"}),
        ("free-fig6", {"translation0.3"}),
        ("free-figB", {"rotation0.3", "noise0.3"}),
    ],
)
def test_every_other_study(
    name: str, trained: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = command(capsys, f"{name} --models fcn --strengths 0.3 --held-out 1 --out here")
    files = {path.stem for path in Path("here").glob("*.h5")}
    assert files == {f"digits-translated-fcn-{kind}-fold1-seed0" for kind in trained}
    rows = rows_of(found["table"])
    assert {row["aug_type"] + row["aug"] for row in rows} == trained
    assert len(rows) == 2 * len(trained)
    for row in rows:
        assert all(0 <= float(row[column]) <= 1 for column in ("acc", "val_acc", "translation"))
        assert 0 < float(row["dist_1"]) < 1
    assert found["figures"]
    assert all(Path(path).stat().st_size > 1000 for path in found["figures"])


def test_distances_are_those_before_the_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    found = command(capsys, "free-fig5 --strengths 0.2 --held-out 1 --seeds 3 --out here")
    rows = rows_of(found["table"])
    with RunReader(next(Path("here").glob("*.h5"))) as run:
        distances, cosines = run["euclidean_distance"], run["cosine_distance"]
        assert run.seed == 3
        assert run.config["data"]["fold"] == 1
    assert len(distances) == 3  # before the first epoch, and after both
    for row, euclidean, cosine in zip(rows, distances[:2, 0], cosines[:2, 0], strict=True):
        assert float(row["dist_1"]) == pytest.approx(euclidean[0], rel=1e-6)
        assert float(row["cos_1"]) == pytest.approx(cosine[0], rel=1e-6)
    change = found["drift"][0]["since"]["first"]
    moved = float(rows[-1]["dist_1"]) - float(rows[0]["dist_1"])
    assert change[0] == pytest.approx(moved, abs=1e-8)
    assert change[1:] == [None, None]  # no interval of a single run


def test_seeds_have_files_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Two seeds at once, in two processes, are what each is alone."""
    words = "free-table1 --models fcn --strengths 0.2 --held-out 0"
    command(capsys, f"{words} --seeds 0 1 --processes 2 --out both")
    for seed in (0, 1):
        alone = command(capsys, f"{words} --seeds {seed} --out alone{seed}")
        assert (
            Path(alone["table"]).read_text() == Path(f"both/free-table1-seed{seed}.csv").read_text()
        )
    assert Path("alone0/free-table1.csv").read_text() != Path("alone1/free-table1.csv").read_text()
    assert not list(Path("both").glob("*.checkpoints"))


def test_a_run_that_fails_among_several_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    words = "reproduce free-table2 --dataset digits --held-out 0 --processes 2 --strengths 0.1"
    assert main([*words.split(), "--epochs", "1", "--device", "cpu", "--quiet"]) == 2
    assert "large enough for the kernels of the mnist network" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:with probability")
def test_connections_and_routes(capsys: pytest.CaptureFixture[str]) -> None:
    found = command(capsys, "free-figC --probabilities 0 0.9 --strengths 0.1 --held-out 0 --out c")
    assert [cell["vcp"] for cell in found["cells"]] == [0, 0.9]
    with RunReader("c/digits-translated-fcn-translation0.1-vcp0.9-fold0-seed0.h5") as run:
        assert run.status is Status.COMPLETE
        assert run.config["network"]["severed"] == 0.9
    words = "free-routes --strengths 0 0.2 --intervals 1 --ranks 2 --held-out 0 2 --out r"
    found = command(capsys, words)
    routes_ = {(row["route"], row["label"]) for row in found["routes"]}
    assert routes_ == {
        ("convolution", "CNN 0"), ("convolution", "CNN 0.2"), ("data", "0"), ("data", "0.2"),
        ("sleep", "ws1"), ("sleep", "circuit"), ("both", "ws1"), ("both", "circuit"),
        ("low rank", "rank2"),
    }  # fmt: skip
    with RunReader("r/digits-translated-fcn-ws1-plain-fold2-seed0.h5") as run:
        assert run.config["sleep"]["sleep"] == "instant"
        assert len(run["sleep"]) == 20
    by_label = {(row["route"], row["label"]): row for row in found["routes"]}
    assert by_label["convolution", "CNN 0"]["unshared"][0] == 0
    assert by_label["sleep", "ws1"]["unshared"][0] < 0.5 < by_label["data", "0"]["unshared"][0]
    assert 0 < by_label["low rank", "rank2"]["cos_1"][0] < 0.5  # they start equal
    assert by_label["sleep", "ws1"]["cos_1"][0] > 0.9  # neighbours are in different grids


def test_grids_of_connections() -> None:
    with pytest.raises(InvalidArgument, match="--probabilities must be at least 0 and below 1"):
        fig_c.Connections((0.5, 1.0)).check()
    with pytest.raises(InvalidArgument, match="--intervals must be >= 1, got 0"):
        routes.Routes((0,)).check()
    assert len([name for name in EXPERIMENTS if name.startswith("free-")]) == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("free-table1 --folds 1", "--folds must be >= 2, got 1"),
        ("free-table1 --held-out 5", "--held-out must be one or more of 0 to 4, got (5,)"),
        ("free-table1 --held-out 1 1", "--held-out must be without repetitions"),
        ("free-table1 --patience 0", "--patience must be >= 1, got 0"),
        ("free-table1 --strengths 1", "--strengths must be at least 0 and below 1, got 1.0"),
        ("free-fig5 --strengths -0.1", "--strengths must be at least 0 and below 1, got -0.1"),
        ("free-table1 --processes 0", "--processes must be >= 1, got 0"),
        ("free-table1 --dataset digits --held-out 0", "large enough for the kernels of the mnist"),
        ("free-table1 --dataset nowhere.npz", "nowhere.npz"),
    ],
)
def test_bad_input_is_one_line(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(f"reproduce {words} --quiet", message, capsys)
