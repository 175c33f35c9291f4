"""Units of a fully connected layer in an order that makes a map, where they have one."""

# Layers are reached by name, of which torch does not know the types.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument
from neurosim.models import shallow
from neurosim.nn import arrange, restrict, to_dense, to_local
from neurosim.nn.arrange import covered


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.fixture(autouse=True)
def _double() -> object:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def scrambled(seed: int = 0) -> tuple[nn.Sequential, nn.Sequential, Tensor]:
    """A local network as a dense one, and the same with hidden units in any order."""
    torch.manual_seed(seed)
    x = torch.randn(5, 2, 10, 10)
    local = shallow(4, "local", 10, 2, alpha=3, kernel_size=4).train()
    for _ in range(3):
        local(torch.randn(20, 2, 10, 10))
    dense = to_dense(local.eval(), x, units=True)
    mixed = copy.deepcopy(dense)
    order = torch.randperm(mixed.conv1.out_features)
    with torch.no_grad():
        mixed.conv1.weight.copy_(dense.conv1.weight[order])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(mixed.norm1, name).copy_(getattr(dense.norm1, name)[order])
        mixed.linear2.weight.copy_(dense.linear2.weight[:, order])
    return dense, mixed, x


def test_arranged_units_are_local_again_and_outputs_stay() -> None:
    dense, mixed, x = scrambled()
    close(mixed(x), dense(x))
    with pytest.raises(InvalidArgument, match="must be local to become locally connected"):
        to_local(mixed, x, init="copy")
    before = mixed.conv1.weight.detach().clone()
    order = arrange(mixed.conv1, mixed.norm1, mixed.linear2)
    assert sorted(order.tolist()) == list(range(len(before)))
    close(mixed.conv1.weight.detach(), before[order])
    close(mixed(x), dense(x))
    assert restrict(mixed.conv1) == pytest.approx(0, abs=1e-12)
    close(to_local(mixed, x, init="copy")(x), dense(x))


def test_channels_gather_filters_that_are_alike() -> None:
    """Units of a convolution, in any order: every channel finds its filter again."""
    x = torch.zeros(1, 2, 10, 10)
    model = shallow(4, "conv", 10, 2, alpha=3, kernel_size=4).eval()
    dense = to_dense(model, x, units=True)
    order = torch.randperm(dense.conv1.out_features)
    dense.conv1.weight.data = dense.conv1.weight.data[order]
    arrange(dense.conv1, dense.norm1, dense.linear2)
    local = to_local(dense, x, init="copy").conv1.weight  # (H, W, O, C, k, k)
    middle = local[2:3, 2:3].expand_as(local)
    inner = (slice(1, 3), slice(1, 3))  # fields within the image
    close(local[inner].detach(), middle[inner].detach())


def test_covered_is_the_weight_in_every_field() -> None:
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    dense = to_dense(conv, torch.zeros(1, 4, 7, 8), init="independent")
    found = covered(dense)
    weight = dense.weight.detach().abs().view(-1, 4, 7, 8)
    assert found.shape == (6 * 16, 16)
    for place, (row, column) in {0: (0, 0), 6: (1, 2), 15: (3, 3)}.items():
        rows = slice(max(0, 2 * row - 1), 2 * row + 2)
        columns = slice(max(0, 2 * column - 1), 2 * column + 2)
        expected = weight[..., rows, columns].sum((1, 2, 3)).float()
        torch.testing.assert_close(found[:, place], expected, rtol=1e-4, atol=1e-4)


def test_only_layers_that_read_the_units_and_no_others_follow() -> None:
    dense, _, _ = scrambled()
    before = dense.conv1.weight.detach().clone()
    units = dense.conv1.out_features
    with pytest.raises(InvalidArgument, match=f"after.in_features must be {units}, the layer's"):
        arrange(dense.conv1, dense.norm1, nn.Linear(2 * units, 3))
    with pytest.raises(InvalidArgument, match=f"norm.num_features must be {units}, the layer's"):
        arrange(dense.conv1, nn.BatchNorm1d(3), dense.linear2)
    assert torch.equal(dense.conv1.weight, before)
