"""Optimizers, and the learning rate as a function of time."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import SGD, Optimizer

from neurosim.errors import InvalidArgument
from neurosim.optim import Adam, AdamW, BetaLasso, lasso_groups
from neurosim.training.settings import OptimisationSettings


def learning_rate(settings: OptimisationSettings, epoch: float) -> float:
    """The rate at a moment, in epochs: it has no state, so that a resumed run has nothing to find.

    steps:   lr / 4 from half of the epochs on, lr / 16 from three quarters on (App. B)
    cosine:  lr (1 + cos(pi t)) / 2, with t the share of the time after warm-up
    """
    if epoch < settings.warmup:
        return settings.lr * epoch / settings.warmup
    if settings.lr_schedule == "constant":
        return settings.lr
    if settings.lr_schedule == "steps":
        done = epoch / settings.epochs
        return settings.lr / 4 ** ((done >= 0.5) + (done >= 0.75))
    passed = (epoch - settings.warmup) / (settings.epochs - settings.warmup)
    return settings.lr * (1 + math.cos(math.pi * passed)) / 2


def build_optimizer(settings: OptimisationSettings, model: nn.Module) -> Optimizer:
    """The optimizer; fused, which reads and writes every parameter once a step."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise InvalidArgument("network must have parameters to train, but all of it are frozen")
    lr, decay = settings.lr, settings.weight_decay
    if settings.optimizer == "beta-lasso":
        groups = lasso_groups(model, settings.l1, settings.l1_first)
        return BetaLasso(groups, lr, settings.l1, settings.beta, settings.momentum)
    if settings.optimizer == "sgd":
        return SGD(trained, lr, momentum=settings.momentum, weight_decay=decay, fused=True)
    kind = AdamW if settings.optimizer == "adamw" else Adam
    return kind(trained, lr, weight_decay=decay, fused=True)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Use this rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = rate
