"""Absent connections add nothing, learn nothing and stay absent, whatever happens to the layer."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from scenarios import gradients_of_two_processes
from torch import Tensor, nn

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected1d, LocallyConnected2d, LocallyConnected3d, to_conv
from neurosim.nn import to_local as converted
from neurosim.nn.masked import (
    clear_absent,
    mask_of,
    set_pattern,
    sever_inputs,
    sever_weights,
    unconnected,
)

to_local: Any = converted  # any attribute may be asked of what comes back
DOUBLE = {"dtype": torch.float64}

# Every kind of layer, the size of its input, and that size where the layer does not know it.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "local 1d": (lambda: LocallyConnected1d(4, 6, 3, 7, stride=2, padding=1, **DOUBLE), (4, 7)),
    "local 2d": (lambda: LocallyConnected2d(4, 6, 3, (5, 4), padding=1, **DOUBLE), (4, 5, 4)),
    "local 2d, grouped": (
        lambda: LocallyConnected2d(4, 6, (2, 3), (5, 4), groups=2, dilation=(2, 1), **DOUBLE),
        (4, 5, 4),
    ),
    "local 2d, circular": (
        lambda: LocallyConnected2d(
            4, 6, 3, (5, 4), padding="same", padding_mode="circular", bias="position", **DOUBLE
        ),
        (4, 5, 4),
    ),
    "local 2d, depthwise": (
        lambda: LocallyConnected2d(
            4, 8, 3, (5, 4), groups=4, padding=1, padding_mode="reflect", bias=False, **DOUBLE
        ),
        (4, 5, 4),
    ),
    "local 3d": (lambda: LocallyConnected3d(2, 3, 2, (3, 2, 4), padding=1, **DOUBLE), (2, 3, 2, 4)),
    "conv 1d": (lambda: nn.Conv1d(4, 6, 3, **DOUBLE), (4, 7)),
    "conv 2d": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2, **DOUBLE), (4, 5, 4)),
    "conv 2d, circular": (
        lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular", **DOUBLE), (4, 5, 4),
    ),
    "conv 3d": (lambda: nn.Conv3d(2, 3, 2, **DOUBLE), (2, 3, 2, 4)),
    "linear": (lambda: nn.Linear(10, 6, **DOUBLE), (10,)),
}  # fmt: skip
each_layer = pytest.mark.parametrize("kind", LAYERS)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def spatial(layer: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    return shape[1:] if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) else None


def severed(kind: str, what: str, probability: float = 0.4) -> tuple[Any, Tensor]:
    """A layer with absent connections and a batch for it."""
    build, shape = LAYERS[kind]
    layer = build()
    if what in ("weights", "both"):
        sever_weights(layer, probability)
    if what in ("inputs", "both"):
        sever_inputs(layer, probability, spatial(layer, shape))
    return layer, torch.randn((5, *shape), dtype=torch.float64)


def whole_mask(layer: Any) -> Tensor:
    """The mask in the shape of the weight."""
    mask = mask_of(layer)
    whole = torch.ones_like(layer.weight, dtype=torch.bool)
    return whole if mask is None else whole & mask


each_pattern = pytest.mark.parametrize("what", ["weights", "inputs", "both"])


def plain_twin(layer: Any, kind: str) -> Any:
    """A layer without patterns and with the same numbers."""
    twin: Any = LAYERS[kind][0]()
    state = {k: v for k, v in layer.state_dict().items() if "present" not in k}
    twin.load_state_dict(state)
    return twin


@each_layer
@each_pattern
def test_computes_as_a_plain_layer_with_zeros_in_its_place(kind: str, what: str) -> None:
    layer, x = severed(kind, what)
    twin = plain_twin(layer, kind)
    seen = x
    if what in ("inputs", "both"):
        assert layer.present_inputs.shape == x.shape[1:]
        assert 0 < layer.present_inputs.double().mean() < 1
        seen = torch.where(layer.present_inputs, x, 0)
    if what in ("weights", "both"):
        assert layer.present.shape == layer.weight.shape
        assert (twin.weight[~layer.present] == 0).all()
    torch.testing.assert_close(layer(x), twin(seen))
    # Whatever stands in their place, nobody sees it.
    mask = mask_of(layer)
    if mask is not None:
        with torch.no_grad():
            layer.weight += 7 * ~mask
        torch.testing.assert_close(layer(x), twin(seen))
        clear_absent(nn.Sequential(layer))
        assert torch.equal(layer.weight, twin.weight)


@each_layer
@each_pattern
def test_never_trained(kind: str, what: str) -> None:
    """Against decay, momentum and moments; what is present does learn."""
    layer, x = severed(kind, what)
    x.requires_grad_()
    before = layer.weight.detach().clone()
    mask = whole_mask(layer)
    optimizers = [
        torch.optim.AdamW(layer.parameters(), 1e-2, weight_decay=0.3),
        torch.optim.SGD(layer.parameters(), 1e-2, momentum=0.9, weight_decay=0.3, nesterov=True),
        torch.optim.Adam(layer.parameters(), 1e-2, weight_decay=0.3, amsgrad=True),
    ]
    for optimizer in optimizers:
        for _ in range(3):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            assert (layer.weight.grad[~mask] == 0).all()
            optimizer.step()
    assert (layer.weight[~mask] == 0).all()
    learned = layer.weight != before
    assert learned[mask].double().mean() > 0.99
    if what != "weights":
        assert (x.grad[:, ~layer.present_inputs] == 0).all()  # type: ignore[index]


@each_layer
def test_the_mask_is_what_the_output_depends_on(kind: str) -> None:
    """By differentiation: a weight is present if its gradient is not zero on generic inputs."""
    layer, x = severed(kind, "both", 0.5)
    twin = plain_twin(layer, kind)
    seen = torch.where(layer.present_inputs, x.abs() + 1, 0)
    mask = whole_mask(layer)
    (gradient,) = torch.autograd.grad(twin(seen).sum(), twin.weight)
    (everywhere,) = torch.autograd.grad(twin(x.abs() + 1).sum(), twin.weight)
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        assert torch.equal(mask, layer.present)  # a filter serves all positions
    else:  # zeros of the padding count as present
        assert torch.equal(mask, layer.present & ((gradient != 0) | (everywhere == 0)))


@each_layer
def test_absent_fraction_and_seed(kind: str) -> None:
    build, shape = LAYERS[kind]

    def draw(seed: int) -> Any:
        rng = torch.Generator().manual_seed(seed)
        layer = sever_weights(build(), 0.25, rng)
        return sever_inputs(layer, 0.25, spatial(layer, shape), rng)

    a, b, c = draw(1), draw(1), draw(2)
    for name in ("present", "present_inputs"):
        assert torch.equal(getattr(a, name), getattr(b, name))
        assert not torch.equal(getattr(a, name), getattr(c, name))
    many: Any = sever_inputs(sever_weights(nn.Linear(400, 500), 0.25), 0.25)
    assert (~many.present).double().mean().item() == pytest.approx(0.25, abs=0.005)
    assert (~many.present_inputs).double().mean().item() == pytest.approx(0.25, abs=0.07)
    whole: Any = sever_weights(build(), 0.0)
    assert whole.present.all()


def by_state_dict(layer: Any, fresh: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    fresh.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    return fresh


COPIES: dict[str, Callable[[Any, Any], Any]] = {
    "deepcopy": lambda layer, _: copy.deepcopy(layer),
    "pickle": lambda layer, _: pickle.loads(pickle.dumps(layer)),
    "state_dict": by_state_dict,
}


@each_layer
@pytest.mark.parametrize("how", COPIES)
def test_patterns_travel_with_copies(kind: str, how: str) -> None:
    layer, x = severed(kind, "both")
    other, _ = severed(kind, "both")
    twin = COPIES[how](layer, other)
    assert torch.equal(twin.present, layer.present)
    assert torch.equal(twin.present_inputs, layer.present_inputs)
    assert twin.present.stride() == layer.weight.stride()  # else every step strides over memory
    assert torch.equal(twin(x), layer(x))
    assert type(twin) is type(layer)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"present"'):
        LAYERS[kind][0]().load_state_dict(layer.state_dict())


def test_what_surrounds_a_layer_stays() -> None:
    """Dtype, autocast, channels-last, train and eval, keyword call, no trace without patterns."""
    layer, x = severed("local 2d", "both")
    wanted = layer(x)
    assert torch.equal(layer(input=x), wanted)
    assert torch.equal(layer.eval()(x), wanted)
    torch.testing.assert_close(layer(x[0]), wanted[0])
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(last), wanted)
    assert layer(last).is_contiguous(memory_format=torch.channels_last)
    single = copy.deepcopy(layer).float()
    assert single.present.dtype == torch.bool
    torch.testing.assert_close(single(x.float()), wanted.float())
    with torch.autocast("cpu", torch.bfloat16):
        y = single(x.float())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), wanted, atol=0.05, rtol=0.05)
    assert mask_of(LocallyConnected2d(1, 1, 1, 1)) is None
    assert mask_of(nn.ReLU()) is None


@each_pattern
def test_compiled_whole(what: str) -> None:
    torch.compiler.reset()
    model = nn.Sequential(
        severed("local 2d", what)[0].float(), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.Flatten(),
        sever_inputs(sever_weights(nn.Linear(4 * 20, 3), 0.3), 0.3),
    )  # fmt: skip
    sever_weights(model[2], 0.3)
    x = torch.randn(3, 4, 5, 4)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    results = []
    for module in (model, compiled):
        y = module(x)
        results.append((y, *torch.autograd.grad(y.square().sum(), [*model.parameters()])))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def ddp_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    local = sever_inputs(sever_weights(LocallyConnected2d(2, 4, 3, (5, 4)), 0.4), 0.3)
    return nn.Sequential(local, nn.ReLU(), sever_weights(nn.Conv2d(4, 2, 2), 0.4))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_share_one_pattern(tmp_path: Path) -> None:
    """Ranks draw different patterns; the first one's must rule, and gradients be averaged."""
    batch = torch.randn(6, 2, 5, 4)
    # Buffers are sent again with the second pass.
    got = gradients_of_two_processes(ddp_model, batch, tmp_path, passes=2)
    model = ddp_model(0)
    model(batch).square().mean().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(got[name], parameter.grad, msg=name)


