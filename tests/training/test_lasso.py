"""Training by beta-LASSO: settings, records of what is left, and locality against chance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import SIDE, outcome, ranks

from neurosim.errors import Interrupted, InvalidArgument
from neurosim.nn import Dense, PermutePixels
from neurosim.optim import BetaLasso
from neurosim.recording import RunReader
from neurosim.training import OptimisationSettings, Place, TrainSettings, train
from neurosim.training.build import build_data, build_network
from neurosim.training.locality import locality
from neurosim.training.loop import Training
from neurosim.training.optimisation import build_optimizer

Make = Callable[..., TrainSettings]
LASSO = {
    "model": "shallow", "connectivity": "dense", "channels": 2, "kernel": 3, "width": 1.0,
    "optimizer": "beta-lasso", "weight_decay": 0.0, "momentum": 0.0, "l1": 1e-3, "l1_first": 4e-3,
    "lr": 0.1, "nonzeros": True,
}  # fmt: skip


def test_a_run_records_what_is_left_and_where(tmp_path: Path, settings: Make) -> None:
    wanted = settings(**LASSO, epochs=6, snapshot_every=24, snapshot_layers=("conv1",))
    path = tmp_path / "run.h5"
    train(wanted, Place(path, "cpu", quiet=True))
    model = outcome(path)["state"]["model"]
    with RunReader(path) as run:
        names, counts = [str(n) for n in run["weight_layer"]], run["nonzeros"]
        assert names == ["conv1", "linear2", "fc"]
        units = 2 * (SIDE // 2) ** 2
        assert run["parameters"].tolist() == [SIDE**2 * units, units * 48, 48 * 3]
        assert counts.shape == (len(run["step"]), 3)
        assert (counts[-1] < run["parameters"])[:2].all()
        assert run["locality"].shape == (2, 1, 3, 3)
        first, last = run["locality"][:, 0, 0]
        assert (np.diff(last) >= 0).all()  # larger windows hold more
        assert not np.allclose(first, last)
        np.testing.assert_array_equal(run["weights/conv1/input_shape"], [1, SIDE, SIDE])
        final = run["weights/conv1/weight"][-1]
    np.testing.assert_array_equal(final, model["conv1.weight"])
    weight = model["conv1.weight"]
    assert weight[weight != 0].abs().min() >= 50 * 4e-3
    assert model["linear2.weight"][model["linear2.weight"] != 0].abs().min() >= 50 * 1e-3


def test_the_optimizer_has_the_first_layers_penalty(settings: Make) -> None:
    wanted = settings(**LASSO)
    network = build_network(wanted.network, build_data(wanted.data, 0), (SIDE, SIDE))
    optimizer = build_optimizer(wanted.optimisation, network)
    assert isinstance(optimizer, BetaLasso)
    found = [(g["l1"], g["beta"], len(g["params"])) for g in optimizer.param_groups]
    assert found == [(4e-3, 50, 1), (1e-3, 50, 2), (0.0, 50, 5)]


def test_resumed_runs_end_alike(
    tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (Place(tmp_path / f"{n}.h5", "cpu", quiet=True) for n in ("whole", "parts"))
    wanted = settings(**LASSO | {"momentum": 0.5})
    train(wanted, whole)

    def obey(self: Training, stop: object) -> None:
        if self.at.step == 7:
            self._save()
            raise Interrupted("after step 7")

    monkeypatch.setattr(Training, "_obey", obey)
    with pytest.raises(Interrupted):
        train(wanted, parts)
    monkeypatch.undo()
    train(wanted, Place(parts.run_file, "cpu", resume=True, quiet=True))
    one, other = (outcome(p.run_file)["state"]["model"] for p in (whole, parts))
    assert all(one[name].equal(other[name]) for name in one)


def _train_ranked(rank: int, settings: TrainSettings, path: Path) -> None:
    train(settings, Place(path, "cpu", quiet=True))


def test_two_processes_train_as_one(tmp_path: Path, settings: Make) -> None:
    """Gradients are averaged before the step, so that all threshold alike."""
    perceptron = {
        "model": "perceptron", "kernel": None, "channels": 16, "width": 6 / 14539, "batch_size": 8,
    }  # fmt: skip
    wanted = settings(**LASSO | perceptron)
    alone, together = tmp_path / "alone.h5", tmp_path / "together.h5"
    ranks(_train_ranked, 2, wanted, together)
    train(wanted, Place(alone, "cpu", quiet=True))
    one, other = (outcome(p)["state"]["model"] for p in (alone, together))
    for name in one:
        if "weight" in name and one[name].ndim > 1:
            assert other[name].count_nonzero() > 0
            assert one[name].shape == other[name].shape
    assert 0 < (other["linear1.weight"] == 0).float().mean() < 1


def test_permuted_pixels_come_first(settings: Make) -> None:
    wanted = settings(**LASSO, permute=True)
    network = build_network(wanted.network, build_data(wanted.data, 0), (SIDE, SIDE))
    assert isinstance(network[0], PermutePixels)  # type: ignore[index]
    assert [n for n, _ in network.named_children()][:2] == ["permute", "conv1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l1": -1.0}, "--l1 must be finite and >= 0, got -1"),
        ({"beta": -1.0}, "--beta must be finite and >= 0, got -1"),
        ({"weight_decay": 0.1}, "--weight-decay must be 0 for --optimizer beta-lasso"),
        ({"optimizer": "sgd"}, "--l1 must be left out for --optimizer sgd, got 0.001"),
    ],
)
def test_bad_settings(options: dict, message: str) -> None:
    given = {"optimizer": "beta-lasso", "weight_decay": 0.0, "l1": 1e-3} | options
    with pytest.raises(InvalidArgument, match=message):
        OptimisationSettings(**given).check()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "--channels must be >= 1"),
        ({"kernel": 3, "model": "deep"}, "--kernel must be None for --model deep"),
        ({"kernel": None, "model": "transformer"}, "--channels must be 16"),
        ({"model": "perceptron", "kernel": None, "channels": 16, "connectivity": "local"}, "dense"),
        ({"sleep": "instant"}, "--sleep must be none for --connectivity dense"),
    ],
)
def test_bad_networks(settings: Make, options: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        settings(**LASSO | options).check()


# Locality


def layer_of(weight: torch.Tensor) -> Dense:
    layer = Dense(weight.shape[1:], (len(weight),), bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight.flatten(1))
    return layer


def test_windows_around_corners_and_centres() -> None:
    """Filters of 3x3 blocks anywhere: all of it within 1 of the centre, and a block of 7 x 7."""
    torch.manual_seed(0)
    weight = torch.zeros(300, 2, 12, 12)
    for unit, (row, column) in enumerate(torch.randint(0, 10, (300, 2)).tolist()):
        weight[unit, :, row : row + 3, column : column + 3] = -0.5
    found = locality(layer_of(weight))
    torch.testing.assert_close(found[0], torch.ones(3))
    assert (found[1:, 0] < 0.2).all()
    weight = torch.zeros(4, 1, 12, 12)
    weight[:, :, 2:9, 3:10] = 1
    torch.testing.assert_close(locality(layer_of(weight))[0], torch.tensor([9 / 49, 25 / 49, 1.0]))


def test_filters_without_order_are_at_chance() -> None:
    torch.manual_seed(0)
    weight = torch.randn(3000, 1, 10, 10) * (torch.rand(3000, 1, 10, 10) < 0.1)
    found = locality(layer_of(weight))
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.005)
    torch.testing.assert_close(found[2], found[0], rtol=0.05, atol=0.005)


def test_unused_borders_are_no_locality_by_the_chance_of_units() -> None:
    """Weights in the middle of the image only, in no order: local against shuffled pixels alone."""
    torch.manual_seed(0)
    weight = torch.zeros(3000, 1, 14, 14)
    weight[..., 4:10, 4:10] = torch.randn(3000, 1, 6, 6)
    learned, pixels, units = locality(layer_of(weight))
    assert learned[1] > 2 * pixels[1]
    torch.testing.assert_close(units, learned, rtol=0.05, atol=0.01)


def test_a_layer_without_weights_has_none() -> None:
    assert locality(layer_of(torch.zeros(4, 1, 5, 5))).isnan().all()
