"""Whatever is wrong is one clear error, as early as it can be known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import Plain
from torch import nn

from neurosim.errors import Diverged, InvalidArgument, NeurosimError, StabilityError
from neurosim.models import simple
from neurosim.nn import LocallyConnected2d
from neurosim.recording import RunReader, Status
from neurosim.training import Place, TrainSettings, train

Make = Callable[..., TrainSettings]

SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"repetitions": 4}, "--batch-size must be divisible by --repetitions = 4, got 6"),
    ({"connectivity": "conv", "sleep": "instant"}, "--sleep must be none for --connectivity conv"),
    ({"sleep": "none", "alpha": 10.0}, "--alpha means nothing to --sleep none"),
    ({"sleep": "none", "every": 3}, "--every means nothing to --sleep none"),
    ({"sleep": "none", "moments": "share"}, "--moments means nothing to --sleep none"),
    ({"sleep": "instant", "patterns": "one-hot"}, "--patterns means nothing to --sleep instant"),
    (
        {"sleep": "instant", "at_steps": (1,), "every": 3},
        "--every means nothing with --at-steps",
    ),
    (
        {"sleep": "instant", "unit": "epochs", "phase": "global"},
        "--phase means nothing with --unit epochs",
    ),
    ({"interpolation": 0}, "--interpolation means nothing without --distort or --evaluations"),
    ({"snapshot_dtype": "float16"}, "--snapshot-dtype means nothing without --snapshot-every"),
    ({"epochs": 1.5}, "--epochs must be a whole number, got 1.5"),
    ({"lr": "0.1"}, "--lr must be a number, got '0.1'"),
    ({"patience": 1.5}, "--patience must be a whole number, got 1.5"),
    ({"record_every": True}, "--record-every must be a whole number, got True"),
    ({"conv_layers": "conv1"}, "--conv-layers must be a tuple, got 'conv1'"),
    ({"evaluations": (1,)}, "--evaluations must be text, got 1"),
    ({"flip": "no"}, "--flip must be True or False, got 'no'"),
    ({"sleep": "instant", "gamma": 0.1}, "--gamma means nothing to --sleep instant"),
    ({"sleep": "hebbian", "dt": 0.1}, "--dt means nothing to --sleep hebbian"),
    ({"sleep": "instant", "sleep_noise": 0.1}, r"noise must be 0 for Instant\(\)"),
    ({"sleep": "instant", "at_steps": (3,), "below_snr": 1.0}, "exclude each other: give one"),
    ({"sleep": "instant", "every": 0}, "--every must be >= 1, got 0"),
    ({"sleep": "instnat"}, r"--sleep must be one of none, .*, got 'instnat' \(did you mean"),
    ({"optimizer": "lion"}, "--optimizer must be one of adamw, adam, sgd, beta-lasso, got 'lion'"),
    ({"lr_schedule": "linear"}, "--lr-schedule must be one of steps, cosine, constant"),
    ({"precision": "float8"}, "--precision must be one of float32, bfloat16, float16"),
    ({"sleep": "instant", "scaling": "net"}, "--scaling must be one of neuron, grid, layer"),
    ({"snapshot_dtype": "int8"}, "--snapshot-dtype must be one of float32, float16"),
    ({"connectivity": "full"}, "--connectivity must be one of conv, local"),
    ({"lr": 0.0}, "--lr must be finite and > 0, got 0.0"),
    ({"lr": float("nan")}, "--lr must be finite and > 0, got nan"),
    ({"epochs": 0}, "--epochs must be >= 1, got 0"),
    ({"batch_size": 0}, "--batch-size must be >= 1, got 0"),
    ({"warmup": 3}, "--warmup must be fewer than --epochs, got 3"),
    ({"label_smoothing": 1.0}, "--label-smoothing must be at least 0 and below 1, got 1.0"),
    ({"cuda_graphs": True}, "--cuda-graphs must be left out without --compile, got True"),
    (
        {"step_in_backward": True, "compile": True},
        "--step-in-backward drops gradients one by one: leave out it or --compile",
    ),
    (
        {"step_in_backward": True, "precision": "float16"},
        "one by one: leave out it or --precision float16",
    ),
    ({"step_in_backward": True, "gradients": True}, "one by one: leave out it or --gradients"),
    (
        {"connectivity": "low-rank", "model": "free-mnist", "width": 1.0, "sleep": "instant"},
        "--sleep must be none for --connectivity low-rank, whose filters are mixtures",
    ),
    ({"patience": 0}, "--patience must be >= 1, got 0"),
    ({"seed": -1}, "--seed must be >= 0 and below 2"),
    ({"record_every": 0}, "--record-every must be >= 1, got 0"),
    ({"snapshot_every": 0}, "--snapshot-every must be >= 1, got 0"),
    ({"pad": -1}, "--pad must be >= 0, got -1"),
    ({"subset": 0}, "--subset must be >= 1, got 0"),
    ({"test_subset": 0}, "--test-subset must be >= 1, got 0"),
    ({"width": 0.0}, "--width must be finite and > 0, got 0.0"),
    ({"conv_first": -1}, "--conv-first must be >= 0, got -1"),
]


@pytest.mark.parametrize(("options", "message"), SETTINGS)
def test_settings(settings: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message) as caught:
        settings(**options).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subset": 25}, "1 to 24 training images, got 25"),
        ({"validation": 24}, "--validation must be 1 to 23 training images, got 24"),
        ({"test_subset": 8}, "--test-subset must be at most 7, the images to test with, got 8"),
        ({"folds": 40}, "--folds must be 2 to 31, the number of images, got 40"),
        ({"crop": "random-resized"}, "--crop must be left out for --dataset .*have one size"),
        ({"dataset": "cifar11"}, r"dataset must be one of .* got 'cifar11' \(did you mean"),
        ({"dataset": "missing.npz"}, "missing.npz is missing, it was looked for at"),
        ({"model": "resnet20", "width": 2.0}, "--width must be 1"),
        ({"compile": True, "cuda_graphs": True}, "--cuda-graphs needs a GPU, got --device cpu"),
    ],
)
def test_data_and_models(
    tmp_path: Path, settings: Make, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(NeurosimError, match=message):
        train(settings(**options), Place(tmp_path / "run.h5", "cpu", quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["images.npz"]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "--device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("meta", "--device must be auto, cpu, cuda or cuda:N, got 'meta'"),
        ("cuda:99", "--device must be "),
    ],
)
def test_devices(tmp_path: Path, settings: Make, device: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        train(settings(), Place(tmp_path / "run.h5", device))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"keep": 0}, "--keep must be >= 1, got 0"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be >= 1, got 0"),
    ],
)
def test_places(tmp_path: Path, settings: Make, place: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        train(settings(), Place(tmp_path / "run.h5", "cpu", **place))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (lambda: simple(3, "local", 9), {}, r"must be of shape \(1, 9, 9\).* got \(1, 1, 8, 8\)"),
        (lambda: simple(4, "local", 8), {}, r"output of network must be of shape \(n, 3\).* 4\)"),
        (lambda: simple(3, "conv", 8, in_channels=3), {}, r"must take images of shape \(1, 8, 8\)"),
        (lambda: simple(3, "conv", 8), {"sleep": "instant"}, "must have a locally connected layer"),
    ],
)
def test_networks(
    tmp_path: Path,
    settings: Make,
    network: Callable[[], nn.Module],
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        train(settings(**options), Place(tmp_path / "run.h5", "cpu", quiet=True), network())
    assert not (tmp_path / "run.h5").exists()


@pytest.mark.parametrize("options", [{}, {"record_every": 1000}, {"precision": "bfloat16"}])
def test_divergence(tmp_path: Path, settings: Make, options: dict[str, Any]) -> None:
    """NaN ends the run, whether it is found at a record or at the end of an epoch."""
    wanted = settings(lr=1e6, optimizer="sgd", epochs=20, **options)
    place = Place(tmp_path / "run.h5", "cpu", quiet=True)
    with pytest.raises(Diverged, match=r"became NaN or Inf in the last steps up to \d+ \(epoch"):
        train(wanted, place, Plain())
    with RunReader(place.run_file) as run:
        assert run.status is Status.FAILED
        assert run.message.startswith("Diverged: the ")
        assert "lower --lr" in run.message
    for path in place.checkpoints.paths():
        state = torch.load(path, weights_only=True)
        assert all(torch.isfinite(value).all() for value in state["model"].values())


class Gap(nn.Sequential):
    """A layer with fewer connections than it could have."""

    def __init__(self) -> None:
        layer = LocallyConnected2d(1, 2, 3, 8, padding=1)
        layer.present = torch.ones_like(layer.weight, dtype=torch.bool)
        layer.present[0, 0, 0, 0, 0, 0] = False
        super().__init__(layer, nn.Flatten(), nn.Linear(128, 3))


@pytest.mark.parametrize(
    ("network", "options", "kind", "message"),
    [
        (Plain, {"sleep": "circuit", "rate": 1e4}, StabilityError, "layer '0' cannot sleep"),
        (Plain, {"sleep": "circuit", "alpha": 1000.0}, StabilityError, "response.dt must be <"),
        (Gap, {"sleep": "hebbian"}, InvalidArgument, "layer '0'"),
    ],
)
def test_sleeps_that_a_layer_does_not_support(
    tmp_path: Path,
    settings: Make,
    network: Callable[[], nn.Module],
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    place = Place(tmp_path / "run.h5", "cpu", quiet=True)
    with pytest.raises(kind, match=message):
        train(settings(**options), place, network())
    assert not place.run_file.exists()  # refused before anything was trained
