"""Between convolutions, low-rank and locally connected layers, in whole models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from neurosim import nn as local_nn
from neurosim.errors import InvalidArgument
from neurosim.models import resnet20
from neurosim.nn import Bank, LocallyConnected2d, LowRankLocal2d, low_rank_of

to_local: Any = local_nn.to_local
to_low_rank: Any = local_nn.to_low_rank


def small() -> Any:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, (2, 3), padding="same", bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ).double()


def random_(layer: Any) -> Any:
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return layer


X = torch.randn(3, 2, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("init", ["copy", 0.3])
@pytest.mark.parametrize("normalisation", ["softmax", "norm", "none"])
@pytest.mark.parametrize("sharing", [None, "position"])
def test_outputs_stay_and_so_do_those_of_to_local(
    init: Any, normalisation: str, sharing: str | None
) -> None:
    model = small()
    low = to_low_rank(model, X, 3, init=init, normalisation=normalisation, sharing=sharing)
    assert [type(m) for m in low][::2][:2] == [LowRankLocal2d] * 2
    torch.testing.assert_close(low(X), model(X))
    apart = (low[0].bases[0] - low[0].bases[0][0]).abs().max()
    assert (apart > 0) == (init != "copy")
    for parameter in low.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    local = to_local(low, X)
    assert isinstance(local[0], LocallyConnected2d)
    assert local[0].name == "0"
    torch.testing.assert_close(local(X), low(X))
    assert isinstance(low[0], LowRankLocal2d)  # a copy was converted


def test_any_model() -> None:
    model = resnet20()
    low = to_low_rank(model, 32, 2, skip=[1, local_nn.pointwise], init="copy")
    kinds = [type(m) for m in low.modules() if isinstance(m, nn.Conv2d | LowRankLocal2d)]
    assert kinds.count(nn.Conv2d) == 3
    assert kinds.count(LowRankLocal2d) == 18
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(low.eval()(x), model.eval()(x), atol=1e-4, rtol=1e-4)


def test_rank_is_at_most_the_number_of_positions() -> None:
    low = to_low_rank(nn.Sequential(nn.Conv2d(2, 3, 3)), (1, 2, 4, 4), 9)
    assert low[0].rank == 4


@pytest.mark.parametrize("bias", [True, False, "position"])
def test_best_rank_k_is_what_the_svd_leaves(bias: Any) -> None:
    layer = random_(
        LocallyConnected2d(2, 3, 3, (5, 6), stride=(2, 1), padding=1, bias=bias,
                           dtype=torch.float64)
    )  # fmt: skip
    x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
    filters = layer.weight.detach().flatten(2).flatten(0, 1)
    singular = np.linalg.svd(filters.numpy(), compute_uv=False)
    for rank in (1, 2, 5, 18):
        low = low_rank_of(layer, rank)
        error = (low.expanded().weight - layer.weight).norm().item()
        assert error == pytest.approx(np.sqrt((singular[rank:] ** 2).sum()), abs=1e-10)
    if bias != "position":  # a sum of both is all that a low-rank layer has
        torch.testing.assert_close(low(x), layer(x))
    else:
        assert low.bias is not None
        offsets = low.offsets()
        assert offsets is not None
        rest = layer.bias - offsets
        for axes in ((1, 2), 0):  # least squares: nothing is left of either mean
            torch.testing.assert_close(rest.mean(axes), torch.zeros_like(rest.mean(axes)))


def test_more_banks_than_weights_in_a_filter() -> None:
    layer = LocallyConnected2d(1, 2, 1, 3)  # nine positions, filters of two weights
    low = low_rank_of(layer, 5)
    x = torch.randn(2, 1, 3, 3)
    torch.testing.assert_close(low(x), layer(x))
    assert all(bool(torch.isfinite(parameter).all()) for parameter in low.parameters())


def test_a_locally_connected_network_becomes_low_rank() -> None:
    local = to_local(small(), X, init="copy")
    low = to_low_rank(local, None, 1)  # shared filters have rank 1
    assert not any(isinstance(m, LocallyConnected2d) for m in low.modules())
    torch.testing.assert_close(low(X), local(X))
    torch.testing.assert_close(to_local(low, X)(X), local(X))


def test_the_light_network_inside_a_layer_is_left_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), LowRankLocal2d(4, 4, 3, 7, 2, input_dependent=True)
    )  # fmt: skip
    low = to_low_rank(model, (1, 2, 9, 9), 2)
    assert isinstance(low[1].combine.reduce, nn.Conv2d)
    with pytest.raises(InvalidArgument, match=r"layer '1' cannot be local: .* must be fixed"):
        to_local(model, (1, 2, 9, 9))


REFUSED = [
    (nn.Conv2d(2, 4, 3, groups=2), {}, "groups 1 to become low-rank, got 2"),
    (nn.Conv2d(2, 4, 3, padding_mode="circular", padding=1), {}, "padding_mode 'zeros'"),
    (nn.ConvTranspose2d(2, 4, 3), {}, "must be a Conv1d, Conv2d or Conv3d"),
    (nn.Conv2d(2, 4, 3), {"rank": 0}, "rank must be"),
    (nn.Conv2d(2, 4, 3), {"init": "copy", "combining": "random"}, "init must be"),
    (nn.Conv2d(2, 4, 3), {"init": "copied"}, "init must be one of"),
    (nn.Conv2d(2, 4, 3), {"example": None}, "example must be given"),
]


@pytest.mark.parametrize(("conv", "change", "message"), REFUSED)
def test_refused(conv: nn.Module, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        to_low_rank(nn.Sequential(conv), **{"example": (1, 2, 9, 9), "rank": 2, **change})


def test_state_dicts_and_devices_of_mixed_banks() -> None:
    banks = [Bank(3), Bank(5)]
    one, other = (LowRankLocal2d(2, 3, banks, 6, 2, padding="same") for _ in range(2))
    other.load_state_dict(one.state_dict())
    x = torch.randn(1, 2, 6, 6)
    torch.testing.assert_close(one(x), other(x), rtol=0, atol=0)
    assert one.double()(x.double()).dtype == torch.float64


def test_what_was_frozen_stays_frozen() -> None:
    local = LocallyConnected2d(2, 3, 3, (9, 8), bias="position").requires_grad_(False)
    convolutions = small().float().requires_grad_(False)
    for found in (low_rank_of(local, 2), to_low_rank(convolutions, (9, 8), 2)):
        assert not any(parameter.requires_grad for parameter in found.parameters())
    assert local.bias is not None
    local.bias.requires_grad_(True)
    trained = {n for n, p in low_rank_of(local, 2).named_parameters() if p.requires_grad}
    assert trained == {"bias", "spatial_bias.table"}


def test_in_half_precision() -> None:
    local = LocallyConnected2d(2, 3, 3, (9, 8)).bfloat16()
    found = low_rank_of(local, 42)
    x = torch.randn(2, 2, 9, 8).bfloat16()
    torch.testing.assert_close(found(x).float(), local(x).float(), atol=0.1, rtol=0.1)
