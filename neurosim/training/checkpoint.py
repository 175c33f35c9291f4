"""Checkpoints: whole or not there, and enough of them to go on from."""

from __future__ import annotations

import os
import pickle
import re
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from neurosim.errors import InvalidArgument, NeurosimError, option
from neurosim.training.settings import TrainSettings

UNFINISHED = ".tmp"
PARTS = {
    *("run", "settings", "shown", "progress", "random"),
    *("model", "optimizer", "scaler", "loss", "seen"),
}


class CheckpointError(NeurosimError):
    """A checkpoint is missing, damaged or could not be written."""


class Checkpoints:
    """The last few checkpoints of a run, in a folder of their own.

    They hold tensors and plain values only, and are read without executing anything.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write step-NNN.pt; what was there before stays until the new one is whole."""
        path = self.folder / f"step-{step:09d}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_unfinished()
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=UNFINISHED)
            with os.fdopen(handle, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except (OSError, RuntimeError) as error:
            self._remove_unfinished()
            raise CheckpointError(
                f"{path}: could not be written ({_reason(error)}); is the disk full? "
                "Earlier checkpoints are intact: make room and resume"
            ) from error
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def paths(self) -> list[Path]:
        """Checkpoints from the oldest to the newest."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if re.fullmatch(r"step-\d{9}\.pt", p.name))

    def remove(self) -> None:
        """Remove all of them, and their folder if nothing else is in it."""
        self._remove_unfinished()
        for path in self.paths():
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest one's state, or None where there is none yet."""
        paths = self.paths()
        return load(paths[-1], device) if paths else None

    def _remove_unfinished(self) -> None:
        """Remove what a process left behind that was killed while it wrote."""
        for path in self.folder.glob(f".*{UNFINISHED}"):
            path.unlink(missing_ok=True)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values, anything else is refused."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        _check_sums(path)
        state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused, it holds other things than tensors and plain values, which could "
            "run code; it is not a checkpoint of neurosim"
        ) from error
    except Exception as error:  # torch raises many kinds for damaged files
        raise CheckpointError(
            f"{path}: is damaged or not a checkpoint of neurosim ({_reason(error)}); remove it to "
            "resume from the one before"
        ) from error
    if not isinstance(state, dict) or not state.keys() >= PARTS:
        raise CheckpointError(f"{path}: is not a checkpoint of neurosim's training")
    return state


def _check_sums(path: Path) -> None:
    """Compare the checksums in the file with what it holds, which torch does not do."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def check_same(recorded: dict[str, Any], given: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run with other settings; say the first that differs.

    A setting that did not exist when the run began was what its default is.
    """
    old = _options(TrainSettings().as_json()) | _options(recorded)
    new = _options(given)
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            raise InvalidArgument(
                f"{path}: {option(name)} was {old.get(name)!r} in the run to resume, "
                f"got {new.get(name)!r}: resume with the same settings, or begin a new run"
            )


def _options(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by the names of their options."""
    options: dict[str, Any] = {}
    for name, value in settings.items():
        options |= value if isinstance(value, dict) else {name: value}
    return options


def _reason(error: BaseException) -> str:
    """What went wrong, on one line."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return said.splitlines()[0]
