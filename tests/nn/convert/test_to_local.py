"""Conversion keeps everything but the sharing, and comes back exactly."""

from __future__ import annotations

import pickle
from copy import deepcopy
from typing import Any

import pytest
import torch
from convertible import CONVOLUTIONS, MODELS, Plain, separable, small, to_conv, to_local
from scenarios import losses
from torch import nn

from neurosim.nn import LocallyConnected2d, pointwise
from neurosim.nn.local import PADDING_MODES, LocallyConnected
from neurosim.sleep import share


@pytest.fixture(params=MODELS)
def twin(request):
    """A model in double precision with used batch-norm statistics, and an input."""
    torch.manual_seed(0)
    build, shape = MODELS[request.param]
    model, x = build().double(), torch.randn(shape, dtype=torch.float64)
    model(x)
    return model.eval(), x


def layers(model, kinds):
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds)}


def test_copy_gives_equal_outputs_and_gradients(twin):
    model, x = twin
    local = to_local(model, tuple(x.shape), init="copy")
    assert layers(local, LocallyConnected).keys() == layers(model, CONVOLUTIONS).keys()
    assert not layers(local, CONVOLUTIONS)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = local(ours), model(theirs)
    torch.testing.assert_close(y, expected)
    y.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    for name, parameter in model.named_parameters():
        gradient = local.get_parameter(name).grad
        assert gradient is not None
        extra = gradient.ndim - parameter.ndim  # positions, which the convolution adds up
        gradient = gradient.sum(tuple(range(extra))) if extra else gradient
        torch.testing.assert_close(gradient, parameter.grad)


def test_round_trip_is_exact(twin):
    model, x = twin
    next(model.parameters()).requires_grad_(False)
    back, report = to_conv(to_local(model, x, init="copy"))
    assert report.keys() == layers(model, CONVOLUTIONS).keys()
    assert {spread.distance for spread in report.values()} == {0.0}
    assert {spread.mean_to_std for spread in report.values()} == {
        1 / torch.finfo(torch.float64).eps
    }
    assert list(back.state_dict()) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    assert str(back) == str(model)
    for (name, a), (_, b) in zip(model.named_parameters(), back.named_parameters(), strict=True):
        assert a.requires_grad == b.requires_grad, name
    assert torch.equal(back(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_is_exact_in_single_precision(dtype):
    conv = nn.Conv2d(5, 7, 3).to(dtype)
    back, report = to_conv(to_local(conv, 13, init="copy"))
    assert torch.equal(back.weight, conv.weight)
    assert torch.equal(back.bias, conv.bias)
    assert report[""].mean_to_std == 1 / torch.finfo(dtype).eps


@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("padding", [2, "same", "valid"])
def test_every_padding(padding_mode, padding):
    conv = nn.Conv2d(2, 4, (2, 3), padding=padding, padding_mode=padding_mode, groups=2).double()
    x = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(to_local(conv, x, init="copy")(x), conv(x))


@pytest.mark.parametrize(
    "name", ["resnet26d", "resnext50_32x4d", "efficientnet_b0", "convnext_atto", "ghostnet_100"]
)
def test_models_of_timm(name):
    """Deep stems, groups, depthwise filters, patches, cheap maps: where timm is installed."""
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model: Any = timm.create_model(name, num_classes=10).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1)  # some blocks begin as if they were not there,
            module.train()  # and without a batch's own statistics all but nothing comes out
    x = torch.randn(2, 3, 64, 64)
    local = to_local(model, x, init="copy")
    assert not any(isinstance(module, nn.Conv2d) for module in local.modules())
    again, spread = to_conv(local)
    assert spread.keys() == {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(local(x), expected, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(again(x), expected, rtol=1e-5, atol=1e-6)
    assert expected.std() > 0.05


def test_everything_else_stays():
    model = separable()
    model.norm.eval()
    model.depthwise.eval()
    model.depthwise.bias.requires_grad_(False)
    model.pointwise.weight.requires_grad_(False)
    seen = []
    model.stem.register_forward_hook(lambda *_: seen.append("stem"))
    before, state = deepcopy(model.state_dict()), torch.get_rng_state()
    local = to_local(model, 9, init="copy")
    assert torch.equal(torch.get_rng_state(), state)
    for copy in (model, local):
        for name, value in before.items():
            if "norm" in name or "bias" in name:
                assert torch.equal(copy.state_dict()[name], value), name
    assert list(local.state_dict()) == list(before)
    assert isinstance(model.stem, nn.Conv2d)
    assert [m.training for m in local.modules()] == [m.training for m in model.modules()]
    expected = {name: p.requires_grad for name, p in model.named_parameters()}
    assert {name: p.requires_grad for name, p in local.named_parameters()} == expected
    seen.clear()
    local(torch.randn(2, 3, 9, 9))
    assert seen == ["stem"]
    back, _ = to_conv(local)
    assert [m.training for m in back.modules()] == [m.training for m in model.modules()]
    assert {name: p.requires_grad for name, p in back.named_parameters()} == expected
    assert torch.equal(
        pickle.loads(pickle.dumps(local.block)).reduce.weight, local.block.reduce.weight
    )


def test_inplace_converts_the_model_itself():
    model = Plain()
    first = model.first
    assert to_local(model, (1, 1, 6, 6), inplace=True) is model
    assert isinstance(first, LocallyConnected)
    assert to_conv(model, inplace=True)[0] is model
    assert isinstance(first, nn.Conv2d)


def test_a_model_that_is_one_convolution():
    assert isinstance(to_local(small(), (6, 5)), LocallyConnected2d)


def test_other_examples():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 2, 3), nn.Conv1d(3, 2, 2)

        def forward(self, x, y):
            return self.a(input=x).mean() + self.b(y).mean()

    local = to_local(Two(), (torch.ones(1, 5, 4), torch.ones(2, 3, 7)))
    assert local.a.output_size == (3, 2)
    assert local.b.output_size == (6,)
    shape = to_local(small(), (5, 2, 8, 7))
    assert shape.input_size == (8, 7)
    example = torch.ones(1, 2, 4, 4)
    to_local(nn.Sequential(nn.ReLU(inplace=True), small()), example.neg_())
    assert torch.equal(example, -torch.ones(1, 2, 4, 4))


def test_without_memory_on_meta():
    with torch.device("meta"):
        local = to_local(separable(), 9)
    assert {p.device.type for p in local.parameters()} == {"meta"}


def test_independent_filters_are_drawn_and_biases_kept():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3)
    local = to_local(conv, 12)
    assert torch.equal(local.bias, conv.bias)
    assert local.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.01)
    _, report = to_conv(local)
    assert report[""].distance == pytest.approx((1 - 1 / 100) ** 0.5, rel=1e-3)


