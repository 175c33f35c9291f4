"""Checkpoints: whole or not there, and enough of them to go on from."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from neurosim.errors import InvalidArgument, NeurosimError


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
        temporary: Path | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".tmp")
            temporary = Path(name)
            with os.fdopen(handle, "wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise CheckpointError(
                f"{path}: could not be written ({reason}); is the disk full? "
                "Earlier checkpoints are intact: free some room and resume"
            ) from error
        for old in self.paths()[: -self.keep]:
            old.unlink(missing_ok=True)
        return path

    def paths(self) -> list[Path]:
        """Checkpoints from the oldest to the newest."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if re.fullmatch(r"step-\d{9}\.pt", p.name))

    def clear(self) -> None:
        """Remove all of them."""
        for path in self.paths():
            path.unlink(missing_ok=True)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest one's state, or None where there is none yet."""
        paths = self.paths()
        return load(paths[-1], device) if paths else None


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint: tensors and plain values, anything else is refused."""
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except Exception as error:  # torch raises many kinds for damaged and for refused files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: is damaged or not a checkpoint of neurosim ({reason}); "
            "remove it to resume from the one before"
        ) from error
    if not isinstance(state, dict) or "settings" not in state:
        raise CheckpointError(f"{path}: is not a checkpoint of neurosim's training")
    return state


def check_same(recorded: dict[str, Any], given: dict[str, Any], path: Path) -> None:
    """Refuse to resume a run with other settings; say the first that differs."""
    for group in sorted(recorded.keys() | given.keys()):
        old, new = recorded.get(group), given.get(group)
        if isinstance(old, dict) and isinstance(new, dict):
            for name in sorted(old.keys() | new.keys()):
                if _plain(old.get(name)) != _plain(new.get(name)):
                    raise InvalidArgument(
                        f"{path}: --{name.replace('_', '-')} was {old.get(name)!r} in the run to "
                        f"resume, got {new.get(name)!r}: resume with the same settings, or begin "
                        "a new run"
                    )
        elif _plain(old) != _plain(new):
            raise InvalidArgument(
                f"{path}: {group} was {old!r} in the run to resume, got {new!r}: resume with the "
                "same settings, or begin a new run"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
