"""Checkpoints are whole or not there, and reading one runs nothing."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from scenes import Plain, child, outcome, train_and_tell

from neurosim.errors import InvalidArgument, RunFileError
from neurosim.models import simple
from neurosim.recording import RunReader, Status
from neurosim.training import Place, TrainSettings, train
from neurosim.training.checkpoint import CheckpointError, Checkpoints, check_same, load
from neurosim.training.keeper import Keeper

Make = Callable[..., TrainSettings]


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.touched}",)


@pytest.fixture
def finished(tmp_path: Path, settings: Make) -> Place:
    """A run of one epoch of 4 steps."""
    place = Place(tmp_path / "run.h5", "cpu", quiet=True)
    train(settings(epochs=1), place, Plain())
    return place


def resumed(place: Place, **changes: Any) -> Place:
    return Place(place.run_file, "cpu", quiet=True, resume=True, **changes)


def test_the_last_few_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "here", keep=2)
    assert checkpoints.load(torch.device("cpu")) is None
    for step in (9, 10, 100):
        checkpoints.save(step, {"x": torch.full((3,), step)})
    names = ["step-000000010.pt", "step-000000100.pt"]
    assert [path.name for path in checkpoints.paths()] == names
    (tmp_path / "here" / "notes.txt").write_text("mine")
    checkpoints.remove()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["notes.txt"]


def test_malicious_checkpoints_are_refused(finished: Place, settings: Make) -> None:
    path, touched = finished.checkpoints.paths()[-1], finished.run_file.with_name("touched")
    state = torch.load(path, weights_only=True)
    torch.save(state | {"progress": Evil(touched)}, path)
    with pytest.raises(CheckpointError, match=r"step-000000004.pt: refused, it holds other things"):
        train(settings(epochs=1), resumed(finished), Plain())
    path.write_bytes(pickle.dumps(Evil(touched)))
    with pytest.raises(CheckpointError, match=r"step-000000004.pt: is damaged or not"):
        load(path)
    assert not touched.exists()
    pickle.loads(path.read_bytes())  # as it would have been
    assert touched.exists()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda _: b"", lambda _: b"something else"])
def test_damaged_checkpoints_are_named(
    finished: Place, settings: Make, damage: Callable[[bytes], bytes]
) -> None:
    path = finished.checkpoints.paths()[-1]
    path.write_bytes(damage(path.read_bytes()))
    message = r"step-000000004.pt: is damaged .*; remove it to resume from the one before$"
    with pytest.raises(CheckpointError, match=message) as caught:
        train(settings(epochs=1), resumed(finished), Plain())
    assert "\n" not in str(caught.value)


def test_other_files_are_no_checkpoints(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(3)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other.pt: is not a checkpoint of neurosim's"):
        load(tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"none.pt: no such checkpoint"):
        load(tmp_path / "none.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"lr": 2e-2},
            r"run.h5: --lr was 0.01 in the run to resume, got 0.02: resume with",
        ),
        ({"seed": 3}, r"--seed was 0 in the run to resume, got 3"),
        ({"sleep": "instant"}, r"--sleep was 'none' in the run to resume, got 'instant'"),
        ({"evaluations": ("swap",)}, r"--evaluations was \[\] in the run .* got \['swap'\]"),
    ],
)
@pytest.mark.parametrize("saved", [True, False])
def test_other_settings_are_named(
    finished: Place, settings: Make, change: dict[str, Any], message: str, saved: bool
) -> None:
    if not saved:
        finished.checkpoints.remove()
    with pytest.raises(InvalidArgument, match=message):
        train(settings(**{"epochs": 1} | change), resumed(finished), Plain())
    with RunReader(finished.run_file) as run:
        assert len(run.segments) == 1


def test_a_setting_that_came_later_was_at_its_default(settings: Make) -> None:
    """A run of an earlier version goes on, but not with what it could not have had."""
    recorded, path = settings().as_json(), Path("run.h5")
    del recorded["optimisation"]["label_smoothing"]
    check_same(recorded, settings().as_json(), path)
    with pytest.raises(InvalidArgument, match=r"--label-smoothing was 0.0 in the run to resume"):
        check_same(recorded, settings(label_smoothing=0.1).as_json(), path)


def test_a_checkpoint_of_another_network_or_run(
    finished: Place, settings: Make, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match=r"network must be that of the run to resume, scen"):
        train(settings(epochs=1), resumed(finished), simple(3, "local", 8))
    larger = Plain()
    larger.extra = torch.nn.Parameter(torch.zeros(2))  # which its description does not show
    with pytest.raises(CheckpointError, match=r"does not fit this network: Error.* state_dict"):
        train(settings(epochs=1), resumed(finished), larger)

    other = Place(tmp_path / "other.h5", "cpu", quiet=True)
    train(settings(epochs=1), other, Plain())
    for path in other.checkpoints.paths():
        path.replace(finished.checkpoints.folder / path.name)
    with pytest.raises(CheckpointError, match=r"run.checkpoints: belongs to another run than"):
        train(settings(epochs=1), resumed(finished), Plain())

    finished.run_file.unlink()
    with pytest.raises(RunFileError, match=r"run.h5: no such file, but checkpoints of its run"):
        train(settings(epochs=1), resumed(finished), Plain())


def test_nothing_is_overwritten_unasked(finished: Place, settings: Make) -> None:
    again = Place(finished.run_file, "cpu", quiet=True)
    with pytest.raises(InvalidArgument, match="has checkpoints already: pass --resume"):
        train(settings(epochs=1), again, Plain())
    with pytest.raises(InvalidArgument, match="--resume and --overwrite exclude each other"):
        train(settings(epochs=1), resumed(finished, overwrite=True), Plain())
    finished.checkpoints.remove()
    with pytest.raises(RunFileError, match=r"run.h5: exists already"):
        train(settings(epochs=1), again, Plain())
    train(settings(epochs=2), Place(finished.run_file, "cpu", overwrite=True, quiet=True), Plain())
    assert outcome(finished.run_file)["state"]["progress"]["epoch"] == 2


def test_a_living_run_keeps_its_checkpoints(finished: Place, settings: Make) -> None:
    """--overwrite does not touch what another process is writing."""
    with h5py.File(finished.run_file, "r+") as file:
        file["status"][()] = "running"  # type: ignore[index]
    with pytest.raises(RunFileError, match="still being written by process"):
        train(settings(), Place(finished.run_file, "cpu", overwrite=True, quiet=True), Plain())
    assert finished.checkpoints.paths()


@pytest.mark.parametrize(
    ("full", "message"),
    [
        (
            "checkpoint",
            r"CheckpointError: .*step-000000004.pt: could not be written \(.*\); is the disk "
            r"full\? Earlier checkpoints are intact: make room and resume",
        ),
        (
            "run file",
            r"RunFileError: .*run.h5: could not be written \(File too large\); is the disk full\?",
        ),
    ],
)
def test_a_full_disk(tmp_path: Path, settings: Make, full: str, message: str) -> None:
    """One error, the older checkpoint and the run file intact; with room again it goes on."""
    wanted = settings(snapshot_every=1)
    place = Place(tmp_path / "run.h5", "cpu", quiet=True, checkpoint_every=2)
    with child(train_and_tell, wanted, place, 0.0, tmp_path / "said", full) as process:
        process.join(60)
        assert process.exitcode == 3
    said = (tmp_path / "said").read_text()
    assert re.fullmatch(message, said), said
    steps = [load(path)["progress"]["step"] for path in place.checkpoints.paths()]
    assert steps[0] == 2
    assert len(steps) == len([*place.checkpoints.folder.iterdir()]) == (full == "run file") + 1
    with RunReader(place.run_file) as run:
        assert run.status is Status.FAILED
        assert "is the disk full?" in run.message
        assert run["step"][0] == 1
    train(wanted, resumed(place), Plain())
    train(wanted, Place(tmp_path / "whole.h5", "cpu", quiet=True), Plain())
    whole, parts = outcome(tmp_path / "whole.h5"), outcome(place.run_file)
    torch.testing.assert_close(parts["state"]["model"], whole["state"]["model"], rtol=0, atol=0)


def test_long_checkpoints_are_rare(
    tmp_path: Path, settings: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first and the last epoch, where one takes longer than twenty epochs."""
    saved: list[int] = []
    save = Keeper.save

    def slow(self: Keeper) -> None:
        save(self)
        self._cost = 60.0
        saved.append(self.state.progress.epoch)

    monkeypatch.setattr(Keeper, "save", slow)
    train(settings(epochs=4), Place(tmp_path / "run.h5", "cpu", quiet=True), Plain())
    assert saved == [1, 4]


def test_runs_whose_names_have_dots_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {Place(tmp_path / name).checkpoints.folder for name in ("lr0.1", "lr0.2", "lr0.1.h5")}
    assert sorted(folder.name for folder in folders) == ["lr0.1.checkpoints", "lr0.2.checkpoints"]
