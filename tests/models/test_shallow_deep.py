"""S- and D-CONV, their relatives and 3-FC: sizes as published where these agree with each other."""

# Layers are reached by name, of which torch does not know the types.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurosim.errors import InvalidArgument
from neurosim.models import deep, perceptron, resnet18_small, shallow
from neurosim.nn import Dense, PermutePixels
from neurosim.nn.dense import UnitNorm
from neurosim.optim import BetaLasso, lasso_groups


def count(make: object, *arguments: object, **options: object) -> int:
    with torch.device("meta"):
        network = make(*arguments, **options)  # type: ignore[operator]
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("kind", "published"), [("conv", 138e6), ("local", 147e6), ("dense", 256e6)]
)
def test_shallow_networks_have_the_published_sizes(kind: str, published: float) -> None:
    """Table 1, in whole millions, which the paper cut rather than rounded."""
    assert count(shallow, connectivity=kind) // 10**6 == published // 10**6


def test_deep_networks_do_but_for_those_that_disagree() -> None:
    assert count(deep) == pytest.approx(1.45e6, rel=1e-3)
    assert count(deep, connectivity="local") == pytest.approx(11.7e6, rel=2e-3)  # published: 3.42
    assert count(deep, connectivity="dense") == pytest.approx(282e6, rel=2e-3)  # published: 256
    for alpha in (4, 8, 14, 16):  # no alpha gives the published three
        sizes = [count(deep, connectivity=kind, alpha=alpha) for kind in ("conv", "local", "dense")]
        published = (1.45e6, 3.42e6, 256e6)
        agree = [abs(a / b - 1) < 0.02 for a, b in zip(sizes, published, strict=True)]
        assert sum(agree) <= 1


def test_three_layers_of_equal_width() -> None:
    assert count(perceptron) // 10**6 == 256
    widths = [m.out_features for m in perceptron(width=7) if isinstance(m, nn.Linear)]
    assert widths == [7, 7, 10]


def test_sizes_by_hand() -> None:
    """Weights and norms of S-CONV: 81 C a + 2 a + 24 a (a H W / 4) + 48 a + 10 (24 a) + 10."""
    a = 5
    expected = 81 * 3 * a + 2 * a + 24 * a * a * 16**2 + 48 * a + 240 * a + 10
    assert count(shallow, alpha=a) == expected
    dense = expected - 81 * 3 * a - 2 * a + (3 * 32 * 32) * a * 16**2 + 2 * a * 16**2
    assert count(shallow, alpha=a, connectivity="dense") == dense


@pytest.mark.parametrize("make", [shallow, deep])
@pytest.mark.parametrize("kind", ["conv", "local", "dense"])
def test_a_norm_and_a_relu_follow_every_layer_but_the_last(make: object, kind: str) -> None:
    network = make(7, kind, 16, 1, alpha=2)  # type: ignore[operator]
    assert network(torch.randn(3, 1, 16, 16)).shape == (3, 7)
    layers = [m for m in network if not isinstance(m, nn.Flatten)]
    norms = nn.BatchNorm1d | nn.BatchNorm2d
    for number in range(0, len(layers) - 1, 3):
        assert isinstance(layers[number + 1], norms)
        assert isinstance(layers[number + 2], nn.ReLU)
        assert layers[number].bias is None
    assert isinstance(layers[-1], nn.Linear)
    if kind == "dense":
        assert isinstance(network.conv1, Dense)
        assert isinstance(network.norm1, UnitNorm)


def test_strides_are_the_published_ones() -> None:
    network, sizes = deep(alpha=1, input_size=32), []
    x = torch.zeros(2, 3, 32, 32)
    for layer in network:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            sizes.append(tuple(x.shape[1:]))
    assert sizes == [(1, 32, 32), (2, 16, 16), (2, 16, 16), (4, 8, 8), (4, 8, 8), (8, 4, 4),
                     (8, 4, 4), (16, 2, 2)]  # fmt: skip
    assert [m.out_features for m in network if isinstance(m, nn.Linear)] == [64, 10]


@pytest.mark.parametrize("kind", ["local", "dense"])
def test_relatives_contain_the_convolution(kind: str) -> None:
    torch.manual_seed(0)
    conv = shallow(5, "conv", 12, 2, alpha=3).eval()
    torch.manual_seed(0)
    relative = shallow(5, kind, 12, 2, alpha=3, init="copy").eval()  # type: ignore[arg-type]
    x = torch.randn(4, 2, 12, 12)
    torch.testing.assert_close(relative(x), conv(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_resnet18_with_any_kernel(kernel: int) -> None:
    network = resnet18_small(kernel, width=1 / 16)
    sizes = {m.kernel_size for m in network.modules() if isinstance(m, nn.Conv2d)}
    assert sizes == {(kernel, kernel), (1, 1)}
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    # 17 filters of the given size and 3 projections, by hand at full width
    pairs = [(3, 64), *[(64, 64)] * 4, (64, 128), *[(128, 128)] * 3, (128, 256),
             *[(256, 256)] * 3, (256, 512), *[(512, 512)] * 3]  # fmt: skip
    weights = sum(kernel**2 * a * b for a, b in pairs) + 64 * 128 + 128 * 256 + 256 * 512
    norms = 2 * (sum(b for _, b in pairs) + 128 + 256 + 512)
    assert count(resnet18_small, kernel) == weights + norms + 512 * 10 + 10


def test_pixels_in_any_order_change_nothing_for_a_dense_network() -> None:
    """Permuted pixels and a start whose first weights are permuted alike: the same training."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        plain = shallow(4, "dense", 8, 2, alpha=2, kernel_size=3)
        permute = PermutePixels((8, 8), seed=1)
        other = shallow(4, "dense", 8, 2, alpha=2, kernel_size=3)
        other.load_state_dict(plain.state_dict())
        first = plain.conv1.weight.detach().view(-1, 2, 8, 8)
        other.conv1.weight.data.copy_(permute(first).flatten(1))
        optimizers = [
            BetaLasso(lasso_groups(m, 1e-3, first=3e-3), 0.2, 1e-3, 20) for m in (plain, other)
        ]
        for _ in range(30):
            x, y = torch.randn(10, 2, 8, 8), torch.randint(4, (10,))
            for network, optimizer, shown in zip(
                (plain, other), optimizers, (x, permute(x)), strict=True
            ):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(shown), y).backward()
                optimizer.step()
        learned = other.conv1.weight.detach().view(-1, 2, 8, 8)
        torch.testing.assert_close(permute.undo(learned).flatten(1), plain.conv1.weight.detach())
        assert 0 < (learned == 0).double().mean() < 1
    finally:
        torch.set_default_dtype(torch.float32)


def test_bad_input() -> None:
    for options, message in (
        ({"alpha": 0}, "alpha must be >= 1, got 0"),
        ({"connectivity": "full"}, "connectivity must be one of conv, local, dense"),
        ({"classes": 0}, "classes must be >= 1"),
        ({"connectivity": "dense", "init": 0.1}, "init of a dense network must be one of"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            shallow(**{"input_size": 8, "alpha": 1} | options)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="kernel_size must be odd"):
        resnet18_small(4)
