"""Loss and accuracy over a whole set, and batch norm measured again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from neurosim.nn.modes import modes_kept
from neurosim.training.distributed import Processes


@dataclass(frozen=True)
class Evaluation:
    """How well a network does on a set."""

    loss: float
    top1: float
    top5: float
    images: int


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    processes: Processes | None = None,
    precision: torch.dtype | None = None,
) -> Evaluation:
    """Mean loss, top-1 and top-5 accuracy in evaluation mode, over the processes' shares."""
    processes = processes or Processes()
    device = processes.device
    sums, images = torch.zeros(3, dtype=torch.float64, device=device), 0  # loss, top-1, top-5
    with modes_kept(model):
        model.eval()
        for x, y in batches:
            with torch.autocast(device.type, precision, enabled=precision is not None):
                logits = model(x)
            logits = logits.float()
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
            loss = cross_entropy(logits, y, reduction="sum")
            sums += torch.stack([loss, best[:, 0].sum(), best.any(1).sum()])
            images += len(y)
    total = processes.sum(torch.cat([sums, sums.new_tensor([images])]))
    loss, top1, top5, count = total.tolist()
    return Evaluation(loss / count, top1 / count, top5 / count, int(count))


@torch.no_grad()
def recalibrate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], precision: torch.dtype | None = None
) -> None:
    """Measure batch norm's running statistics again, as the plain mean over `batches`.

    Layers that are in evaluation mode within a network that is trained keep theirs.
    """
    with modes_kept(model):
        if not model.training:
            model.train()
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a cumulative mean
        for x, _ in batches:
            with torch.autocast(x.device.type, precision, enabled=precision is not None):
                model(x)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
