"""Derivatives in forward mode and by torch.func: right, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected1d, LocallyConnected2d, LocallyConnected3d, LowRankLocal2d

LAYERS: dict[str, Callable[..., Any]] = {
    "1d": lambda **more: LocallyConnected1d(2, 3, 3, 6, padding=1, **more),
    "2d": lambda **more: LocallyConnected2d(2, 4, 3, 5, stride=2, groups=2, **more),
    "3d": lambda **more: LocallyConnected3d(2, 3, 2, 3, bias="position", **more),
}
each_layer = pytest.mark.parametrize("kind", LAYERS)


def made(kind: str, **more: Any) -> tuple[Any, Tensor, Tensor]:
    """A layer, an input and a direction."""
    torch.manual_seed(0)
    layer = LAYERS[kind](dtype=torch.float64, **more)
    x = torch.randn(2, layer.in_channels, *layer.input_size, dtype=torch.float64)
    return layer, x, torch.randn_like(x)


@each_layer
def test_forward_mode(kind: str) -> None:
    """Along a direction the output changes as between two close inputs: it is linear in both."""
    layer, x, v = made(kind)
    step = torch.randn_like(layer.weight)
    by_input = layer(x + v) - layer(x)
    moved = LAYERS[kind](dtype=torch.float64)
    moved.load_state_dict({**layer.state_dict(), "weight": layer.weight + step})
    by_weight = moved(x) - layer(x)

    found = torch.func.jvp(layer, (x,), (v,))[1]
    torch.testing.assert_close(found, by_input)
    with forward_ad.dual_level():
        out = layer(forward_ad.make_dual(x, v))
        torch.testing.assert_close(forward_ad.unpack_dual(out).tangent, by_input)
    weights = dict(layer.named_parameters())
    steps = {n: step if n == "weight" else torch.zeros_like(p) for n, p in weights.items()}
    call = lambda values: torch.func.functional_call(layer, values, (x,))  # noqa: E731
    found = torch.func.jvp(call, (weights,), (steps,))[1]
    torch.testing.assert_close(found, by_weight)


@each_layer
def test_functions_of_functions(kind: str) -> None:
    """Jacobians both ways, second derivatives, gradients of every sample: all as autograd's."""
    layer, x, _ = made(kind)
    loss = lambda x: layer(x).tanh().square().sum()  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(layer, x)
    for transform in (torch.func.jacfwd, torch.func.jacrev):
        torch.testing.assert_close(transform(layer)(x), jacobian)
    small = x[:1]
    wanted = torch.autograd.functional.hessian(loss, small)
    torch.testing.assert_close(torch.func.hessian(loss)(small), wanted)
    each = torch.vmap(torch.func.grad(lambda one: loss(one[None])))(x)
    (wanted,) = torch.autograd.grad(loss(x.requires_grad_()), x)
    torch.testing.assert_close(each, wanted)


def test_a_network_of_layers() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        LocallyConnected2d(1, 3, 3, 6, dtype=torch.float64), nn.Tanh(),
        LocallyConnected2d(3, 2, 3, 4, dtype=torch.float64),
    )  # fmt: skip
    x, v = (
        torch.randn(2, 1, 6, 6, dtype=torch.float64),
        torch.randn(2, 1, 6, 6, dtype=torch.float64),
    )
    found = torch.func.jvp(network, (x,), (v,))[1]
    torch.testing.assert_close(found, torch.autograd.functional.jvp(network, x, v)[1])


@pytest.mark.parametrize("backend", ["matmul", "cpu"])
def test_a_backend_that_was_asked_for_says_that_it_cannot(backend: str) -> None:
    layer, x, v = made("2d", backend=backend)
    with pytest.raises(InvalidArgument, match=f'"{backend}" cannot run: it is unknown to torch.f'):
        torch.func.jvp(layer, (x,), (v,))
    assert torch.vmap(layer)(x[None]).shape == (1, *layer(x).shape)  # which needs no derivative


# Low-rank layers

LOW_RANK: dict[str, dict[str, Any]] = {
    "wide": {"form": "wide"},
    "local": {"form": "local"},
    "by input": {"input_dependent": True},
}


def low_rank(kind: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    layer = LowRankLocal2d(2, 3, 3, 5, 2, padding=1, dtype=torch.float64, **LOW_RANK[kind])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer, torch.randn(4, 2, 5, 5, dtype=torch.float64, requires_grad=True)


def naive(layer: Any) -> Any:
    twin = deepcopy(layer)
    twin.form = "naive"
    return twin


@pytest.mark.parametrize("kind", LOW_RANK)
def test_derivatives_of_derivatives(kind: str) -> None:
    """A penalty on gradients, as in adversarial training, differentiates them once more."""
    layer, x = low_rank(kind)
    found = []
    for each in (layer, naive(layer)):
        y = each(x)
        (to_x,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        loss = y.square().mean() + to_x.square().sum()
        found.append(torch.autograd.grad(loss, [x, *each.parameters()], allow_unused=True))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", LOW_RANK)
def test_low_rank_forward_mode(kind: str) -> None:
    layer, x = low_rank(kind)
    layer.form = "auto"
    v = torch.randn_like(x)
    found = torch.func.jvp(layer, (x.detach(),), (v,))[1]
    torch.testing.assert_close(found, torch.autograd.functional.jvp(layer, x.detach(), v)[1])
    if kind != "by input":
        layer.form = kind
        with pytest.raises(InvalidArgument, match=f'form "{kind}" is unknown to torch.func'):
            torch.func.jvp(layer, (x.detach(),), (v,))


@pytest.mark.parametrize("how", [{}, {"input_dependent": True}])
@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_layers_of_many_examples(rank: int, how: dict[str, bool]) -> None:
    layer = LowRankLocal2d(2, 3, 3, (6, 5), rank, padding=1, **how)
    x = torch.randn(4, 2, 6, 5)
    found = torch.func.vmap(lambda one: layer(one[None])[0])(x)
    torch.testing.assert_close(found, layer(x), atol=1e-5, rtol=1e-5)
