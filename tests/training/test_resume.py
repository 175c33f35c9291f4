"""A run that was stopped and goes on ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenes import (
    Plain,
    assert_same,
    child,
    killed_while_saving,
    outcome,
    rows_of,
    train_and_tell,
    wait_for,
)
from torch import nn

from experiments.common.networks import restore
from neurosim.errors import Interrupted, InvalidArgument
from neurosim.recording import RunReader, Status
from neurosim.training import Place, TrainSettings, train
from neurosim.training.loop import Training

Make = Callable[..., TrainSettings]

SHORT = {"presentations": 20, "alpha": 30.0, "dt": 0.5}
CASES: dict[str, dict[str, Any]] = {
    "conv": {"connectivity": "conv"},
    "instant": {"sleep": "instant", "every": 1},
    "new patterns": {"sleep": "circuit", "every": 2, "redraw": 2, **SHORT},
    "noise and scaling": {
        "sleep": "circuit",
        "at_steps": (2, 7),
        "sleep_noise": 0.1,
        "scaling": "layer",
        **SHORT | {"presentations": 1},
    },
    "layer by layer": {"sleep": "layerwise", "every": 4, "redraw": 1, "presentations": 2},
    "transformer": {"model": "transformer", "width": 1.0, "sleep": "instant", "every": 3},
    "moments and batch norm": {
        "sleep": "instant",
        "every": 2,
        "moments": "share",
        "batch_norm": "recalibrate",
    },
    "threshold": {"sleep": "instant", "below_snr": 1.0},
    "augmentation": {"pad": 2, "flip": True, "repetitions": 3, "subset": 20, "validation": 4},
    "distorted": {
        "distort": "translation:0.3",
        "evaluations": ("noise:0.2", "swap"),
        "folds": 3,
        "fold": 1,
        "normalise": "none",
        "snapshot_every": 1,
        "snapshot_unit": "epochs",
        "snapshot_weights": False,
    },
    "everything recorded": {"gradients": True, "snapshot_every": 2, "snapshot_layers": ("conv*",)},
    "patience": {"patience": 1, "epochs": 8, "lr": 1e-9},
    "sgd, cosine": {"optimizer": "sgd", "lr_schedule": "cosine", "warmup": 1},
    "bfloat16": {"precision": "bfloat16", "sleep": "instant", "every": 2},
    "float16": {"precision": "float16", "gradients": True},
}


class PowerCut(Exception):
    """Nothing that training knows."""


def train_until(settings: TrainSettings, place: Place, stop: int, network: Any = None) -> None:
    """Train, and fall over after step `stop`."""

    def stumble(self: Training, request: object) -> None:
        if self.at.step == stop:
            raise PowerCut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_obey", stumble)
        with pytest.raises(PowerCut):
            train(settings, place, network)


@pytest.mark.parametrize("case", CASES)
def test_interrupted_within_an_epoch(tmp_path: Path, settings: Make, case: str) -> None:
    wanted = settings(**CASES[case])
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    train(wanted, Place(whole, "cpu", quiet=True))
    every = {"checkpoint_every": 3, "quiet": True}
    train_until(wanted, Place(parts, "cpu", **every), stop=5)
    train(wanted, Place(parts, "cpu", resume=True, **every))
    assert_same(outcome(whole), outcome(parts))
    with RunReader(parts) as run:
        assert run.status is Status.COMPLETE
        assert len(run.segments) == 2
        assert len(run["epoch"]) < 8  # patience


@pytest.mark.parametrize("stop", [1, 3, 4, 7, 8, 11])
def test_interrupted_anywhere_with_dropout(tmp_path: Path, settings: Make, stop: int) -> None:
    """Before the first checkpoint, right at one, and around the ends of epochs of 4 steps."""
    wanted = settings(sleep="instant", every=2, snapshot_every=4)
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    train(wanted, Place(whole, "cpu", quiet=True), Plain(dropout=0.5))
    every = {"checkpoint_every": 4, "quiet": True}
    train_until(wanted, Place(parts, "cpu", **every), stop, Plain(dropout=0.5))
    train(wanted, Place(parts, "cpu", resume=True, **every), Plain(dropout=0.5))
    assert_same(outcome(whole), outcome(parts))


def test_resumed_thrice_and_after_its_end(tmp_path: Path, settings: Make) -> None:
    wanted = settings(sleep="instant", every=2)
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    first = train(wanted, Place(whole, "cpu", quiet=True))
    every = {"checkpoint_every": 1, "quiet": True}
    for number, stop in enumerate((2, 3, 9)):
        train_until(wanted, Place(parts, "cpu", resume=number > 0, **every), stop)
    train(wanted, Place(parts, "cpu", resume=True, **every))
    again = train(wanted, Place(parts, "cpu", resume=True, **every))
    assert_same(outcome(whole), outcome(parts))
    assert (again.final, again.best, again.steps) == (first.final, first.best, first.steps)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_stops(tmp_path: Path, settings: Make, number: int) -> None:
    wanted = settings(sleep="instant", every=2, epochs=10)
    whole, parts, said = tmp_path / "whole.h5", tmp_path / "parts.h5", tmp_path / "said"
    train(wanted, Place(whole, "cpu", quiet=True), Plain())
    place = Place(parts, "cpu", quiet=True, checkpoint_every=1000)
    with child(train_and_tell, wanted, place, 0.03, said) as process:
        wait_for(lambda: rows_of(parts) >= 3)
        assert process.pid is not None
        os.kill(process.pid, number)
        process.join(30)
        assert process.exitcode == 3
    step = int(place.checkpoints.paths()[-1].stem.removeprefix("step-"))
    name = signal.Signals(number).name
    message = f"Interrupted: stopped by {name} after step {step} and saved: go on with --resume "
    message += f"--out {tmp_path}"
    assert said.read_text() == message
    with RunReader(parts) as run:
        assert run.status is Status.INTERRUPTED
        assert f"Interrupted: {run.message}" == message
    train(wanted, Place(parts, "cpu", quiet=True, resume=True), Plain())
    assert_same(outcome(whole), outcome(parts))


def test_a_signal_during_the_last_evaluation_is_not_lost(
    tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is complete; what would come after it does not begin."""
    evaluate = Training._evaluate

    def interrupted(self: Training) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return evaluate(self)

    monkeypatch.setattr(Training, "_evaluate", interrupted)
    place = Place(tmp_path / "run.h5", "cpu", quiet=True)
    with pytest.raises(Interrupted, match=r"stopped by SIGINT; .*run.h5 is complete"):
        train(settings(epochs=1), place, Plain())
    with RunReader(place.run_file) as run:
        assert run.status is Status.COMPLETE


