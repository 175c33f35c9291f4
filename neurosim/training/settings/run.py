"""A whole training run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, get_type_hints

from neurosim.errors import InvalidArgument, require, require_instance
from neurosim.recording.values import as_json
from neurosim.training.settings.data import DataSettings
from neurosim.training.settings.network import NetworkSettings
from neurosim.training.settings.optimisation import OptimisationSettings
from neurosim.training.settings.record import RecordSettings
from neurosim.training.settings.sleep import SleepSettings


@dataclass(frozen=True)
class TrainSettings:
    """A training run, but for where it runs and where its results go."""

    data: DataSettings = field(default_factory=DataSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    optimisation: OptimisationSettings = field(default_factory=OptimisationSettings)
    sleep: SleepSettings = field(default_factory=SleepSettings)
    record: RecordSettings = field(default_factory=RecordSettings)
    seed: int = 0

    def check(self) -> None:
        """Refuse what makes no sense, before anything is loaded."""
        for name, hint in get_type_hints(type(self)).items():
            require_instance(name, getattr(self, name), hint)
        require(0 <= self.seed < 2**63, "--seed", self.seed, ">= 0 and below 2^63")
        for group in (self.data, self.network, self.optimisation, self.record):
            group.check()
        batch, repetitions = self.optimisation.batch_size, self.data.repetitions
        allowed = f"divisible by --repetitions = {repetitions}"
        require(batch % repetitions == 0, "--batch-size", batch, allowed)
        if self.sleep.build() is not None and self.network.connectivity != "local":
            kind = self.network.connectivity
            why = {
                "conv": "whose filters are shared anyway",
                "dense": "which has no filters",
                "low-rank": "whose filters are mixtures of a few shared ones",
            }
            raise InvalidArgument(
                f"--sleep must be none for --connectivity {kind}, {why[kind]}, got "
                f"{self.sleep.sleep}"
            )

        if self.optimisation.step_in_backward and self.record.gradients:
            raise InvalidArgument(
                "--step-in-backward drops gradients one by one: leave out it or --gradients, which "
                "records them"
            )

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON has them, without what does not change results."""
        values = asdict(self)
        values["data"].pop("data")
        return json.loads(as_json(values))
