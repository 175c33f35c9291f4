"""What a run file says is what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from scenes import CLASSES, SIDE, Plain, outcome
from torch import nn
from torch.nn.functional import cross_entropy

from neurosim.data import Dataset, load
from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected1d, LocallyConnected2d, LocallyConnected3d
from neurosim.recording import RunReader, Status
from neurosim.sleep import Circuit, LayerStatistics, Sleep, layer_statistics, local_layers
from neurosim.training import Place, TrainSettings, train
from neurosim.training.build import build_network
from neurosim.training.filters import filter_distances
from neurosim.training.recorder import Recorder

Make = Callable[..., TrainSettings]
LAYERS = ["conv1", "conv2", "conv3"]


def statistics_of(model: nn.Module) -> np.ndarray:
    return np.array([astuple(layer_statistics(layer)) for layer in local_layers(model).values()])


def trained(settings: TrainSettings, path: Path, network: nn.Module | None = None) -> RunReader:
    train(settings, Place(path, "cpu", quiet=True), network)
    return RunReader(path)


def normalised(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """All training images as a network gets them."""
    pixels = torch.as_tensor(data.train.images).permute(0, 3, 1, 2) / 255  # type: ignore[union-attr]
    mean, std = (torch.tensor(v)[:, None, None] for v in (data.mean, data.std))
    return ((pixels - mean) / std).float(), data.train.labels


def test_rows_come_at_the_promised_steps(tmp_path: Path, settings: Make) -> None:
    """12 steps in epochs of 4."""
    options = {"record_every": 3, "snapshot_every": 4, "sleep": "instant", "every": 2}
    with trained(settings(**options), tmp_path / "run.h5") as run:
        assert list(run["step"]) == [1, 4, 7, 10]
        assert list(run["snapshot"]) == [0, 4, 8, 12]
        assert list(run["epoch"]) == [1, 2, 3]
        assert list(run["sleep"]) == [1, 3, 5, 7, 9, 11]
        measured = ~np.isnan(run["sleep_statistics"]).all((1, 2, 3))
        assert list(measured) == [True, False, True, False, True, False]
        assert list(run["layer"]) == LAYERS
        assert tuple(run["measure"]) == LayerStatistics.names()
        assert run.config["sleep"]["every"] == 2


def test_the_sleep_is_recorded_with_its_defaults(tmp_path: Path, settings: Make) -> None:
    with trained(settings(sleep="circuit", alpha=30.0, every=12), tmp_path / "run.h5") as run:
        assert run.config["sleep"]["gamma"] is None
        default = Circuit()
        response = replace(default.response, alpha=30.0)
        assert run.notes == {"sleep": repr(Sleep(replace(default, response=response)))}
        assert "gamma=0.01" in run.notes["sleep"]
    with trained(settings(), tmp_path / "awake.h5") as run:
        assert run.notes == {}


def test_statistics_are_those_of_the_moment(
    tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    sleep = Sleep.__call__

    def spied(self: Sleep, model: nn.Module, *arguments: Any) -> None:
        before = statistics_of(model)
        sleep(self, model, *arguments)
        seen.append((before, statistics_of(model)))

    monkeypatch.setattr(Sleep, "__call__", spied)
    wanted = settings(sleep="instant", every=3, record_every=1, snapshot_every=1)
    with trained(wanted, tmp_path / "run.h5") as run:
        np.testing.assert_array_equal(run["sleep_statistics"], np.array(seen))
        sleeps, steps, statistics = list(run["sleep"]), run["step"], run["statistics"]
        assert len(seen) == len(sleeps) == 6
        weights = {name: run[f"weights/{name}/weight"] for name in LAYERS}
        network = build(wanted)
        for number, step in enumerate(steps):
            if step in sleeps:  # as before the sleep
                expected = seen[sleeps.index(step)][0]
            else:
                for name, layer in local_layers(network).items():
                    layer.weight.data.copy_(torch.from_numpy(weights[name][step]))
                expected = statistics_of(network)
            np.testing.assert_allclose(statistics[number], expected, rtol=1e-6)


def build(settings: TrainSettings) -> nn.Module:
    data = load(settings.data.dataset)
    torch.manual_seed(settings.seed)
    return build_network(settings.network, data, data.image_size)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_snapshots_are_the_weights(tmp_path: Path, settings: Make, dtype: str) -> None:
    chosen = ("conv[12]", "fc")
    wanted = settings(snapshot_every=4, snapshot_layers=chosen, snapshot_dtype=dtype)
    with trained(wanted, tmp_path / "run.h5") as run:
        state = outcome(tmp_path / "run.h5")["state"]["model"]
        start = build(wanted).state_dict()
        for name in ("conv1", "conv2", "fc"):
            weights = run[f"weights/{name}/weight"]
            assert weights.dtype == dtype
            for snapshot, expected in ((0, start), (-1, state)):
                kept = expected[f"{name}.weight"].to(getattr(torch, dtype)).numpy()
                np.testing.assert_array_equal(weights[snapshot], kept)
        assert "weights/conv3/weight" not in run.names()
        assert run.dims("weights/conv1/weight")[:3] == (
            "snapshot",
            "weights/conv1/row",
            "weights/conv1/column",
        )
        assert list(run["map"]) == ["conv1", "conv2"]
        found = filter_distances(local_layers(build(wanted))["conv2"], (1,))
        distances = [run[f"{kind}_distance"][0, 1, 0] for kind in ("euclidean", "cosine")]
        np.testing.assert_allclose(distances, found[0], rtol=1e-6)
        assert np.isnan(run["euclidean_distance"][..., 1]).all()  # radius 4 on a map of 8


def test_loss_and_gradients_are_those_of_the_step(tmp_path: Path, settings: Make) -> None:
    """One batch of all images: the first row is about the weights at the start."""
    wanted = settings(
        batch_size=24, epochs=2, record_every=1, gradients=True, label_smoothing=0.2, lr=1e-3
    )
    model = Plain()
    x, y = normalised(load(wanted.data.dataset))
    log_p = model(x).log_softmax(1)
    plain = -log_p.gather(1, y[:, None]).mean()
    smooth = 0.8 * plain + 0.2 * -log_p.mean()
    smooth.backward()
    norms = [float(model[i].weight.grad.norm()) for i in (0, 3, 5)]  # type: ignore[union-attr, arg-type, operator]
    with trained(wanted, tmp_path / "run.h5", Plain()) as run:
        assert run["loss"][0] == pytest.approx(float(smooth), rel=1e-5)
        assert list(run["gradient_layer"]) == ["0", "3", "5"]
        np.testing.assert_allclose(run["gradient_norm"][0], norms, rtol=1e-4)
        np.testing.assert_array_equal(run["learning_rate"], [1e-3, 1e-3 / 4])


def test_loss_is_the_mean_over_all_images_since_the_last_row(
    tmp_path: Path, settings: Make
) -> None:
    """Whether rows, epochs, evaluations or checkpoints lie between."""
    every, third = settings(batch_size=9, record_every=1), settings(batch_size=9, record_every=3)
    with trained(every, tmp_path / "every.h5") as run:
        losses = run["loss"]  # of batches of 9, 9 and 6 images
    with trained(third, tmp_path / "third.h5") as run:
        rows = [losses[0], *(np.average(losses[i : i + 3], weights=[9, 6, 9]) for i in (1, 4))]
        np.testing.assert_allclose(run["loss"], rows, rtol=1e-12)


def test_a_convolutional_network_has_nothing_to_say_of_layers(
    tmp_path: Path, settings: Make
) -> None:
    wanted = settings(connectivity="conv", snapshot_every=6, gradients=True)
    with trained(wanted, tmp_path / "run.h5") as run:
        assert {"layer", "statistics", "sleep_statistics", "map"}.isdisjoint(run.names())
        assert run["weights/conv2/weight"].shape == (3, 4, 2, 3, 3)
        assert run.dims("weights/conv2/weight")[1] == "weights/conv2/output"
        assert list(run["gradient_layer"]) == [*LAYERS, "fc"]
        assert len(run["sleep"]) == 0


def test_axes_have_names_in_all_dimensions(tmp_path: Path, settings: Make) -> None:
    class Volumes(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            volume = self[1](self[0](x[:, :, None]))  # (N, 2, 1, 8, 8)
            return self[3](self[2](volume.flatten(2)).flatten(1))

    network = Volumes(
        nn.Conv3d(1, 2, (1, 3, 3), padding=(0, 1, 1)),
        LocallyConnected3d(2, 2, (1, 3, 3), (1, SIDE, SIDE), padding=(0, 1, 1)),
        LocallyConnected1d(2, 1, 2, SIDE**2, stride=2),
        nn.Linear(SIDE**2 // 2, CLASSES),
    )
    with trained(settings(snapshot_every=12), tmp_path / "run.h5", network) as run:
        names = {
            layer: [name.rpartition("/")[2] for name in run.dims(f"weights/{layer}/weight")[1:]]
            for layer in "0123"
        }
    taps = ["tap_slice", "tap_row", "tap_column"]
    assert names == {
        "0": ["output", "input", *taps],
        "1": ["slice", "row", "column", "output", "input", *taps],
        "2": ["position", "output", "input", "tap_position"],
        "3": ["output", "input"],
    }


def test_readable_meanwhile_and_labelled_for_xarray(
    tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "run.h5", []
    epoch = Recorder.epoch

    def spied(self: Recorder, *arguments: Any) -> None:
        epoch(self, *arguments)
        self.flush()
        with RunReader(path) as run:
            seen.append((run.status, len(run["epoch"]), len(run["step"])))

    monkeypatch.setattr(Recorder, "epoch", spied)
    train(settings(snapshot_every=6), Place(path, "cpu", quiet=True))
    assert seen == [(Status.RUNNING, n, 2 * n) for n in (1, 2, 3)]
    with xarray.open_dataset(path, engine="h5netcdf") as data:
        assert data.statistics.dims == ("step", "layer", "measure")
        snr = data.statistics.sel(measure="snr", layer="conv2")
        assert list(snr.step) == [1, 3, 5, 7, 9, 11]
        assert float(data.euclidean_distance.sel(map="conv1", radius=1, snapshot=12)) > 0
        assert "share of them" in data.top1.attrs["long_name"]
    with xarray.open_dataset(path, engine="h5netcdf", group="weights/conv1") as data:
        assert data.weight.dims[1:] == ("row", "column", "output", "input", "tap_row", "tap_column")


def test_patterns_that_match_nothing(tmp_path: Path, settings: Make) -> None:
    wanted = settings(snapshot_every=1, snapshot_layers=("conv1", "layer1.*"))
    with pytest.raises(InvalidArgument) as caught:
        train(wanted, Place(tmp_path / "run.h5", "cpu", quiet=True))
    assert str(caught.value) == (
        "--snapshot-layers must match some of conv1, conv2, conv3, fc, got 'layer1.*'"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["images.npz"]


def test_evaluation_rows_are_those_of_the_network(tmp_path: Path, settings: Make) -> None:
    wanted, network = settings(), Plain()
    with trained(wanted, tmp_path / "run.h5", network) as run:
        data = load(wanted.data.dataset)
        pixels = torch.as_tensor(data.test.images).permute(0, 3, 1, 2) / 255  # type: ignore[union-attr]
        logits = network(((pixels - data.mean[0]) / data.std[0]).float())
        right = float((logits.argmax(1) == data.test.labels).float().mean())
        assert run["top1"][-1] == pytest.approx(right)
        loss = float(cross_entropy(logits, data.test.labels))
        assert run["test_loss"][-1] == pytest.approx(loss, rel=1e-5)
        assert run["top5"][-1] == 1  # there are three classes


def test_snapshots_say_who_shares_with_whom(tmp_path: Path, settings: Make) -> None:
    """A mean over the recorded grid is what an instant sleep leaves, layer by layer."""
    options = {"snapshot_every": 4, "sleep": "instant", "unit": "epochs", "every": 1}
    with trained(settings(**options), tmp_path / "run.h5") as run:
        for name in LAYERS:
            weight = run[f"weights/{name}/weight"][-1]  # after the sleep of the last step
            grid = run[f"weights/{name}/grid"]
            assert grid.shape == weight.shape[:2]
            assert len(np.unique(grid)) == 9
            for number in range(9):
                filters = weight[grid == number]
                np.testing.assert_allclose(filters, filters[:1].repeat(len(filters), 0), atol=1e-6)
            interior = run[f"weights/{name}/interior"]
            assert interior[1:-1, 1:-1].all()
            assert interior.sum() == (SIDE - 2) ** 2


def test_layers_without_interior_have_no_snr_and_call_for_no_sleep(
    tmp_path: Path, settings: Make
) -> None:
    first = LocallyConnected2d(1, 3, 3, SIDE, padding=1)
    second = LocallyConnected2d(3, 2, 3, 2, padding=1)  # every 3x3 field leaves the 2x2 map
    network = nn.Sequential(
        first, nn.AvgPool2d(SIDE // 2), second, nn.Flatten(), nn.Linear(8, CLASSES)
    )
    low, high = (settings(sleep="instant", below_snr=value) for value in (1e-9, 1e9))
    with trained(low, tmp_path / "low.h5", network) as run:
        assert len(run["sleep"]) == 0
        snr = run["statistics"][..., LayerStatistics.names().index("snr")]
    assert np.isfinite(snr[:, 0]).all()
    assert np.isnan(snr[:, 1]).all()
    with trained(high, tmp_path / "high.h5", network) as run:
        assert len(run["sleep"]) > 0
    alone = nn.Sequential(nn.AvgPool2d(SIDE // 2), LocallyConnected2d(1, 2, 3, 2, padding=1))
    with pytest.raises(InvalidArgument, match="--below-snr needs"):
        trained(low, tmp_path / "alone.h5", alone.append(nn.Flatten()).append(nn.Linear(8, 3)))
