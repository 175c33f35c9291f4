"""What a run records of distorted copies, of its training images and of filters, epoch by epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import SIDE, TEST_IMAGES, TRAINING_IMAGES, Plain
from torch.nn.functional import cross_entropy

from neurosim.data import Images, distortion, load
from neurosim.errors import InvalidArgument
from neurosim.recording import RunReader
from neurosim.training import Place, TrainSettings, train
from neurosim.training.filters import filter_distances

Make = Callable[..., TrainSettings]


def recorded(wanted: TrainSettings, path: Path, network: Any = None) -> dict[str, np.ndarray]:
    train(wanted, Place(path, "cpu", quiet=True), network)
    with RunReader(path) as run:
        return {name: run[name] for name in run.names()}


def test_copies_are_the_fold_distorted(tmp_path: Path, settings: Make) -> None:
    """Accuracies of the trained network on the swapped copy, made by hand; noise is seeded."""
    names = ("swap", "noise:0.3", "translation:0")
    wanted = settings(evaluations=names, normalise="none")
    model = Plain()
    rows = recorded(wanted, tmp_path / "run.h5", model)
    assert rows["copy"].tolist() == list(names)
    test = load(wanted.data.dataset).test
    assert isinstance(test, Images)
    x = test.images.float().permute(0, 3, 1, 2) / 255
    swapped, half = x.clone(), SIDE // 2
    swapped[..., :half, half:], swapped[..., half:, :half] = (
        x[..., half:, :half], x[..., :half, half:],
    )  # fmt: skip
    with torch.no_grad():
        logits = model.eval()(swapped)
    assert rows["copy_top1"][-1, 0] == pytest.approx(
        float((logits.argmax(1) == test.labels).float().mean())
    )
    assert rows["copy_loss"][-1, 0] == pytest.approx(
        float(cross_entropy(logits, test.labels)), rel=1e-5
    )
    np.testing.assert_array_equal(rows["copy_top1"][:, 2], rows["top1"])  # strength 0
    again = recorded(wanted, tmp_path / "again.h5", Plain())
    np.testing.assert_array_equal(rows["copy_loss"], again["copy_loss"])
    other = recorded(settings(evaluations=names[1:], normalise="none", seed=1), tmp_path / "1.h5")
    assert not np.array_equal(other["copy_loss"][:, 0], rows["copy_loss"][:, 1])


def test_accuracy_while_training(tmp_path: Path, settings: Make) -> None:
    """A network that does not learn is right about as many distorted images as when tested."""
    wanted = settings(lr=1e-30, weight_decay=0.0, epochs=1, distort="swap", batch_size=5)
    model = Plain()
    rows = recorded(wanted, tmp_path / "run.h5", model)
    data = load(wanted.data.dataset)
    assert isinstance(data.train, Images)
    x = distortion("swap")(data.train.images.float() / 255, torch.Generator())
    x = ((x - torch.tensor(data.mean)) / torch.tensor(data.std)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = model(x)
    right = int((logits.argmax(1) == data.train.labels).sum())
    assert rows["train_top1"].tolist() == [right / TRAINING_IMAGES]
    loss = float(cross_entropy(logits, data.train.labels))
    assert rows["train_loss"][0] == pytest.approx(loss, rel=1e-5)


def test_distances_at_epochs_without_weights(tmp_path: Path, settings: Make) -> None:
    wanted = settings(
        snapshot_every=1, snapshot_unit="epochs", snapshot_weights=False, snapshot_layers=("0",)
    )
    model, first = Plain(), Plain()[0]
    before = filter_distances(first).numpy()  # type: ignore[arg-type]
    rows = recorded(wanted, tmp_path / "run.h5", model)
    steps = -(-TRAINING_IMAGES // wanted.optimisation.batch_size)
    assert rows["snapshot"].tolist() == [steps * epoch for epoch in range(4)]
    assert not [name for name in rows if name.startswith("weights/")]
    assert rows["euclidean_distance"].shape == (4, 1, 2)
    found = np.stack([rows["euclidean_distance"], rows["cosine_distance"]], -1)
    np.testing.assert_allclose(found[0, 0], before, rtol=1e-6)
    last = filter_distances(model[0]).numpy()  # type: ignore[arg-type]
    np.testing.assert_allclose(found[-1, 0], last, rtol=1e-6)


def test_a_fold_is_held_out(tmp_path: Path, settings: Make) -> None:
    """The second of two folds has the later training images and all test images."""
    pooled = TRAINING_IMAGES + TEST_IMAGES
    wanted = settings(folds=2, fold=1, epochs=1, normalise="none")
    model = Plain()
    rows = recorded(wanted, tmp_path / "run.h5", model)
    data = load(wanted.data.dataset)
    assert isinstance(data.train, Images)
    assert isinstance(data.test, Images)
    first = -(-pooled // 2)
    images = torch.cat([data.train.images[first:], data.test.images]).float() / 255
    labels = torch.cat([data.train.labels[first:], data.test.labels])
    with torch.no_grad():
        logits = model.eval()(images.permute(0, 3, 1, 2))
    assert rows["test_loss"][0] == pytest.approx(float(cross_entropy(logits, labels)), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "--folds must be >= 2, got 1"),
        ({"folds": 5, "fold": 5}, "--fold must be 0 to 4, got 5"),
        ({"fold": 1}, "--fold must be 0 without --folds, got 1"),
        ({"distort": "translation:1.5"}, "strength of translation must be at least 0 and below 1"),
        ({"evaluations": ("swap", "swap")}, "--evaluations must be without repetitions"),
        ({"evaluations": ("blur:0.1",)}, "distortion must be one of translation"),
        ({"evaluations": ("edge-noise:0.1",)}, "larger than the frame, 11 pixels or more"),
        ({"distort": "noise:0.1", "pad": 2}, "pad must be 0 for images with noise:0.1"),
        ({"patience": 0}, "--patience must be >= 1"),
        ({"severed": 0.5}, "--severed must be 0.0 for --model simple, got 0.5"),
        ({"severed": 1.0}, "--severed must be at least 0 and below 1"),
        ({"model": "free-mnist", "width": 1.0}, "input_size must be large enough"),
        (
            {"model": "free-mnist", "width": 2.0},
            "--width must be 1.0 for --model free-mnist",
        ),
        ({"model": "free-cifar", "width": 1.0, "init": "copy"}, "--init must be independent"),
        (
            {"connectivity": "low-rank"},
            "--connectivity must be one of conv, local, dense for --model simple",
        ),
    ],
)
def test_bad_settings(tmp_path: Path, settings: Make, options: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        train(settings(**options), Place(tmp_path / "run.h5", "cpu", quiet=True))
    assert not (tmp_path / "run.h5").exists()
