"""Adam and AdamW on memory as it lies: torch's numbers, without torch's copies."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from neurosim import optim
from neurosim.nn import LocallyConnected2d

each_kind = pytest.mark.parametrize("kind", ["Adam", "AdamW"])


def network() -> nn.Module:
    torch.manual_seed(0)
    conv: Any = nn.Conv2d(8, 6, 3)
    return nn.Sequential(
        LocallyConnected2d(3, 8, 3, 8, padding=1),
        nn.ReLU(),
        conv.to(memory_format=torch.channels_last),
        nn.Flatten(),
        nn.Linear(6 * 36, 5),
    )


def losses(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[Tensor]:
    x = torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return found


@each_kind
@pytest.mark.parametrize("amsgrad", [False, True])
def test_numbers_are_those_of_torch(kind: str, amsgrad: bool) -> None:
    settings = {"lr": 1e-2, "weight_decay": 0.1, "amsgrad": amsgrad, "fused": True}
    theirs, ours = network(), network()
    losses(theirs, getattr(torch.optim, kind)(theirs.parameters(), **settings), 5)
    losses(ours, getattr(optim, kind)(ours.parameters(), **settings), 5)
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()


@each_kind
def test_state_can_be_exchanged_with_torch(kind: str) -> None:
    model = network()
    ours = getattr(optim, kind)(model.parameters(), fused=True)
    losses(model, ours, 3)
    twin = copy.deepcopy(model)
    theirs = getattr(torch.optim, kind)(twin.parameters(), fused=True)
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert all(map(torch.equal, losses(model, ours, 3), losses(twin, theirs, 3)))


def test_a_gradient_that_lies_otherwise_than_its_weight_is_taken_as_what_it_is() -> None:
    weight = nn.Parameter(torch.randn(4, 6).T)
    wanted = nn.Parameter(weight.detach().clone())
    weight.grad = torch.randn(6, 4)
    wanted.grad = weight.grad.clone()
    optim.AdamW([weight], fused=True).step()
    torch.optim.AdamW([wanted], fused=False).step()
    torch.testing.assert_close(weight, wanted, rtol=1e-6, atol=1e-7)


@each_kind
def test_no_gradient_is_copied(kind: str) -> None:
    """As torch's own step does with one whose strides are not those of its shape."""
    copied = {}
    for package in (torch.optim, optim):
        model = network()
        optimizer = getattr(package, kind)(model.parameters(), fused=True)
        losses(model, optimizer, 1)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
            optimizer.step()
        sizes = [e.input_shapes for e in recorded.events() or () if e.name == "aten::copy_"]
        copied[package] = [shape for shape, *_ in sizes if len(shape) > 1]
    assert copied[optim] == []
    if not copied[torch.optim]:
        pytest.skip("this torch does not copy: `neurosim.optim.fused` is not needed any more")
