"""The published network and its baselines: sizes, parameter counts, initial weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from neurosim.errors import InvalidArgument
from neurosim.models import lrlc
from neurosim.models.lrlc import DEPTHS, LAYERS, Coordinates, wide_channels
from neurosim.nn import LocallyConnected2d, LowRankLocal2d


def build(**options: Any) -> Any:
    return lrlc(**options)


def count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


CONV = 9 * (3 * 64 + 2 * 64 * 64) + 3 * 2 * 64 + 64 * 10 + 10


def test_parameters_by_hand() -> None:
    assert count(build(layer="conv")) == CONV
    assert count(build(layer="fc")) == CONV + (26 * 26 - 1) * 640
    assert count(build(layer="coord")) == CONV + 9 * 2 * 64
    assert count(build(layer="bias", depth="1")) == CONV + (30 + 30) * 2
    more = 3 * 9 * 64 * 64 + (26 + 26) * (4 + 1)
    assert count(build(layer="low-rank", rank=4)) == CONV + more
    local = (26**2 - 1) * 9 * 64 * 64 + 26**2 * 64
    assert count(build(layer="local")) == CONV + local


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_every_network_runs_and_is_where_it_should_be(layer: Any, depth: Any) -> None:
    model = build(layer=layer, depth=depth, input_size=(9, 8), in_channels=1, channels=(4, 5, 6))
    assert model(torch.randn(2, 1, 9, 8)).shape == (2, 10)
    kinds = {"bias": LowRankLocal2d, "low-rank": LowRankLocal2d, "input-dependent": LowRankLocal2d,
             "local": LocallyConnected2d}  # fmt: skip
    kind = kinds.get(layer, nn.Conv2d)
    plain = build(layer="conv", input_size=(9, 8), in_channels=1, channels=(4, 5, 6))
    for number in (1, 2, 3):
        made, conv = (m.get_submodule(f"conv{number}") for m in (model, plain))
        here = depth in (str(number), "all")
        assert isinstance(made, kind if here else nn.Conv2d)
        if layer not in ("coord", "wide"):
            assert (made.in_channels, made.out_channels) == (conv.in_channels, conv.out_channels)
    norm = model.get_submodule("bn1")
    assert (norm.momentum, norm.eps) == (0.1, 1e-5)


@pytest.mark.parametrize("rank", [2, 4, 7])
@pytest.mark.parametrize("depth", ["1", "2", "3"])
def test_a_wide_network_has_as_many_parameters_as_a_low_rank_one(rank: int, depth: Any) -> None:
    """Up to the weights of one channel, and to biases and combining weights, which it lacks."""
    wide = build(layer="wide", depth=depth, rank=rank)
    low = build(layer="low-rank", depth=depth, rank=rank)
    small = sum(
        count(part) for m in low.modules() if isinstance(m, LowRankLocal2d)
        for part in (m.combine, m.spatial_bias)
    )  # fmt: skip
    extra = count(wide.fc) - count(low.fc) + count(wide.bn3) - count(low.bn3)
    one_channel = 9 * (64 + 64) + 2
    assert abs(count(wide) - extra - (count(low) - small)) <= one_channel + 2 * 64 * rank
    assert wide_channels(rank, 64, 64, last=True) == 64 * rank
    assert wide_channels(rank, 3, 64, last=False) == int((rank * 3 + 64) / 67 * 64)


def test_kernels_are_he_uniform() -> None:
    for layer in ("conv", "low-rank", "local"):
        kernel = build(layer=layer, depth="3").conv3
        weight = kernel.bases[0] if layer == "low-rank" else kernel.weight
        bound = math.sqrt(6 / (9 * 64))
        assert float(weight.abs().max()) == pytest.approx(bound, rel=0.01)
        assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_coordinates_are_added_at_the_input() -> None:
    x = torch.randn(2, 3, 5, 4)
    y = Coordinates()(x)
    assert torch.equal(y[:, :3], x)
    assert torch.equal(y[0, 3, :, 0], torch.linspace(-1, 1, 5))
    assert torch.equal(y[1, 4, 2], torch.linspace(-1, 1, 4))


REFUSED = [
    ({"layer": "low rank"}, "did you mean 'low-rank'"),
    ({"depth": "4"}, "depth must be one of 1, 2, 3, all"),
    ({"rank": 0}, "rank must be >= 1"),
    ({"rank": 26 * 26 + 1}, "rank must be at most H W = 676"),
    ({"input_size": 6}, "input_size must be >= 7"),
    ({"classes": 0}, "classes must be >= 1"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        build(**change)
