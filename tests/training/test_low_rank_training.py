"""Low-rank networks are trained, recorded, put to sleep and judged on all parts of the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import TEST_IMAGES, TRAINING_IMAGES, settings_of, write_images

from analysis.training import training_curves
from analysis.trajectories.series import weight_trajectories
from analysis.trajectories.weights import read_rows, read_weight, recorded_layers
from neurosim.data import Dataset, Images
from neurosim.errors import InvalidArgument
from neurosim.nn import LowRankLocal2d
from neurosim.recording import RunReader
from neurosim.training import Place, train
from neurosim.training.build import build_data, build_network

K, SIDE = 3, 2  # the third layer of an 8x8 image has 2x2 positions


def settings(tmp_path: Path, **options: Any) -> Any:
    images = write_images(tmp_path / "images.npz")
    given = {"model": "lrlc", "rank": K, "width": 1.0, "epochs": 2, "optimizer": "adam"}
    return settings_of(images, **{**given, **options})


def trained(tmp_path: Path, **options: Any) -> tuple[Path, LowRankLocal2d]:
    wanted = settings(tmp_path, **options)
    torch.manual_seed(wanted.seed)
    data = build_data(wanted.data, wanted.seed)
    network: Any = build_network(wanted.network, data, (8, 8))
    path = tmp_path / "run.h5"
    train(wanted, Place(path, device="cpu", quiet=True), network)
    return path, network.conv3


def test_combining_weights_and_banks_are_recorded(tmp_path: Path) -> None:
    path, layer = trained(tmp_path, snapshot_every=2, combining="random")
    with RunReader(path) as run:
        images = run["weights/conv3/combining"]
        assert images.shape[1:] == (K, SIDE, SIDE)
        assert len(images) == len(run["snapshot"]) > 2
        np.testing.assert_allclose(images.sum(1), 1, atol=1e-6)  # softmax
        np.testing.assert_allclose(images[-1], layer.combining().detach().numpy(), atol=1e-6)
        assert np.abs(images[-1] - images[0]).max() > 0
        recorded = recorded_layers(run)["conv3"]
        assert (recorded.is_local, recorded.size, recorded.kernel) == (True, (2, 2), (3, 3))
        weight = read_weight(run, recorded, len(images) - 1)
        expected = layer.expanded().weight.detach().flatten(2).flatten(0, 1).numpy()
        np.testing.assert_allclose(weight, expected, atol=1e-5)
        one = read_rows(run, recorded, len(images) - 1, slice(1, 2))
        np.testing.assert_allclose(one.reshape(2, -1), expected[2:], atol=1e-5)
        (found,) = weight_trajectories(run, ["conv3"])
    assert 1 < found.values["effective_rank"][-1] <= K
    assert found.values["drift"][0] == 0 < found.values["drift"][-1]


def test_input_dependent_layers_have_banks_only(tmp_path: Path) -> None:
    path, layer = trained(tmp_path, snapshot_every=2, layer="input-dependent")
    with RunReader(path) as run:
        assert "weights/conv3/combining" not in run.names()
        banks = layer.bases[0].detach().numpy()
        np.testing.assert_array_equal(run["weights/conv3/banks"][-1], banks)


def test_all_parts_of_the_data_are_evaluated_in_the_end(tmp_path: Path) -> None:
    path, _ = trained(tmp_path, validation=6, splits=True)
    with RunReader(path) as run:
        curves = training_curves(run)
    assert list(curves.splits) == ["train", "validation", "test"]
    assert curves.splits["validation"] == curves.top1[-1]
    for name, count in {"train": TRAINING_IMAGES - 6, "validation": 6, "test": TEST_IMAGES}.items():
        right = curves.splits[name] * count
        assert right == pytest.approx(round(right))
    path, _ = trained(tmp_path / "more" if (tmp_path / "more").mkdir() is None else tmp_path)
    with RunReader(path) as run:
        assert training_curves(run).splits == {}


def test_an_official_validation_part_is_taken() -> None:
    def images(count: int, level: int) -> Images:
        return Images(
            torch.full((count, 2, 2, 1), level, dtype=torch.uint8),
            torch.zeros(count, dtype=torch.int64),
        )

    data = Dataset("x", images(6, 1), images(3, 2), ("a",), validation=images(2, 3))
    assert list(data.splits) == ["train", "test"]
    official = data.split(2)
    assert {n: (len(p), int(p.images[0, 0, 0, 0])) for n, p in official.splits.items()} == {  # type: ignore[union-attr]
        "train": (6, 1), "validation": (2, 3), "test": (3, 2),
    }  # fmt: skip
    random = data.split(1)
    assert [len(part) for part in random.splits.values()] == [5, 1, 3]


def test_a_low_rank_network_sleeps(tmp_path: Path) -> None:
    path, layer = trained(
        tmp_path, sharing="position", combining="random", sleep="instant", every=1
    )
    with RunReader(path) as run:
        assert len(run["sleep"]) > 0
    assert layer.combining().shape == (K, SIDE, SIDE)  # 2x2 positions: every grid has one


REFUSED = [
    ({"rank": 5}, "rank must be at most H W = 4"),
    ({"rank": 0}, "--rank must be >= 1"),
    ({"layer": "lowrank"}, "--layer must be one of"),
    ({"connectivity": "conv"}, "--connectivity must be local for --model lrlc"),
    ({"model": "simple"}, "--rank must be 2 for --model simple, got 3"),
    ({"layer": "input-dependent", "sharing": "row"}, "sharing must be"),
    ({"sleep": "instant"}, "sharing of low-rank layer 'conv3' must be"),
    ({"sleep": "circuit", "sharing": "position"}, "mechanism of low-rank layer"),
    ({"sleep": "instant", "sharing": "row", "below_snr": 1.0}, "--below-snr needs"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        train(settings(tmp_path, **change), Place(tmp_path / "run.h5", device="cpu", quiet=True))
