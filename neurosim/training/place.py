"""Where a run happens, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neurosim.errors import InvalidArgument, require
from neurosim.training.checkpoint import Checkpoints
from neurosim.training.evaluation import Evaluation


@dataclass(frozen=True)
class Place:
    """Where a run happens and where its results go."""

    run_file: Path
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False
    live: bool = True
    """In a terminal, keep progress on one line; runs that share a terminal cannot."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; None for one after every epoch, or fewer where they take long."""
    keep: int = 2
    """Checkpoints that stay."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "run_file", Path(self.run_file))

    def check(self) -> None:
        """Refuse what makes no sense."""
        every = self.checkpoint_every
        require(every is None or every >= 1, "--checkpoint-every", every, ">= 1")
        require(self.keep >= 1, "--keep", self.keep, ">= 1")
        if self.resume and self.overwrite:
            raise InvalidArgument("--resume and --overwrite exclude each other: give one")

    @property
    def checkpoints(self) -> Checkpoints:
        """The folder beside the run file."""
        name = self.run_file.name.removesuffix(".h5")  # what else has a dot is a name: lr0.1
        return Checkpoints(self.run_file.with_name(f"{name}.checkpoints"), self.keep)


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    run_file: Path
    final: Evaluation
    best: float  # top-1 accuracy of the best epoch
    epochs: int
    steps: int
    seconds: float  # of training, since the start or the last resumption
    step_seconds: float  # of one step, sleeps and recording included, evaluation not
