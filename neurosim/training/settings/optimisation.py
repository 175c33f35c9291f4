"""How the wake phase moves weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from neurosim.errors import InvalidArgument, option, require
from neurosim.training.settings.values import check_values

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class OptimisationSettings:
    """How the wake phase moves weights."""

    optimizer: Literal["adamw", "adam", "sgd", "beta-lasso"] = "adamw"
    """AdamW as in the paper, or another; beta-LASSO is SGD that leaves no small weight."""
    lr: float = 1e-3
    """Learning rate at the start (after warm-up)."""
    weight_decay: float = 1e-2
    """Weight decay."""
    momentum: float = 0.9
    """Momentum of SGD (and of beta-LASSO, which had none in its paper)."""
    l1: float = 0.0
    """Penalty on weights, for beta-LASSO."""
    l1_first: float | None = None
    """Penalty on the weights of the first layer (default: as for all)."""
    beta: float = 50.0
    """Multiple of the penalty below which beta-LASSO sets weights to zero."""
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
    """Numbers in which layers compute; weights stay in single precision. A GPU is much faster in
    bfloat16."""
    compile: bool = False
    """Compile the network with torch.compile."""
    cuda_graphs: bool = False
    """Replay what was compiled as CUDA graphs: no time is lost to start its many kernels."""
    step_in_backward: bool = False
    """Move weights as soon as their gradients are there, and drop those, which saves memory."""
    patience: int | None = None
    """Stop once top-1 accuracy has not improved for so many epochs."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        check_values(self)
        require(self.batch_size >= 1, "--batch-size", self.batch_size, ">= 1")
        require(self.epochs >= 1, "--epochs", self.epochs, ">= 1")
        positive = math.isfinite(self.lr) and self.lr > 0
        require(positive, "--lr", self.lr, "finite and > 0")
        require(self.weight_decay >= 0, "--weight-decay", self.weight_decay, ">= 0")
        require(0 <= self.momentum < 1, "--momentum", self.momentum, "at least 0 and below 1")
        self._check_lasso()
        require(0 <= self.warmup < self.epochs, "--warmup", self.warmup, "fewer than --epochs")
        smooth = 0 <= self.label_smoothing < 1
        require(smooth, "--label-smoothing", self.label_smoothing, "at least 0 and below 1")
        graphs = self.compile or not self.cuda_graphs
        require(graphs, "--cuda-graphs", self.cuda_graphs, "left out without --compile")
        self._check_in_backward()
        require(self.patience is None or self.patience >= 1, "--patience", self.patience, ">= 1")

    def _check_in_backward(self) -> None:
        """Refuse what needs all gradients, or makes them all at once."""
        together = {
            "--precision float16, which scales them together": self.precision == "float16",
            "--compile, which makes them all at once": self.compile,
        }
        for what, given in together.items():
            if self.step_in_backward and given:
                raise InvalidArgument(
                    f"--step-in-backward drops gradients one by one: leave out it or {what}"
                )

    def _check_lasso(self) -> None:
        """Refuse what the optimizer would not look at."""
        plain = OptimisationSettings()
        for name, known in {"momentum": ("sgd", "beta-lasso"), "beta": ("beta-lasso",)}.items():
            value = getattr(self, name)
            means = self.optimizer in known or value in (getattr(plain, name), 0)
            require(means, option(name), value, f"left out for --optimizer {self.optimizer}")
        for name in ("l1", "l1_first", "beta"):
            value = getattr(self, name)
            allowed = value is None or 0 <= value < math.inf
            require(allowed, option(name), value, "finite and >= 0")
            means = self.optimizer == "beta-lasso" or name == "beta" or not value
            require(means, option(name), value, f"left out for --optimizer {self.optimizer}")
        if self.optimizer == "beta-lasso":
            decay = self.weight_decay
            require(decay == 0, "--weight-decay", decay, "0 for --optimizer beta-lasso")
