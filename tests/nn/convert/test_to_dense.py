"""Embedding in fully connected layers and back: equal outputs, and refusal where there are none."""

# Layers are reached by name, of which torch does not know the types.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument
from neurosim.models import resnet20
from neurosim.nn import Dense, LocallyConnected2d, restrict, to_dense, to_local
from neurosim.nn.dense import UnitNorm
from neurosim.nn.masked import sever_weights

GEOMETRIES = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1},
    "rectangular": {"kernel_size": (3, 2), "padding": (2, 0), "stride": (1, 3)},
    "dilated": {"dilation": 2, "padding": 2},
    "grouped": {"groups": 2, "padding": 1, "bias": False},
}
WRAPPED = {
    "circular": {"padding": 1, "padding_mode": "circular"},
    "reflected": {"padding": 2, "padding_mode": "reflect", "stride": 2},
    "replicated": {"padding": 2, "padding_mode": "replicate"},
}


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.fixture(autouse=True)
def _double() -> object:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def conv(**options: object) -> nn.Conv2d:
    return nn.Conv2d(4, 6, **({"kernel_size": 3} | options))


@pytest.mark.parametrize("name", [*GEOMETRIES, *WRAPPED])
def test_a_dense_layer_answers_as_the_one_it_embeds(name: str) -> None:
    layer, x = conv(**(GEOMETRIES | WRAPPED)[name]), torch.randn(3, 4, 7, 8)
    dense = to_dense(layer, x)
    assert_close(dense(x), layer(x))
    local = to_local(layer, x)  # a filter of its own everywhere
    assert_close(to_dense(local, x)(x), local(x))
    assert isinstance(dense, Dense)
    assert isinstance(dense, nn.Linear)
    assert dense.weight.shape == (dense(x)[0].numel(), x[0].numel())


@pytest.mark.parametrize("name", GEOMETRIES)
def test_and_back(name: str) -> None:
    x = torch.randn(3, 4, 7, 8)
    local = to_local(conv(**GEOMETRIES[name]), x)
    again = to_local(to_dense(local, x), x, init="copy")
    assert_close(again(x), local(x))
    assert again.geometry == local.geometry
    drawn = to_local(to_dense(local, x), x)
    assert drawn.weight.shape == local.weight.shape
    assert not torch.allclose(drawn.weight, local.weight)


@pytest.mark.parametrize("axes", [1, 3])
def test_sequences_and_volumes(axes: int) -> None:
    kind = {1: nn.Conv1d, 3: nn.Conv3d}[axes]
    layer, x = kind(2, 3, 3, stride=2, padding=1), torch.randn(2, 2, *(5, 4, 6)[:axes])
    dense = to_dense(layer, x)
    assert_close(dense(x), layer(x))
    assert_close(to_local(dense, x, init="copy")(x), layer(x))


def test_every_weight_is_a_filters_or_zero() -> None:
    """By hand, for a filter of 2 over 3 pixels."""
    layer = nn.Conv1d(1, 1, 2, bias=False)
    a, b = layer.weight.flatten().tolist()
    dense = to_dense(layer, torch.zeros(1, 1, 3))
    assert_close(dense.weight.detach(), torch.tensor([[a, b, 0], [0, a, b]]))


def test_whole_networks_with_norms_of_every_unit() -> None:
    model, x = resnet20(input_size=8).train(), torch.randn(4, 3, 8, 8)
    for _ in range(3):
        model(torch.randn(16, 3, 8, 8))  # statistics that differ between channels
    before = {k: v.clone() for k, v in model.state_dict().items()}
    dense = to_dense(model.eval(), x, units=True)
    assert_close(dense(x), model(x))
    assert not any(isinstance(m, nn.Conv2d | nn.BatchNorm2d) for m in dense.modules())
    assert_close(to_local(dense, x, init="copy")(x), model(x))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    kept = to_dense(model, x, skip=["conv1", "*.downsample.0"])
    assert isinstance(kept.conv1, nn.Conv2d)
    assert_close(kept(x), model(x))


def test_severed_connections_stay_zero() -> None:
    x = torch.randn(2, 4, 6, 6)
    local = sever_weights(to_local(conv(), x), 0.5)
    dense = to_dense(local, x)
    assert_close(dense(x), local(x))
    assert dense.weight.count_nonzero() == local.weight.count_nonzero() > 0
    assert local.weight.count_nonzero() < 0.6 * local.weight.numel()


