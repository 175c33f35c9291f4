"""Training runs: a point is one network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.training import training_curves
from experiments.commands.train import run
from experiments.common.variants import finished
from neurosim.errors import RunFileError
from neurosim.recording import RunReader
from neurosim.sweeps.options import Config, arguments
from neurosim.training import Place, TrainSettings, train


@dataclass(frozen=True)
class Train:
    """One training run, which goes on where a killed one left off."""

    @property
    def function(self) -> Callable[..., Any]:
        """The command, whose options these are."""
        return run

    def settings(self, config: Config) -> tuple[TrainSettings, str]:
        """What is trained, and on which device."""
        groups = arguments(self.function, config)
        options = groups.pop("options")
        return TrainSettings(**groups, seed=options.seeds[0]), options.device

    def check(self, config: Config, thorough: bool) -> None:
        """Refuse what makes no sense."""
        self.settings(config)[0].check()

    def __call__(self, config: Config, place: Path) -> dict[str, Any]:
        """Train, and say how well it ended."""
        return trained(*self.settings(config), place.with_suffix(".h5"))


def trained(settings: TrainSettings, device: str, path: Path) -> dict[str, Any]:
    """The end of a run: finished before, resumed, or trained now."""
    if not (path.exists() and finished(path, settings)):
        place = Place(path, device=device, resume=path.exists(), quiet=True, keep=1)
        try:
            train(settings, place)
        except RunFileError:  # its writer is on a machine that is lost, or it never began
            train(settings, replace(place, resume=False, overwrite=True))
        place.checkpoints.remove()
    with RunReader(path) as run:
        curves = training_curves(run)
    ends = {name: float(getattr(curves, name)[-1]) for name in ("top1", "top5", "test_loss")}
    took = {"epochs": int(curves.epochs[-1]), "training_seconds": float(curves.seconds[-1])}
    return {**ends, "lowest_snr": curves.lowest_snr, **took}
