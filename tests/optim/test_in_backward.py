"""Steps within the backward pass: the same weights, and never two gradients at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from neurosim.models import resnet20
from neurosim.nn import LocallyConnected2d
from neurosim.optim import Adam, AdamW, BetaLasso, step_in_backward

OPTIMIZERS: dict[str, Callable[[Any], Optimizer]] = {
    "adamw": lambda ps: AdamW(ps, 1e-2, weight_decay=0.1, fused=True),
    "adam": lambda ps: Adam(ps, 1e-2),
    "sgd": lambda ps: SGD(ps, 1e-2, momentum=0.9, fused=True),
    "beta-lasso": lambda ps: BetaLasso(ps, 1e-2, 1e-4, momentum=0.5),
}


class Reused(nn.Module):
    """A parameter that is used at two places, one that is never used, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.local = LocallyConnected2d(2, 2, 3, 6, padding=1, bias="position")
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(72, 5)
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.full((2, 1, 1), 0.5), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2, 6, 6) -> (N, 5)."""
        return self.head(self.local(self.norm(self.local(x)).relu() + self.frozen).flatten(1))


def trained(model: nn.Module, optimizer: Optimizer, shape: tuple[int, ...], *, split: bool) -> None:
    drawn = torch.Generator().manual_seed(1)
    handles = step_in_backward(optimizer) if split else []
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(shape, generator=drawn)).square().mean().backward()
        if split:
            assert all(p.grad is None for p in model.parameters())
        optimizer.step()
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("make", "shape"), [(Reused, (4, 2, 6, 6)), (lambda: resnet20(5, "local", 8), (2, 3, 8, 8))]
)
def test_weights_are_the_same(
    name: str, make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    together = make()
    torch.manual_seed(0)
    one_by_one = make()
    ends = []
    for model, split in ((together, False), (one_by_one, True)):
        optimizer = OPTIMIZERS[name](model.parameters())
        trained(model, optimizer, shape, split=split)
        ends.append((model.state_dict(), optimizer.state_dict()["state"]))
    torch.testing.assert_close(ends[1], ends[0], rtol=0, atol=0)


def test_one_gradient_at_a_time() -> None:
    """When a weight moves, all others have theirs still to come, or behind them."""
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(5)))
    optimizer, alive = AdamW(model.parameters(), 1e-2), []
    optimizer.register_step_pre_hook(
        lambda *_: alive.append([p.grad is not None for p in model.parameters()])
    )
    handles = step_in_backward(optimizer)
    model(torch.ones(2, 4)).sum().backward()
    assert alive == [[i == moved for i in range(5)] for moved in reversed(range(5))]

    for handle in handles:
        handle.remove()
    model(torch.ones(2, 4)).sum().backward()
    assert len(alive) == 5
    assert all(p.grad is not None for p in model.parameters())


def test_settings_are_those_of_the_moment() -> None:
    """Also after a checkpoint was loaded, which gives an optimizer new groups."""
    first, second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = SGD([{"params": [first], "lr": 1.0}, {"params": [second], "lr": 2.0}])
    step_in_backward(optimizer)
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.param_groups[1]["lr"] = 5.0
    (first + second).sum().backward()
    assert (first.item(), second.item()) == (0.0, -4.0)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]


def test_beta_lasso_still_warns_of_emptied_layers() -> None:
    layers = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(3))
    for layer, value in zip(layers, (1.0, 1e-3, 1.0), strict=True):
        nn.init.constant_(layer.weight, value)  # type: ignore[arg-type]
    step_in_backward(BetaLasso(layers.parameters(), 1e-6, 1e-3, beta=50.0))
    with pytest.warns(UserWarning, match="all 9 weights of shape") as caught:
        sum(layer(torch.ones(1, 3)).sum() for layer in layers).backward()  # type: ignore[union-attr]
    assert len(caught) == 1
