"""Training on a GPU: as on a CPU, in every precision, compiled, resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scenes import Plain

from neurosim.errors import Interrupted
from neurosim.recording import RunReader, Status
from neurosim.training import Place, TrainSettings, train
from neurosim.training.loop import Training

pytestmark = pytest.mark.gpu

Make = Callable[..., TrainSettings]

SLEEPS: dict[str, dict[str, Any]] = {
    "none": {"sleep": "none", "gradients": True},
    "instant": {"sleep": "instant", "every": 2, "moments": "share", "snapshot_every": 3},
    "below SNR": {"sleep": "instant", "below_snr": 0.5, "batch_norm": "recalibrate"},
    "hebbian": {"sleep": "hebbian", "every": 2, "scaling": "neuron"},
    "circuit": {"sleep": "circuit", "every": 2, "scaling": "layer", "presentations": 200},
    "noise": {"sleep": "circuit", "every": 6, "sleep_noise": 0.1, "presentations": 1},
}


def losses(place: Place) -> np.ndarray:
    with RunReader(place.run_file) as run:
        assert run.status is Status.COMPLETE
        return np.asarray(run["loss"])


def trained(settings: TrainSettings, place: Place) -> np.ndarray:
    train(settings, place, Plain())
    return losses(place)


@pytest.mark.parametrize("name", SLEEPS)
def test_as_on_a_cpu(tmp_path: Path, settings: Make, name: str) -> None:
    """Noise is drawn on the device, and so is another one there."""
    wanted = settings(**SLEEPS[name])
    here, there = (
        trained(wanted, Place(tmp_path / f"{device}.h5", device, quiet=True))
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there, here, rtol=0.1 if name == "noise" else 1e-2)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("how", [{}, {"compile": True}, {"compile": True, "cuda_graphs": True}])
def test_precisions_and_compilers(
    tmp_path: Path, settings: Make, precision: str, how: dict[str, bool]
) -> None:
    """A compiled network sees what its weights became in their sleep."""
    options = {"sleep": "instant", "every": 2, "epochs": 4}
    plain = trained(settings(**options), Place(tmp_path / "plain.h5", "cuda", quiet=True))
    wanted = settings(**options, precision=precision, **how)
    found = trained(wanted, Place(tmp_path / "run.h5", "cuda", quiet=True))
    np.testing.assert_allclose(found, plain, rtol=0.05)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_an_interrupted_run_goes_on(
    tmp_path: Path, settings: Make, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything that a checkpoint has, the device's generator among it."""
    wanted = settings(optimizer=optimizer, sleep="instant", every=2, pad=1)
    whole = Place(tmp_path / "whole.h5", "cuda", quiet=True)
    train(wanted, whole, Plain(dropout=0.3))

    obey = Training._obey

    def stopped(self: Training, stop: Any) -> None:
        if self.at.step == 5:
            stop.asked = "a test"
        obey(self, stop)

    monkeypatch.setattr(Training, "_obey", stopped)
    with pytest.raises(Interrupted):
        train(wanted, Place(tmp_path / "run.h5", "cuda", quiet=True), Plain(dropout=0.3))
    monkeypatch.undo()
    torch.cuda.manual_seed(99)  # as another process would begin
    again = Place(tmp_path / "run.h5", "cuda", quiet=True, resume=True)
    train(wanted, again, Plain(dropout=0.3))
    np.testing.assert_allclose(losses(again), losses(whole), rtol=1e-3)


def test_distorted_images_and_copies(tmp_path: Path, settings: Make) -> None:
    wanted = settings(distort="translation:0.2", evaluations=("rotation:0.1", "noise:0.1"))
    assert np.isfinite(trained(wanted, Place(tmp_path / "run.h5", "cuda", quiet=True))).all()
