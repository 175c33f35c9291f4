"""Exact parameter counts of the published networks, names, initial scale, and learning."""

from __future__ import annotations

import pytest
import torch
from scenarios import losses
from torch import nn

from neurosim.errors import InvalidArgument
from neurosim.models import resnet, resnet18, resnet20
from neurosim.nn import LocallyConnected2d, pointwise, to_conv


def count(build, **kwargs):
    with torch.device("meta"):
        return sum(p.numel() for p in build(**kwargs).parameters())


@pytest.mark.parametrize(
    ("build", "kwargs", "parameters"),
    [
        (resnet20, {}, 272_474),  # published
        (resnet20, {"connectivity": "local"}, 40_814_762),  # published
        (resnet20, {"connectivity": "local", "skip": 1}, 40_814_762 - 1023 * 432),
        (resnet, {"depth": 56}, 855_770),
        (resnet18, {"width": 1}, 11_689_512),  # torchvision's resnet18
    ],
)
def test_parameters(build, kwargs, parameters):
    assert count(build, **kwargs) == parameters


@pytest.mark.parametrize("skip", [0, 1, pointwise])
def test_parameters_of_the_half_width_network(skip):
    """Every filter is repeated at every position of its layer's output; the rest is as it was."""
    conv = [("conv1", 3 * 32 * 49, 112**2)]
    inputs = 32
    for channels, size in ((32, 56), (64, 28), (128, 14), (256, 7)):
        conv += [("first", inputs * channels * 9, size**2), ("rest", 3 * channels**2 * 9, size**2)]
        if inputs != channels:
            conv.append(("shortcut", inputs * channels, size**2))
        inputs = channels
    norm = 2 * (5 * 32 + 5 * 64 + 5 * 128 + 5 * 256)
    kept = {0: (), 1: ("conv1",), pointwise: ("shortcut",)}[skip]
    filters = sum(n if name in kept else n * positions for name, n, positions in conv)
    expected = filters + norm + 257 * 1000
    assert count(resnet18, connectivity="local", skip=skip) == expected
    assert count(resnet18) == sum(n for _, n, _ in conv) + norm + 257 * 1000


def test_names_are_the_same_and_torchvisions():
    with torch.device("meta"):
        conv = resnet18().state_dict()
        local = resnet18(connectivity="local").state_dict()
    assert list(conv) == list(local)
    names = {"conv1.weight", "bn1.running_var", "layer1.0.conv2.weight", "fc.bias"}
    assert names | {"layer4.0.downsample.0.weight", "layer4.0.downsample.1.weight"} <= set(conv)


@pytest.mark.parametrize("connectivity", ["conv", "local"])
def test_kaiming_normal_with_fan_out(connectivity):
    torch.manual_seed(0)
    model = resnet20(connectivity=connectivity, input_size=8)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | LocallyConnected2d)]
    assert len(layers) == 21
    for layer in layers:
        assert layer.bias is None
        fan = layer.out_channels * layer.kernel_size[0] ** 2
        deviation = layer.weight.std().item()
        assert deviation == pytest.approx((2 / fan) ** 0.5, rel=4 * layer.weight.numel() ** -0.5)


@pytest.mark.parametrize(
    ("skip", "kept"),
    [(1, {"conv1"}), (pointwise, {"layer2.0.downsample.0", "layer3.0.downsample.0"})],
)
def test_layers_that_stay_convolutional(skip, kept):
    model = resnet20(connectivity="local", input_size=8, skip=skip, freeze_skipped=True)
    assert {n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)} == kept
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {f"{name}.weight" for name in kept}


def test_local_equals_conv_when_copied():
    torch.manual_seed(0)
    options = {"classes": 3, "input_size": (12, 8), "in_channels": 1}
    local = resnet20(connectivity="local", init="copy", **options).eval()
    conv = resnet20(**options).eval()
    conv.load_state_dict(to_conv(local)[0].state_dict())
    x = torch.randn(2, 1, 12, 8)
    torch.testing.assert_close(local(x), conv(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("connectivity", ["conv", "local"])
@pytest.mark.parametrize(("build", "size"), [(resnet20, 8), (resnet18, 33)])
def test_learns(build, size, connectivity):
    torch.manual_seed(0)
    width = {"width": 1 / 8} if build is resnet18 else {}
    model = build(classes=4, connectivity=connectivity, input_size=size, **width)
    x, target = torch.randn(8, 3, size, size), torch.arange(8) % 4
    found = losses(model, x, target, lr=3e-3, steps=6)
    assert found[-1] < 0.5 * found[0]


MISTAKES = {
    "depth": (lambda: resnet(18), r"depth must be 6n \+ 2 with n >= 1, such as 20, got 18"),
    "no block": (lambda: resnet(2), "depth must be"),
    "connectivity": (
        lambda: resnet20(connectivity="locla"),
        r"connectivity must be one of conv, local, dense, got 'locla' \(did you mean 'local'\?\)",
    ),
    "classes": (lambda: resnet20(classes=0), "classes must be >= 1, got 0"),
    "in_channels": (lambda: resnet20(in_channels=0), "in_channels must be >= 1, got 0"),
    "input_size": (lambda: resnet20(input_size=(32, 0)), r"input_size must be .* got \(32, 0\)"),
    "axes": (lambda: resnet20(input_size=(3, 32, 32)), r"input_size must be .* got \(3, 32, 32\)"),
    "width": (lambda: resnet18(width=0.001), "width must be at least 1/64"),
    "skip": (lambda: resnet20(connectivity="local", input_size=8, skip=22), "from 0 to 21, got 22"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake):
    call, message = MISTAKES[mistake]
    with pytest.raises(InvalidArgument, match=message):
        call()