# Conversion and averages


def network(what: str) -> Any:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False, **DOUBLE),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, stride=2, groups=2, padding=1, padding_mode="circular", **DOUBLE),
        nn.Conv2d(4, 3, 1, **DOUBLE),
    )
    if what != "inputs":
        sever_weights(model[0], 0.4)
        sever_weights(model[2], 0.4)
    if what != "weights":
        sever_inputs(model[0], 0.3, (6, 5))
        sever_inputs(model[2], 0.3, (6, 5))
    return model


@each_pattern
def test_patterns_survive_conversion_both_ways(what: str) -> None:
    model, x = network(what), torch.randn(3, 2, 6, 5, dtype=torch.float64)
    local = to_local(model, x, init="copy")
    torch.testing.assert_close(local(x), model(x))
    assert mask_of(local[0]) is not None
    assert mask_of(local[3]) is None
    back, report = to_conv(local)
    assert [spread.distance for spread in report.values()] == [0, 0, 0]
    assert str(back) == str(model)
    assert back.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        got = back.state_dict()[name]
        unmet = what != "weights" and name.endswith("weight")  # met by no present input anywhere
        assert torch.equal(got, torch.where(got == 0, 0, value) if unmet else value), name
    torch.testing.assert_close(back(x), model(x))


def test_drawn_anew_the_pattern_stays() -> None:
    model = network("both")
    for init in ("independent", 0.5):
        local = to_local(model, (6, 5), init=init)
        assert torch.equal(local[0].present, model[0].present.expand_as(local[0].weight))
        assert (local[0].weight[~whole_mask(local[0])] == 0).all()


