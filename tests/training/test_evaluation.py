"""Loss and accuracies over a whole set, and batch norm measured again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neurosim.training.evaluation import evaluate, recalibrate

Batches = list[tuple[Tensor, Tensor]]


def batches_of(x: Tensor, y: Tensor, size: int) -> Batches:
    return list(zip(x.split(size), y.split(size), strict=True))


@pytest.mark.parametrize("classes", [2, 5, 8])
@pytest.mark.parametrize("size", [1, 7, 30, 64])
def test_evaluation(classes: int, size: int) -> None:
    """Whatever the batches are, and with fewer classes than five."""
    torch.manual_seed(0)
    x, y = torch.randn(64, classes), torch.randint(classes, (64,))
    model = nn.Sequential(nn.Identity(), nn.Dropout(0.9))
    found = evaluate(model, batches_of(x, y, size))
    ranks = [int((row > row[label]).sum()) for row, label in zip(x, y, strict=True)]
    assert found.top1 == sum(rank < 1 for rank in ranks) / 64
    assert found.top5 == sum(rank < 5 for rank in ranks) / 64
    losses = [-float(row.log_softmax(0)[label]) for row, label in zip(x, y, strict=True)]
    assert found.loss == pytest.approx(sum(losses) / 64, rel=1e-6)
    assert found.images == 64
    assert model.training  # as before


def test_recalibration() -> None:
    """The plain mean of the batches' means and unbiased variances; nothing else changes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, momentum=0.1), nn.Flatten())
    images = [(torch.randn(size, 2, 4, 4) * 3 + 1, torch.zeros(size)) for size in (5, 5, 3)]
    for x, _ in images:
        model(x)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    recalibrate(model, images)
    seen = [model[0](x).transpose(0, 1).flatten(1) for x, _ in images]
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    expected = torch.stack([values.mean(1) for values in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, expected)
    expected = torch.stack([values.var(1) for values in seen]).mean(0)
    torch.testing.assert_close(norm.running_var, expected)
    assert norm.momentum == 0.1
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        assert torch.equal(parameter, weight)