def test_independent_weights_are_drawn_anew() -> None:
    dense = to_dense(conv(), torch.zeros(1, 4, 6, 6), init="independent")
    assert dense.weight.count_nonzero() == dense.weight.numel()
    assert dense.weight.detach().std() == pytest.approx((2 / (4 * 36)) ** 0.5, rel=0.05)


def test_gradients_and_modes_follow() -> None:
    layer = conv().eval().requires_grad_(False)
    dense = to_dense(layer, torch.zeros(1, 4, 6, 6))
    assert not dense.training
    assert not any(p.requires_grad for p in dense.parameters())


def test_unit_norm_is_batch_norm_of_every_unit() -> None:
    x, norm = torch.randn(9, 2, 3, 4), UnitNorm(24)
    y = norm(x)
    assert_close(y.mean(0), torch.zeros(2, 3, 4))
    assert_close(y.var(0, correction=0), x.var(0, correction=0) / (x.var(0, correction=0) + 1e-5))


# What is not local


def test_weights_outside_of_the_fields_are_refused_and_counted() -> None:
    x = torch.zeros(1, 4, 6, 6)
    dense = to_dense(conv(), x)
    inside = int(dense.weight.count_nonzero())
    dense.weight.data[0, -3:] = 1.0
    with pytest.raises(InvalidArgument, match=f"got 3 of {inside + 3:,} non-zero weights outside"):
        to_local(dense, x, init="copy")
    lost = restrict(dense)
    assert 0 < lost < 1
    assert dense.weight.count_nonzero() == inside
    to_local(dense, x, init="copy")


def test_a_layer_without_receptive_fields() -> None:
    with pytest.raises(InvalidArgument, match="layer must have receptive fields to become local"):
        to_local(Dense((1, 4, 4), (2, 2, 2)), torch.zeros(1, 1, 4, 4), init="copy")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_dense(nn.Linear(2, 2), 4), "model must contain a convolution or a locally"),
        (lambda: to_dense(conv(), 6, init="other"), "init must be one of copy, independent"),
        (lambda: to_dense(nn.ConvTranspose2d(2, 2, 3), 6), "must be a Conv1d"),
        (lambda: Dense((1, 2, 2), (0,)), "output_shape must be channels and sizes"),
        (lambda: Dense((1, 2, 2), (3,))(torch.zeros(2, 4)), "input of Dense must be of shape"),
    ],
)  # fmt: skip
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()  # type: ignore[operator]


class NormAndReLU(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        return super().forward(input).relu()


def test_a_norm_that_computes_something_else_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), NormAndReLU(3))
    with pytest.raises(InvalidArgument, match="layer '1' must compute as BatchNorm2d"):
        to_dense(model, torch.zeros(1, 2, 5, 5), units=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"affine": False}])
def test_units_are_normalised_in_the_norms_own_numbers(dtype, options: dict[str, bool]) -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, **options)).to(dtype)
    for parameter in model[1].parameters():
        parameter.requires_grad_(False)
    dense = to_dense(model.eval(), torch.zeros(1, 2, 5, 5, dtype=dtype), units=True)
    for tensor in (*dense[1].parameters(), *dense[1].buffers()):
        assert tensor.dtype in (dtype, torch.int64)
    assert not any(p.requires_grad for p in dense[1].parameters())
    x = torch.randn(4, 2, 5, 5, dtype=dtype)
    torch.testing.assert_close(dense(x), model(x), rtol=0.05, atol=0.05)
    batches = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False))
    with pytest.raises(InvalidArgument, match="track_running_stats of layer '1' must be True"):
        to_dense(batches.eval(), torch.zeros(1, 2, 5, 5), units=True)


def test_what_has_no_convolution_needs_a_tensor() -> None:
    model = nn.Sequential(LocallyConnected2d(2, 3, 3, 6))
    with pytest.raises(InvalidArgument, match="example must be a tensor, or tensors"):
        to_dense(model, (1, 2, 6, 6))
    assert to_dense(model, torch.zeros(1, 2, 6, 6))