def test_averages_count_present_connections_only() -> None:
    """Filters equal where present: the mean must be that filter, and the spread none."""
    torch.manual_seed(1)
    layer = LocallyConnected2d(3, 4, 3, 5, padding=1, init=0.0, **DOUBLE)
    shared = layer.weight[0, 0].detach().clone()
    sever_inputs(sever_weights(layer, 0.5), 0.2)
    mask = mask_of(layer)
    assert mask is not None
    mean = (layer.weight * mask).sum((0, 1)) / mask.sum((0, 1))
    torch.testing.assert_close(mean, shared)
    conv, report = to_conv(layer)
    assert torch.equal(conv.weight, shared)  # type: ignore[arg-type]
    assert report[""].distance == 0
    with torch.no_grad():  # two values, 1 and 3, wherever there is a connection
        layer.weight.fill_(1)[0] = 3
    clear_absent(layer)
    present = layer.weight[mask.expand_as(layer.weight)]
    number = mask.sum((0, 1)).expand(4, 3, 3, 3).flatten()
    means = layer.weight.sum((0, 1)).flatten() / number
    wanted = (present.square().sum() - (number * means**2).sum()) / present.square().sum()
    assert to_conv(layer)[1][""].distance == pytest.approx(wanted.sqrt().item())


def test_connections_that_no_position_has_are_absent_in_the_convolution() -> None:
    layer = LocallyConnected2d(1, 2, 2, 3)
    present = torch.ones(2, 2, 2, 1, 2, 2, dtype=torch.bool)
    present[:, :, 1, 0, 0, 1] = False
    present[0, 0] = False
    conv: Any = to_conv(set_pattern(layer, weights=present))[0]
    assert (~conv.present).nonzero().tolist() == [[1, 0, 0, 1]]
    assert torch.equal(conv.weight == 0, ~conv.present)


