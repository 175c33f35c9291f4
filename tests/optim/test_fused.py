"""Adam and AdamW on memory as it lies: torch's numbers, without torch's copies."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from neurosim import optim
from neurosim.errors import InvalidArgument
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


def otherwise(weight: Tensor) -> Tensor:
    """The same elements, in torch's usual order of memory."""
    return weight.detach().clone(memory_format=torch.contiguous_format)


@pytest.mark.parametrize("what", ["gradient", "moments", "weight"])
def test_whatever_lies_otherwise_is_taken_as_what_it_is(what: str) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 6).T)
    plain = nn.Parameter(otherwise(weight))
    ours = optim.AdamW([weight], 0.1, fused=True, amsgrad=True)
    theirs = torch.optim.AdamW([plain], 0.1, fused=False, amsgrad=True)
    for step in range(4):
        gradient = torch.randn(4, 6).T
        weight.grad, plain.grad = gradient.clone(), otherwise(gradient)
        if step == 2 and what == "gradient":
            weight.grad = otherwise(gradient)
        elif step == 2 and what == "moments":
            state = ours.state[weight]
            state |= {name: otherwise(state[name]) for name in state.keys() - {"step"}}
        elif step == 2:
            weight.grad = None
            weight.data = otherwise(weight)
            weight.grad = gradient.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(weight, plain, rtol=1e-5, atol=1e-6)


def test_a_weight_with_gaps_is_refused() -> None:
    """torch's step would write to what lies in between."""
    base = torch.zeros(3, 5)
    weight = nn.Parameter(base[:, :3])
    weight.grad = torch.ones(3, 3)
    with pytest.raises(InvalidArgument, match="gaps in memory"):
        optim.AdamW([weight], fused=True).step()
    assert not base.any()


def test_weights_without_gradient_scalars_and_scaled_gradients() -> None:
    """As torch has them: the first stay, the second move, steps with Inf are left out."""
    found = []
    for package in (torch.optim, optim):
        torch.manual_seed(1)
        weights = [nn.Parameter(torch.randn(shape)) for shape in ((), (3, 2), (4,))]
        optimizer = package.AdamW(weights, 0.1, fused=True, amsgrad=True)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        for number in range(3):
            optimizer.zero_grad()
            loss = (weights[0] * weights[1]).square().sum() * (math.inf if number == 1 else 1)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        found.append(weights)
    assert all(map(torch.equal, *found))


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