@pytest.mark.parametrize("checkpoint_every", [2, 1000])
def test_killed_and_resumed(tmp_path: Path, settings: Make, checkpoint_every: int) -> None:
    """kill -9, also before there is any checkpoint."""
    wanted = settings(sleep="instant", every=2, epochs=10, snapshot_every=5)
    whole, parts, said = tmp_path / "whole.h5", tmp_path / "parts.h5", tmp_path / "said"
    train(wanted, Place(whole, "cpu", quiet=True), Plain())
    place = Place(parts, "cpu", quiet=True, checkpoint_every=checkpoint_every)
    with child(train_and_tell, wanted, place, 0.03, said) as process:
        wait_for(lambda: rows_of(parts) >= 4)
        process.kill()
        process.join()
    with RunReader(parts) as run:
        assert run.status is Status.KILLED
        rows = len(run["step"])
        np.testing.assert_array_equal(run["step"], np.arange(rows) * 2 + 1)
        before = run["loss"]
    assert bool(place.checkpoints.paths()) == (checkpoint_every == 2)
    train(wanted, Place(parts, "cpu", quiet=True, resume=True), Plain())
    assert_same(outcome(whole), outcome(parts))
    with RunReader(parts) as run:
        np.testing.assert_array_equal(run["loss"][:rows], before)
        assert len(np.unique(run["step"])) == len(run["step"])


def test_killed_while_a_checkpoint_is_written(tmp_path: Path, settings: Make) -> None:
    wanted = settings()
    whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
    train(wanted, Place(whole, "cpu", quiet=True), Plain())
    place = Place(parts, "cpu", quiet=True, checkpoint_every=2)
    with child(killed_while_saving, wanted, place) as process:
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    found = sorted(path.name for path in place.checkpoints.folder.iterdir())
    assert len(found) == 3
    assert found[0].endswith(".tmp")
    assert found[1:] == ["step-000000002.pt", "step-000000004.pt"]
    train(wanted, Place(parts, "cpu", quiet=True, resume=True), Plain())
    assert_same(outcome(whole), outcome(parts))
    found = sorted(path.name for path in place.checkpoints.folder.iterdir())
    assert found == ["step-000000008.pt", "step-000000012.pt"]


def test_seeds_decide_everything(tmp_path: Path, settings: Make) -> None:
    runs = []
    for name, seed in {"a": 0, "b": 0, "c": 1}.items():
        train(settings(seed=seed), Place(tmp_path / f"{name}.h5", "cpu", quiet=True))
        runs.append(outcome(tmp_path / f"{name}.h5"))
    assert_same(runs[0], runs[1])
    assert not np.array_equal(runs[0]["rows"]["loss"], runs[2]["rows"]["loss"])


def test_a_network_of_ones_own_is_not_mistaken(tmp_path: Path, settings: Make) -> None:
    """Weights alone do not tell networks apart: an activation has none."""
    place = Place(tmp_path / "run.h5", "cpu", quiet=True)
    train(settings(), place, Plain())
    with RunReader(place.run_file) as run:
        assert run.notes["own_network"].startswith("scenes.Plain: Plain(")
    again = replace(place, resume=True)
    other = Plain()
    other[1] = nn.Tanh()
    for network, got in ((other, r"scenes\.Plain \w{6}"), (None, "the one that the settings desc")):
        with pytest.raises(InvalidArgument, match=rf"resume, scenes\.Plain \w{{6}}, got {got}"):
            train(settings(), again, network)
    with pytest.raises(InvalidArgument, match=r"network of one's own, scenes\.Plain: name"):
        restore(place.run_file)
    assert train(settings(), again, Plain()).epochs == 3


def test_parts_that_stay_in_evaluation_mode_stay(tmp_path: Path, settings: Make) -> None:
    """A frozen normalisation, for instance, in a network that is trained."""
    network = nn.Sequential(nn.BatchNorm2d(1), Plain())
    network[0].eval()
    options = settings(sleep="instant", batch_norm="recalibrate")
    train(options, Place(tmp_path / "run.h5", "cpu", quiet=True), network)
    assert not network[0].training
    assert network[1].training
    assert network[0].num_batches_tracked == 0
    assert (network[0].running_mean, network[0].running_var) == (0, 1)
