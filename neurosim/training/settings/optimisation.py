"""How the wake phase moves weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from neurosim.errors import require
from neurosim.training.settings.choices import check_choices

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class OptimisationSettings:
    """How the wake phase moves weights."""

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """AdamW as in the paper, or another."""
    lr: float = 1e-3
    """Learning rate at the start (after warm-up)."""
    weight_decay: float = 1e-2
    """Weight decay."""
    momentum: float = 0.9
    """Momentum of SGD."""
    batch_size: int = 512
    """Images per step, over all processes."""
    epochs: int = 200
    """Passes over the training images."""
    lr_schedule: Literal["steps", "cosine", "constant"] = "steps"
    """"steps" divides the rate by 4 after a half and three quarters of the epochs, as published."""
    warmup: int = 0
    """Epochs in which the rate rises linearly from 0."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    precision: Precision = "float32"
    """Numbers in which layers compute; weights stay in single precision."""
    compile: bool = False
    """Compile the network with torch.compile."""
    patience: int | None = None
    """Stop once top-1 accuracy has not improved for so many epochs."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        check_choices(self)
        require(self.batch_size >= 1, "--batch-size", self.batch_size, ">= 1")
        require(self.epochs >= 1, "--epochs", self.epochs, ">= 1")
        positive = math.isfinite(self.lr) and self.lr > 0
        require(positive, "--lr", self.lr, "finite and > 0")
        require(self.weight_decay >= 0, "--weight-decay", self.weight_decay, ">= 0")
        require(0 <= self.momentum < 1, "--momentum", self.momentum, "at least 0 and below 1")
        require(0 <= self.warmup < self.epochs, "--warmup", self.warmup, "fewer than --epochs")
        smooth = 0 <= self.label_smoothing < 1
        require(smooth, "--label-smoothing", self.label_smoothing, "at least 0 and below 1")
        require(self.patience is None or self.patience >= 1, "--patience", self.patience, ">= 1")