# Neurons without input


@each_layer
@each_pattern
def test_unconnected_neurons_show_their_bias(kind: str, what: str) -> None:
    layer, x = severed(kind, what, 0.9)
    size = spatial(layer, tuple(x.shape[1:])) if what == "weights" else None
    for name, parameter in layer.named_parameters():
        if name == "bias":
            nn.init.zeros_(parameter)
    silent = (layer(x) == 0).all(0)
    assert unconnected(layer, size) == silent.sum()
    assert silent.any() or what != "both"


def test_unconnected_counts_neurons_behind_padding() -> None:
    """The corner neuron sees one pixel and eight zeros of the padding; that pixel is absent."""
    layer = LocallyConnected2d(1, 3, 3, 2, padding=2)
    inputs = torch.ones(1, 2, 2, dtype=torch.bool)
    assert unconnected(layer) == 0
    inputs[0, 0, 0] = False
    assert unconnected(set_pattern(layer, inputs=inputs)) == 3


# Mistakes

TRUE = torch.ones(6, 4, 3, 3, dtype=torch.bool)


class Other(nn.Conv2d):
    """Someone's own convolution."""


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "probability 1": (
        lambda: sever_weights(nn.Linear(2, 2), 1.0), r"probability must be from 0 .* got 1.0",
    ),
    "probability NaN": (lambda: sever_inputs(nn.Linear(2, 2), float("nan")), "must be .* got nan"),
    "probability True": (lambda: sever_weights(nn.Linear(2, 2), True), "must be .* got True"),
    "twice": (
        lambda: sever_weights(severed("linear", "weights")[0], 0.1),
        "must not have absent weights yet, got a MaskedLinear that has",
    ),
    "inputs twice": (
        lambda: sever_inputs(severed("local 1d", "inputs")[0], 0.1),
        "must not have absent inputs yet, got a LocallyConnected1d that has",
    ),
    "no weights": (lambda: sever_weights(nn.ReLU(), 0.1), "layer must be a Locally.* got ReLU"),
    "a model": (lambda: sever_weights(nn.Sequential(), 0.1), "layer must be .* got Sequential"),
    "another class": (lambda: sever_weights(Other(1, 1, 1), 0.1), "layer must be .* got Other"),
    "parametrized": (
        lambda: sever_weights(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)), 0.1),
        "with its weight as a parameter .* got ParametrizedLinear",
    ),
    "inputs of anything": (lambda: sever_inputs(nn.ReLU(), 0.1), "layer must be .* got 'ReLU'"),
    "size missing": (
        lambda: sever_inputs(nn.Conv2d(4, 6, 3), 0.1), "input_size must be .* Conv2d .* got None",
    ),
    "size of other axes": (
        lambda: sever_inputs(nn.Conv2d(4, 6, 3), 0.1, (5, 4, 3)), r"or 2 of them.*\(5, 4, 3\)",
    ),
    "size known": (lambda: sever_inputs(nn.Linear(4, 6), 0.1, 4), "None: a Linear .* got 4"),
    "not boolean": (
        lambda: set_pattern(nn.Linear(4, 6), weights=torch.ones(6, 4)),
        "dtype of weights .*float32",
    ),
    "other shape": (
        lambda: set_pattern(nn.Conv2d(4, 6, 3), weights=TRUE[..., :2]),
        r"shape of weights must be broadcastable to \(6, 4, 3, 3\), got \(6, 4, 3, 2\)",
    ),
    "too many axes": (
        lambda: set_pattern(nn.Conv2d(4, 6, 3), weights=TRUE[None]), r"got \(1, 6, 4, 3, 3\)",
    ),
    "inputs of other shape": (
        lambda: set_pattern(nn.Linear(4, 6), inputs=TRUE[0, 0]), r"must be \(4,\), got \(3, 3\)",
    ),
    "an input of another size": (
        lambda: severed("conv 2d", "inputs")[0](torch.zeros(1, 4, 1, 1, **DOUBLE)),
        r"input of Conv2d must be of shape \(4, 5, 4\), .*got \(1, 4, 1, 1\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_clear_sentence(mistake: str) -> None:
    attempt, message = MISTAKES[mistake]
    with pytest.raises(InvalidArgument, match=message) as info:
        attempt()
    assert "\n" not in str(info.value)
