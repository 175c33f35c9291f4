"""Absent connections stay absent in what their layer becomes, or it is refused by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neurosim import nn as local_nn
from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d, LowRankLocal2d, SparseLinear
from neurosim.nn.local import LocallyConnected
from neurosim.nn.masked import mask_of, set_pattern, sever_inputs, sever_weights

to_local: Any = local_nn.to_local  # any attribute may be asked of what comes back
to_conv: Any = local_nn.to_conv
to_dense: Any = local_nn.to_dense
to_low_rank: Any = local_nn.to_low_rank
to_sparse: Any = local_nn.to_sparse

SIZE = (5, 4)
X = torch.randn(3, 2, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strided": {"kernel_size": (2, 3), "stride": (2, 1), "padding": 1, "bias": False},
    "grouped": {"groups": 2, "dilation": (2, 1), "padding": 1},
    "circular": {"padding": 2, "padding_mode": "circular"},
    "reflected": {"padding": 1, "padding_mode": "reflect", "stride": 2},
}


def conv(name: str = "plain") -> nn.Module:
    return nn.Conv2d(2, 4, **{"kernel_size": 3, **CONVOLUTIONS[name]}, dtype=torch.float64)


def local(name: str = "plain") -> LocallyConnected:
    """With the same filters everywhere, so that its convolution has the same outputs."""
    return to_local(conv(name), SIZE, init="copy")


def dense(name: str = "plain") -> nn.Module:
    return to_dense(conv(name), SIZE)


# What becomes what. `Dense` layers are local again where every input is seen once.
WRAPPED = ("circular", "reflected")
Case = tuple[Callable[[], Any], Callable[[Any], Any]]
EXACT: dict[str, Case] = {}
for name in CONVOLUTIONS:
    made = {kind: partial(kind, name) for kind in (conv, local, dense)}
    EXACT |= {
        f"{name} conv to local": (made[conv], lambda m: to_local(m, SIZE, init="copy")),
        f"{name} local to conv": (made[local], lambda m: to_conv(m)[0]),
        f"{name} conv to dense": (made[conv], lambda m: to_dense(m, SIZE)),
        f"{name} local to dense": (made[local], lambda m: to_dense(m, X)),
    }
    if name not in WRAPPED:
        EXACT[f"{name} dense to local"] = (made[dense], lambda m: to_local(m, X, init="copy"))
EXACT |= {
    "dense to sparse": (dense, lambda m: to_sparse(m, 1.0)),
    "linear to sparse": (lambda: nn.Linear(4, 3, dtype=torch.float64), lambda m: to_sparse(m, 1.0)),
}
PATTERNS = ("weights", "inputs", "both")
each_pattern = pytest.mark.parametrize("what", PATTERNS)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def severed(layer: Any, what: str) -> Any:
    """Of locally connected layers in the pattern of a convolution, which has a form of it."""
    if what != "inputs" and isinstance(layer, LocallyConnected):
        shared = torch.rand(layer.weight.shape[2:]) >= 0.4
        set_pattern(layer, weights=shared)
    elif what != "inputs":
        sever_weights(layer, 0.4)
    if what != "weights":
        sever_inputs(layer, 0.3, SIZE if isinstance(layer, nn.Conv2d) else None)
    return layer


def network(layer: Any) -> Any:
    return nn.Sequential(nn.Identity(), layer)


def matrix(model: Any, x: Tensor) -> Tensor:
    """How every output depends on every input, as a matrix."""
    y = model(x[None])[0]
    found = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], x)
    return found.reshape(y.numel(), x.numel())  # type: ignore[union-attr]


def with_ones(layer: Any) -> Any:
    with torch.no_grad():
        layer.weight.fill_(1)
    return layer


@pytest.mark.parametrize("name", EXACT)
@each_pattern
def test_equal_outputs_and_the_pattern_holds_while_training(name: str, what: str) -> None:
    build, convert = EXACT[name]
    model = network(severed(build(), what))
    x = torch.randn(3, 4, dtype=torch.float64) if name.startswith("linear") else X
    converted = convert(model)
    assert type(converted[1]) is not type(model[1])
    torch.testing.assert_close(converted(x), model(x))
    whole = matrix(with_ones(build()), x[0])
    absent = (whole != 0) & (matrix(with_ones(model[1]), x[0]) == 0)
    assert absent.any()
    before = matrix(converted, x[0])
    assert (before[absent] == 0).all()
    if isinstance(converted[1], SparseLinear):
        return  # for inference
    optimizer = torch.optim.SGD(converted.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        converted(x).square().sum().backward()
        optimizer.step()
    after = matrix(converted, x[0])
    assert (after[absent] == 0).all()
    assert (after != before).any()
    mask, weight = mask_of(converted[1]), converted[1].weight
    if mask is not None:  # of a convolution none is for its inputs
        assert not mask.all()
        assert (weight[~mask.expand_as(weight)] == 0).all()


@pytest.mark.parametrize("name", ["conv to dense", "local to dense", "dense to local"])
@each_pattern
def test_drawn_anew_the_pattern_stays(name: str, what: str) -> None:
    build = EXACT[f"plain {name}"][0]
    model = network(severed(build(), what))
    convert = to_local if name == "dense to local" else to_dense
    converted = convert(model, X, init="independent")
    whole = matrix(with_ones(build()), X[0])
    absent = (whole != 0) & (matrix(with_ones(model[1]), X[0]) == 0)
    assert (matrix(converted, X[0])[absent] == 0).all()


def test_a_low_rank_layer_may_have_absent_inputs() -> None:
    layer = sever_inputs(LowRankLocal2d(2, 4, 3, SIZE, 2, dtype=torch.float64), 0.3)
    layer.requires_grad_(False)
    converted = to_local(network(layer), X)
    torch.testing.assert_close(converted(X), layer(X))
    assert torch.equal(converted[1].present_inputs, layer.present_inputs)
    assert not any(parameter.requires_grad for parameter in converted.parameters())


@pytest.mark.parametrize("kind", [conv, local])
@each_pattern
def test_low_rank_layers_have_no_patterns(kind: Callable[[], Any], what: str) -> None:
    model = network(severed(kind(), what))
    message = f"layer '1' must have all its connections .* {type(model[1]).__name__} with absent"
    with pytest.raises(InvalidArgument, match=message):
        to_low_rank(model, X, 2)
    if isinstance(model[1], LocallyConnected2d):
        with pytest.raises(InvalidArgument, match="must have all its connections"):
            local_nn.low_rank_of(model[1], 2)


def test_hooks_stay_and_can_be_removed() -> None:
    layer, seen = severed(conv(), "inputs"), []
    handle = layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    model = network(layer)
    for convert in (
        lambda: to_local(model, SIZE, init="copy", inplace=True),
        lambda: to_dense(model, X, inplace=True),
    ):
        convert()
        seen.clear()
        model(X)
        assert seen == ["before"]
        assert len(layer._forward_pre_hooks) == 2
    to_sparse(model, 1.0, inplace=True)
    assert len(layer._forward_pre_hooks) == 1
    handle.remove()
    assert not layer._forward_pre_hooks


@each_pattern
def test_units_change_places_with_their_patterns(what: str) -> None:
    first = severed(to_dense(conv(), SIZE, init="independent"), what)
    last = severed(nn.Linear(first.out_features, 3, dtype=torch.float64), what)
    model = nn.Sequential(first, nn.Flatten(), last)
    before = model(X)
    masks = [mask_of(layer).expand_as(layer.weight).clone() for layer in (first, last)]  # type: ignore
    order = local_nn.arrange(first, None, last)
    assert not torch.equal(order, torch.arange(len(order)))
    torch.testing.assert_close(model(X), before)
    assert torch.equal(matrix(with_ones(first), X[0]) != 0, masks[0][order])
    reads = matrix(with_ones(last), X.new_ones(len(order)))
    assert torch.equal(reads != 0, masks[1][:, order])
