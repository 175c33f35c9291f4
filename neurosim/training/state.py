"""Everything that changes while a network is trained: what a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from neurosim.training.distributed import Processes
from neurosim.training.meters import Means


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0  # optimizer steps done
    epoch: int = 0  # epochs done
    sleeps: int = 0  # sleeps done
    measured: int | None = None  # steps done at the last sleep with statistics
    rested: bool = False  # whether it slept since batch norm was last measured again
    best: float = 0.0  # top-1 accuracy of the best epoch
    best_epoch: int = 0


@dataclass
class State:
    """A run at one moment."""

    model: nn.Module
    optimizer: Optimizer
    scaler: torch.amp.GradScaler
    loss: Means  # since the last record
    seen: Means  # loss and top-1 accuracy of training images since the epoch began
    progress: Progress
    processes: Processes

    def save(self) -> dict[str, Any]:
        """Tensors and plain values, from which `load` goes on; to be called by all processes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loss": self.loss.state(),
            "seen": self.seen.state(),
            "progress": asdict(self.progress),
            "random": self.processes.gather(_generators(self.processes.device)),
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what was saved."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.loss.load(saved["loss"])
        self.seen.load(saved["seen"])
        vars(self.progress).update(saved["progress"])
        each = saved["random"]  # the number of processes may be another than before
        _set_generators(each[self.processes.rank % len(each)], self.processes.device)


def _generators(device: torch.device) -> dict[str, Any]:
    """Where torch's random generators are."""
    gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "gpu": gpu}


def _set_generators(state: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if state["gpu"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["gpu"].cpu(), device)
