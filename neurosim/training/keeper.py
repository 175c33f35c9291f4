"""What a run leaves behind: its run file, and checkpoints that it goes on from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Any

from neurosim.errors import InvalidArgument, RunFileError
from neurosim.recording import RunReader
from neurosim.training.checkpoint import CheckpointError, check_same
from neurosim.training.place import Place
from neurosim.training.recorder import OWN_NETWORK, Recorder
from neurosim.training.settings import TrainSettings
from neurosim.training.state import State


class Keeper:
    """Begins or continues the run file of a run, and saves and restores its state beside it.

    All processes of a run call these methods; only the first one writes.
    """

    def __init__(
        self,
        settings: TrainSettings,
        place: Place,
        state: State,
        shown: dict[str, Any],
        splits: Sequence[str],
        own: str | None = None,
    ) -> None:
        self.settings, self.place, self.state = settings, place, state
        self.own = own  # the structure of a network that the settings do not describe
        self.shown = shown  # what has to be known of the data to use the network without them
        self.splits = tuple(splits)
        self.recorder: Recorder | None = None  # of the first process
        self._run_id = ""
        self._saved, self._cost = time.monotonic(), 0.0  # when, and seconds that it took

    def open(self) -> None:
        """Begin the run file, or go on with it; old checkpoints give way to a new run's."""
        self.state.processes.lead(self._open)

    def _open(self) -> None:
        path, checkpoints = self.place.run_file, self.place.checkpoints
        resume = self.place.resume and path.exists()
        if checkpoints.paths() and not (resume or self.place.overwrite):
            raise InvalidArgument(
                f"{checkpoints.folder} has checkpoints already: pass --resume to go on from "
                "them, --overwrite to discard them, or choose another place"
            )
        self.recorder = Recorder(
            path,
            self.settings,
            self.state.model,
            self.state.processes.device,
            own=self.own,
            splits=self.splits,
            resume=resume,
            overwrite=self.place.overwrite,
        )
        with RunReader(path) as run:
            self._run_id = run.attributes["run_id"]
        if not resume:
            checkpoints.remove()

    def due(self) -> bool:
        """Whether a checkpoint is worth its time, after an epoch; the first process decides.

        Those of a second or more take at most a twentieth of a run.
        """
        worth = self._cost < 1 or time.monotonic() - self._saved > 20 * self._cost
        return self.state.processes.any(worth and self.state.processes.first)

    def save(self) -> None:
        """Write a checkpoint, once everything up to it is in the run file."""
        began = time.monotonic()
        saved = {
            "run": self._run_id,
            "settings": self.settings.as_json(),
            "shown": self.shown,
            "own": self.own,
            **self.state.save(),
        }

        def write() -> None:
            if self.recorder:
                self.recorder.flush()
            self.place.checkpoints.save(self.state.progress.step, saved)

        self.state.processes.lead(write)
        self._saved = time.monotonic()
        self._cost = self._saved - began

    def restore(self) -> bool:
        """Go on from the newest checkpoint of the run that the file holds, if there is one."""
        path, checkpoints = self.place.run_file, self.place.checkpoints
        saved = checkpoints.load(self.state.processes.device)
        if not path.exists():
            if saved is not None:
                raise RunFileError(
                    f"{path}: no such file, but checkpoints of its run are in "
                    f"{checkpoints.folder}: put it back, or remove them"
                )
            return False
        with RunReader(path) as run:
            check_same(run.config, self.settings.as_json(), path)
            run_id, own = run.attributes["run_id"], run.notes.get(OWN_NETWORK)
        if own != self.own:
            raise InvalidArgument(
                f"{path}: network must be that of the run to resume, {_named(own)}, got "
                f"{_named(self.own)}"
            )
        if saved is None:
            return False
        if saved["run"] != run_id:
            raise CheckpointError(f"{checkpoints.folder}: belongs to another run than {path}")
        try:
            self.state.load(saved)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoints.folder}: its newest checkpoint does not fit this network: {error}"
            ) from error
        return True


def _named(structure: str | None) -> str:
    """A network in a few words: its class, and digits that tell its layers from others."""
    if structure is None:
        return "the one that the settings describe"
    return f"{structure.partition(':')[0]} {hashlib.sha256(structure.encode()).hexdigest()[:6]}"
