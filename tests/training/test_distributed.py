"""Several processes train as one would."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import Plain, assert_same, outcome, ranks

from neurosim.errors import Interrupted, NeurosimError
from neurosim.recording import RunReader, Status
from neurosim.training import Place, TrainSettings, train
from neurosim.training.distributed import Processes, join_processes
from neurosim.training.loop import Training

# Batches of 5 rows and a last one of 4: two processes have shares of different sizes.
OPTIONS = {
    "batch_size": 5,
    "sleep": "instant",
    "every": 2,
    "moments": "share",
    "optimizer": "sgd",
    "gradients": True,
    "lr": 3e-2,
}


def in_process(rank: int, settings: TrainSettings, folder: Path) -> None:
    """Several runs one after the other, of which the last is interrupted and resumed."""
    network = Plain()
    result = train(settings, Place(folder / "both.h5", "cpu", quiet=True), network)
    torch.save(network.state_dict(), folder / f"weights{rank}.pt")
    assert result.final.images == 7

    with pytest.raises(NeurosimError, match="has checkpoints already"):
        train(settings, Place(folder / "both.h5", "cpu", quiet=True), Plain())

    early = replace(
        settings,
        optimisation=replace(settings.optimisation, step_in_backward=True),
        record=replace(settings.record, gradients=False),
    )
    with pytest.raises(NeurosimError, match=r"--step-in-backward moves weights before .* got 2"):
        train(early, Place(folder / "early.h5", "cpu", quiet=True), Plain())

    place = Place(folder / "stopped.h5", "cpu", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        if rank == 1:
            record = Training._record

            def asked(self: Training, *arguments: object) -> None:
                record(self, *arguments)  # type: ignore[arg-type]
                if self.at.step == 7:
                    os.kill(os.getpid(), signal.SIGTERM)

            patch.setattr(Training, "_record", asked)
        with pytest.raises(Interrupted, match=r"after step [89]"):
            train(settings, place, Plain(dropout=0.5))
    train(settings, replace(place, resume=True), Plain(dropout=0.5))
    train(settings, Place(folder / "whole.h5", "cpu", quiet=True), Plain(dropout=0.5))

    with pytest.MonkeyPatch.context() as patch:  # after the last step: no process goes on alone
        if rank == 1:
            patch.setattr(
                Training, "_evaluate_splits", lambda _: os.kill(os.getpid(), signal.SIGTERM)
            )
        with pytest.raises(Interrupted, match=r"late\.h5 is complete"):
            train(settings, Place(folder / "late.h5", "cpu", quiet=True), Plain())

    dropped = torch.nn.Dropout()(torch.ones(64))
    torch.save(dropped, folder / f"dropped{rank}.pt")


def test_two_processes_are_as_one(tmp_path: Path, settings: Callable[..., TrainSettings]) -> None:
    wanted = settings(**OPTIONS)
    one = Plain()
    train(wanted, Place(tmp_path / "one.h5", "cpu", quiet=True), one)
    ranks(in_process, 2, wanted, tmp_path)

    weights = [torch.load(tmp_path / f"weights{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert_same(weights[0], weights[1])
    for name, value in one.state_dict().items():
        torch.testing.assert_close(weights[0][name], value, rtol=0, atol=1e-6)
    with RunReader(tmp_path / "one.h5") as alone, RunReader(tmp_path / "both.h5") as both:
        assert both.status is Status.COMPLETE
        for name in ("step", "sleep", "epoch", "learning_rate", "top1", "top5"):
            np.testing.assert_array_equal(alone[name], both[name])
        for name in ("loss", "test_loss", "statistics", "sleep_statistics", "gradient_norm"):
            np.testing.assert_allclose(alone[name], both[name], rtol=2e-4, atol=1e-8)
    written = {path.name for path in tmp_path.glob("both*")}
    assert written == {"both.h5", "both.checkpoints"}  # by the first process only

    assert_same(outcome(tmp_path / "whole.h5"), outcome(tmp_path / "stopped.h5"))
    with RunReader(tmp_path / "stopped.h5") as run:
        assert len(run.segments) == 2
    dropped = [torch.load(tmp_path / f"dropped{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert not torch.equal(*dropped)


def test_one_process_is_a_group_of_its_own() -> None:
    alone, value = Processes(), torch.ones(2)
    assert alone.first
    assert alone.sum(value) is value
    assert alone.gather("x") == ["x"]
    assert (alone.any(True), alone.any(False)) == (True, False)
    with pytest.raises(NeurosimError, match="reason"):
        alone.lead(fail)


def fail() -> None:
    raise NeurosimError("reason")


def fill_the_disk() -> None:
    raise OSError(28, "No space left on device")


def leading(rank: int, settings: TrainSettings, folder: Path) -> None:
    """Whatever the first process meets, the others hear of it and do not wait for ever."""
    processes = join_processes("cpu")
    with pytest.raises(OSError if rank == 0 else NeurosimError, match="No space left on device"):
        processes.lead(fill_the_disk)
    (folder / f"heard{rank}").touch()


def test_processes_fail_together(tmp_path: Path, settings: Callable[..., TrainSettings]) -> None:
    ranks(leading, 2, settings(), tmp_path)
    assert {path.name for path in tmp_path.glob("heard*")} == {"heard0", "heard1"}
