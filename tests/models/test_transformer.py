"""The transformer with shared and with unshared projections, and how the latter share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scenarios import losses
from torch import Tensor, nn

from neurosim.errors import InvalidArgument
from neurosim.models.transformer import vision_transformer
from neurosim.nn import to_conv
from neurosim.nn.local import LocallyConnected
from neurosim.sleep import Circuit, Hebbian, frame_of, layer_statistics, local_layers, share

SMALL: dict[str, Any] = {
    "classes": 5, "input_size": (8, 12), "patch": 4, "width": 8, "depth": 2, "heads": 2,
    "hidden": 12,
}  # fmt: skip
each_pooling = pytest.mark.parametrize("pooling", ["mean", "class"])


def built(connectivity: str, pooling: str = "mean", **arguments: Any) -> Any:
    torch.manual_seed(0)
    return vision_transformer(connectivity=connectivity, pooling=pooling, **SMALL | arguments)


def images() -> Tensor:
    return torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(1))


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@each_pooling
def test_parameters(pooling: str) -> None:
    patches, width, hidden, depth = 6, 8, 12, 2
    tokens = patches + (pooling == "class")
    embedding = 3 * 16 * width
    projections = depth * (4 * width**2 + 2 * width * hidden)
    biases = width + depth * (4 * width + width + hidden)
    norms = (2 * depth + 1) * 2 * width
    rest = biases + norms + tokens * width + (width + 1) * 5 + (pooling == "class") * width
    assert count(built("shared", pooling)) == embedding + projections + rest
    wanted = patches * embedding + tokens * projections + rest
    assert count(built("local", pooling)) == wanted
    shared, local = (built(c, pooling).state_dict() for c in ("shared", "local"))
    assert list(shared) == list(local)


def test_parameters_of_the_default() -> None:
    """64 tokens of width 64, four blocks with MLPs of 128."""
    block = 4 * 64**2 + 2 * 64 * 128 + 4 * 64 + 64 + 128 + 4 * 64
    wanted = 48 * 64 + 64 + 64 * 64 + 4 * block + 2 * 64 + 65 * 10
    assert count(vision_transformer()) == wanted


def by_hand(model: Any, x: Tensor) -> Tensor:
    """The textbook, token by token, from the parameters of the shared network."""
    width, heads = 8, 2
    p = dict(model.named_parameters())
    patches = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 6, -1)
    t = patches @ p["embed.weight"].reshape(width, -1).T + p["embed.bias"]
    if model.class_token is not None:
        t = torch.cat([p["class_token"].T.expand(len(x), 1, width), t], 1)
    t = t + p["positions"].T

    def linear(t: Tensor, name: str) -> Tensor:
        return t @ p[f"{name}.weight"][..., 0].T + p[f"{name}.bias"]

    def norm(t: Tensor, name: str) -> Tensor:
        centred = t - t.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return centred / scale * p[f"{name}.weight"] + p[f"{name}.bias"]

    for block in ("blocks.0", "blocks.1"):
        q, k, v = linear(norm(t, f"{block}.norm1"), f"{block}.attention.qkv").split(width, -1)
        mixed = []
        for h in range(heads):
            part = slice(h * width // heads, (h + 1) * width // heads)
            score = q[..., part] @ k[..., part].mT / (width / heads) ** 0.5
            mixed.append(score.softmax(-1) @ v[..., part])
        t = t + linear(torch.cat(mixed, -1), f"{block}.attention.out")
        inner = linear(norm(t, f"{block}.norm2"), f"{block}.mlp.0")
        t = t + linear(nn.functional.gelu(inner), f"{block}.mlp.2")
    t = norm(t, "norm")
    pooled = t.mean(1) if model.class_token is None else t[:, 0]
    return pooled @ p["fc.weight"].T + p["fc.bias"]


@each_pooling
def test_it_is_a_transformer(pooling: str) -> None:
    model = built("shared", pooling)
    torch.testing.assert_close(model(images()), by_hand(model, images()), rtol=1e-4, atol=1e-5)


@each_pooling
def test_equal_matrices_compute_what_a_shared_one_does(pooling: str) -> None:
    shared, local = built("shared", pooling), built("local", pooling, init="copy")
    assert all(layer_statistics(layer).spread < 1e-7 for layer in local_layers(local).values())
    torch.testing.assert_close(local(images()), shared(images()), rtol=1e-4, atol=1e-5)
    different = built("local", pooling)
    assert not torch.allclose(different(images()), shared(images()), atol=1e-2)


@each_pooling
def test_after_a_sleep_it_is_the_shared_network_of_mean_matrices(pooling: str) -> None:
    local = built("local", pooling)
    shared, _ = to_conv(local)
    before = (local(images()) - shared(images())).abs().max()
    slept = share(local)
    assert len(slept) == 1 + 2 * 4
    for name, layer in local_layers(local).items():
        assert frame_of(layer).period == (1,) * layer.axes  # all tokens are one grid
        assert len(frame_of(layer).members) == 1
        assert slept[name].after.spread < 1e-6
    torch.testing.assert_close(local(images()), shared(images()), rtol=1e-4, atol=1e-5)
    assert before > 0.1


@pytest.mark.parametrize("mechanism", [Hebbian(steps=30, batch=32), Circuit(presentations=1500)])
def test_projections_sleep_by_the_circuit_too(mechanism: Any) -> None:
    local = built("local", init=0.3)
    for found in share(local, mechanism).values():
        assert found.after.spread < 0.4 * found.before.spread


@each_pooling
@pytest.mark.parametrize("connectivity", ["shared", "local"])
def test_it_learns(connectivity: str, pooling: str) -> None:
    target = torch.tensor([0, 3, 4])
    found = losses(built(connectivity, pooling), images(), target, lr=3e-3, steps=12)
    assert found[-1] < 0.5 * found[0]


def test_some_projections_may_stay_shared() -> None:
    model = built("local", skip="blocks.*.attention.*")
    local = {name for name, m in model.named_modules() if isinstance(m, LocallyConnected)}
    assert local == {"embed", *(f"blocks.{b}.mlp.{i}" for b in (0, 1) for i in (0, 2))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"connectivity": "conv"}, "connectivity must be one of shared, local, got 'conv'"),
        ({"pooling": "max"}, "pooling must be one of mean, class, got 'max'"),
        ({"input_size": 30}, "input_size must be one or two multiples of patch = 4, got 30"),
        ({"input_size": (32, 0)}, "input_size must be a whole number >= 1 or two of them"),
        ({"heads": 5}, "heads must be a divisor of width = 64, got 5"),
        ({"depth": 0}, "depth must be a whole number >= 1, got 0"),
        ({"width": 8.0}, "width must be a whole number >= 1, got 8.0"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        vision_transformer(**arguments)