def test_noise_is_relative_to_the_filters():
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3)
    nn.init.normal_(conv.weight, 5, 1)
    back, report = to_conv(to_local(conv, 18, init=0.1))
    assert report[""].distance == pytest.approx(0.1 / 1.01**0.5, rel=0.01)
    assert report[""].mean_to_std == pytest.approx(10, rel=0.05)
    torch.testing.assert_close(back.weight, conv.weight, atol=0.2, rtol=0)


def test_report_of_filters_without_a_spread_or_a_mean():
    local = to_local(small(), 4)
    nn.init.zeros_(local.weight)
    assert to_conv(local)[1][""].distance == 0
    local.weight.data[0, 0], local.weight.data[0, 1] = 1, -1
    spread = to_conv(local)[1][""]
    assert (spread.distance, spread.mean_to_std) == (1, 0)


def test_biases_per_position_are_averaged():
    local: Any = LocallyConnected2d(2, 3, 2, 4, bias="position")
    local.bias.requires_grad_(False)
    conv, report = to_conv(local)
    torch.testing.assert_close(conv.bias, local.bias.mean((1, 2)))
    assert not conv.bias.requires_grad
    (spread,) = report.values()
    apart = (local.bias - local.bias.mean((1, 2), keepdim=True)).norm() / local.bias.norm()
    assert spread.bias_distance == pytest.approx(apart.item())
    share(local)  # which leaves biases
    spread = to_conv(local)[1].popitem()[1]
    assert spread.bias_distance == pytest.approx(apart.item())
    with torch.no_grad():
        local.bias.copy_(local.bias.mean((1, 2), keepdim=True).expand_as(local.bias))
    assert to_conv(local)[1].popitem()[1].bias_distance < 1e-6


def test_tied_layers_stay_tied():
    model = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())
    model.append(model[0])
    local = to_local(model, 5, init="copy")
    assert local[0] is local[2]
    assert isinstance(local[0], LocallyConnected2d)
    x = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(local(x), model(x))
    kept = to_local(nn.Sequential(model, small()), 5, skip="0.2")
    assert kept[0][0] is kept[0][2]
    assert isinstance(kept[0][0], nn.Conv2d)


ONES = {"pointwise", "block.reduce", "block.expand", "block.shortcut"}


@pytest.mark.parametrize(
    ("skip", "kept"),
    [
        (0, set()),
        (1, {"stem"}),
        (2, {"stem", "depthwise"}),
        ("stem", {"stem"}),
        ("block.*", {"block.reduce", "block.grouped", "block.expand", "block.shortcut"}),
        (pointwise, ONES),
        (lambda name, module: module.groups > 1, {"depthwise", "block.grouped"}),
        ([1, pointwise], {"stem", *ONES}),
        (lambda name, module: True, None),
    ],
)
@pytest.mark.parametrize("freeze", [False, True])
def test_skip(skip, kept, freeze):
    model = separable()
    local = to_local(model, 9, skip=skip, freeze_skipped=freeze)
    kept = layers(model, CONVOLUTIONS).keys() if kept is None else kept
    assert layers(local, CONVOLUTIONS).keys() == kept
    for name, layer in (layers(local, CONVOLUTIONS) | layers(local, LocallyConnected)).items():
        for parameter in layer.parameters():
            assert parameter.requires_grad == (name not in kept or not freeze)
        if name in kept:
            assert torch.equal(layer.weight, model.get_submodule(name).weight)


def test_a_count_follows_the_data_not_the_definition():
    local = to_local(Plain(), (1, 1, 6, 6), skip=1)
    assert isinstance(local.first, nn.Conv2d)
    assert isinstance(local.last, LocallyConnected2d)


def test_training_works():
    torch.manual_seed(0)
    model = to_local(separable(), (9, 7), init=0.1)
    model.drop.p = 0.0
    x, target = torch.randn(16, 3, 9, 7), torch.randint(5, (16,))
    found = losses(model, x, target, lr=1e-2, steps=12)
    assert found[-1] < 0.5 * found[0]
    _, report = to_conv(model)
    assert all(spread.distance > 0 for spread in report.values())
