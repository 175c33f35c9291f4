"""The low-rank layer is what Eqs. 1 to 6 say, whatever form computes it, and refuses the rest."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from neurosim.errors import InvalidArgument
from neurosim.nn import Bank, LocallyConnected2d, LowRankLocal2d
from neurosim.nn.combine import SHARINGS, InputWeights
from neurosim.nn.ops.local import Geometry
from neurosim.nn.ops.low_rank import FORMS, low_rank_product, wide
from neurosim.nn.ops.low_rank import local as local_form

DOUBLE = torch.float64


def layer(*args: Any, **options: Any) -> Any:
    """A layer in double precision all of whose parameters are drawn."""
    made = LowRankLocal2d(*args, dtype=DOUBLE, **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return made


def per_position(x: torch.Tensor, made: Any) -> torch.Tensor:
    """Eqs. 1 and 2 position by position and example by example, from patches cut by hand."""
    combining = made.combine(x)
    combining = combining.expand(len(x), *combining.shape[-3:])
    (sy, sx), (height, width) = made.stride, made.output_size
    y = x.new_zeros(len(x), made.out_channels, height, width)
    for members, basis, g in zip(made.members, made.bases, made.geometries, strict=True):
        (top, left), (bottom, right) = g.before, g.after
        padded = functional.pad(x, (left, right, top, bottom))
        (kh, kw), (dy, dx) = g.kernel_size, g.dilation
        for n in range(len(x)):
            for i in range(height):
                for j in range(width):
                    rows = slice(i * sy, i * sy + dy * (kh - 1) + 1, dy)
                    columns = slice(j * sx, j * sx + dx * (kw - 1) + 1, dx)
                    bank = sum(combining[n, k, i, j] * basis[m] for m, k in enumerate(members))
                    y[n, :, i, j] = y[n, :, i, j] + (bank * padded[n, :, rows, columns]).sum(
                        (1, 2, 3)
                    )
    if made.spatial_bias is not None:
        y = y + sum(made.spatial_bias.parameters())
    return y if made.bias is None else y + made.bias[:, None, None]


def gradients(y: torch.Tensor, wanted: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    upstream = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).view_as(y)
    return torch.autograd.grad((y * upstream).sum(), wanted)


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = max(1.0, float(expected.detach().abs().max()))
    assert float((found - expected).detach().abs().max()) <= 1e-12 * scale


GEOMETRIES = [
    {},
    {"padding": 1},
    {"padding": "same"},
    {"stride": (2, 1), "padding": (2, 0)},
    {"dilation": 2, "padding": (1, 2)},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("weights", [*SHARINGS, "input"])
@pytest.mark.parametrize("form", ["auto", *FORMS])
def test_outputs_and_gradients_are_those_of_the_definition(
    geometry: dict[str, Any], weights: str, form: str
) -> None:
    if (form, weights) == ("local", "input"):
        pytest.skip("refused, see below")
    torch.manual_seed(0)
    how = {"input_dependent": True} if weights == "input" else {"sharing": weights}
    made = layer(2, 3, (3, 2), (6, 7), 3, **geometry, **how, form=form)
    x = torch.randn(2, 2, 6, 7, dtype=DOUBLE, requires_grad=True)
    wanted = [x, *made.parameters()]
    y, expected = made(x), per_position(x, made)
    assert_equal(y, expected)
    for found, reference in zip(gradients(y, wanted), gradients(expected, wanted), strict=True):
        assert_equal(found, reference)


@pytest.mark.gpu
@pytest.mark.parametrize("weights", [*SHARINGS, "input"])
@pytest.mark.parametrize("form", ["auto", *FORMS])
def test_a_gpu_computes_the_same(weights: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (form, weights) == ("local", "input"):
        pytest.skip("refused, see below")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # it rounds factors by default
    torch.manual_seed(0)
    how = {"input_dependent": True} if weights == "input" else {"sharing": weights}
    made = layer(4, 6, 3, 8, 2, padding=1, **how, form=form).float()
    x = torch.randn(5, 4, 8, 8, requires_grad=True)
    results = []
    for device in ("cpu", "cuda"):
        there, seen = copy.deepcopy(made).to(device), x.detach().to(device).requires_grad_()
        y = there(seen)
        results.append([t.cpu() for t in (y, *gradients(y, [seen, *there.parameters()]))])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_forms_agree_whatever_the_shape(data: st.DataObject) -> None:
    """Also where a form works in many parts: with chunks of one image and bands of one row."""
    draw = data.draw
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    size = (draw(st.integers(7, 9)), draw(st.integers(7, 9)))  # four positions at least
    rank, batch = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    made = layer(
        draw(st.integers(1, 3)), draw(st.integers(1, 3)), kernel, size, rank,
        stride=draw(st.integers(1, 2)), padding=draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)), sharing="position",
    )  # fmt: skip
    x = torch.randn(batch, made.in_channels, *size, dtype=DOUBLE, requires_grad=True)
    if draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    geometry, results = made.geometries[0], {}
    before = wide.CHUNK["cpu"], local_form.BAND["cpu"]
    try:
        wide.CHUNK["cpu"] = local_form.BAND["cpu"] = draw(st.sampled_from([1, 2**24]))
        for form in FORMS:
            y = low_rank_product(x, made.combining(), made.bases[0], geometry, form)
            results[form] = (y, *gradients(y, [x, made.combine.table, made.bases[0]]))
    finally:
        wide.CHUNK["cpu"], local_form.BAND["cpu"] = before
    for form in ("wide", "local"):
        for found, reference in zip(results[form], results["naive"], strict=True):
            assert_equal(found, reference)


def test_rank_one_is_a_convolution_with_a_spatial_bias() -> None:
    made = layer(3, 5, 3, 8, 1, padding=1)
    x = torch.randn(2, 3, 8, 8, dtype=DOUBLE)
    bias = made.spatial_bias.row + made.spatial_bias.column
    expected = functional.conv2d(x, made.bases[0][0], made.bias, padding=1) + bias
    assert_equal(made(x), expected)


def test_full_rank_with_one_hot_weights_is_a_locally_connected_layer() -> None:
    local = LocallyConnected2d(2, 3, 3, 5, padding=1, bias="position", dtype=DOUBLE)  # type: ignore[arg-type]
    positions = 25
    made = layer(
        2, 3, 3, 5, positions, padding=1, sharing="position", normalisation="none", bias=False,
        spatial_bias=False,
    )  # fmt: skip
    with torch.no_grad():
        made.bases[0].copy_(local.weight.flatten(0, 1))
        made.combine.table.copy_(torch.eye(positions).view(positions, 5, 5))
    x = torch.randn(2, 2, 5, 5, dtype=DOUBLE)
    assert_equal(made(x) + local.bias, local(x))


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("normalisation", ["softmax", "norm", "none"])
def test_starts_as_a_convolution(sharing: Any, normalisation: Any) -> None:
    """1/sqrt(K), halved where rows and columns add up; all positions get the same filters."""
    made = LowRankLocal2d(2, 3, 3, 6, 4, sharing=sharing, normalisation=normalisation)
    expected = 1 / 4 if normalisation == "softmax" else 1 / math.sqrt(4)
    torch.testing.assert_close(made.combining(), torch.full((4, 4, 4), expected))
    raw = {name: float(table.detach().mean()) for name, table in made.combine.named_parameters()}
    each = 0.25 if sharing == "row+column" else 0.5
    assert raw == {name: pytest.approx(each) for name in raw}
    again = LowRankLocal2d(2, 3, 3, 6, 4, sharing=sharing, init="random")
    assert float(again.combining().std(dim=(1, 2)).min()) > 0


def test_normalisations() -> None:
    for normalisation, length in (("softmax", 1), ("norm", 2)):
        made = layer(2, 3, 3, 6, 4, normalisation=normalisation)
        norms = made.combining().norm(p=length, dim=0)
        torch.testing.assert_close(norms, torch.ones_like(norms))
    made = layer(2, 3, 3, 6, 4, normalisation="none")
    torch.testing.assert_close(made.combining(), made.combine.row + made.combine.column)


def test_parameters_are_as_many_as_published() -> None:
    """(H + W) K combining weights, and H + W + C biases (Algorithm 1); H and W of the output."""
    rank, size, out = 4, (10, 12), (8, 10)
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    made = LowRankLocal2d(2, 3, 3, size, rank)
    assert count(made.combine) == sum(out) * rank
    assert count(made.spatial_bias) == sum(out)
    assert count(made) == 27 * 2 * rank + sum(out) * (rank + 1) + 3
    assert count(LowRankLocal2d(2, 3, 3, size, rank, sharing="row").combine) == 8 * rank
    assert count(LowRankLocal2d(2, 3, 3, size, rank, sharing="column").combine) == 10 * rank
    full = LowRankLocal2d(2, 3, 3, size, rank, sharing="position")
    assert count(full.combine) == 80 * rank
    assert count(full.spatial_bias) == 80
    assert count(LowRankLocal2d(2, 3, 3, size, rank, input_dependent=True).spatial_bias) == 80


@pytest.mark.parametrize(("side", "scales"), [(32, 4), (17, 4), (16, 3), (5, 2), (3, 1), (2, 0)])
def test_the_light_network_has_the_scales_that_fit(side: int, scales: int) -> None:
    rank = 3
    g = InputWeights(rank, 7, (side, side), (side, side), "softmax")
    assert len(g.scales) == scales
    shapes = [tuple(m.weight.shape[:2]) for m in (g.reduce, g.squeeze, g.excite, g.project)]
    assert shapes == [(rank, 7), (3 * rank, (2 + scales) * rank), (6 * rank, 3 * rank),
                      (rank, 6 * rank)]  # fmt: skip
    assert all(m.bias is not None for m in g.modules() if isinstance(m, nn.Conv2d))
    assert g(torch.randn(2, 7, side, side)).shape == (2, rank, side, side)


def test_the_light_network_step_by_step() -> None:
    """Against a computation of its own: bilinear resizing with aligned corners by hand."""
    rank = 2
    g: Any = InputWeights(rank, 3, (9, 9), (7, 7), "none", dtype=DOUBLE)
    x = torch.randn(1, 3, 9, 9, dtype=DOUBLE)
    low = torch.einsum("kc,nchw->nkhw", g.reduce.weight[:, :, 0, 0], x)
    low = low + g.reduce.bias[:, None, None]  # type: ignore[index]

    def resized(y: torch.Tensor) -> torch.Tensor:
        for axis in (2, 3):
            size = y.shape[axis]
            matrix = torch.zeros(7, size, dtype=DOUBLE)
            for i in range(7):
                at = i * (size - 1) / 6
                low_end = min(int(at), size - 1)
                matrix[i, low_end] += 1 - (at - low_end)
                matrix[i, min(low_end + 1, size - 1)] += at - low_end
            y = torch.tensordot(y, matrix.t(), ([axis], [0])).movedim(-1, axis)
        return y

    parts = [low, low.mean((2, 3), keepdim=True)]
    for dilation, scale in zip((1, 2, 4), g.scales, strict=True):
        out = 9 - 2 * dilation
        y = torch.zeros(1, rank, out, out, dtype=DOUBLE)
        for a in range(3):
            for b in range(3):
                rows = slice(a * dilation, a * dilation + out)
                columns = slice(b * dilation, b * dilation + out)
                y += scale.weight[:, 0, a, b, None, None] * low[:, :, rows, columns]
        parts.append(y + scale.bias[:, None, None])
    y = torch.cat([resized(part) for part in parts], 1).movedim(1, -1)
    squeezed = functional.relu(functional.linear(y, g.squeeze.weight.flatten(1), g.squeeze.bias))
    excited = functional.linear(squeezed, g.excite.weight.flatten(1), g.excite.bias).sigmoid()
    y = functional.linear(excited, g.project.weight.flatten(1), g.project.bias).movedim(-1, 1)
    assert_equal(g(x), y)


MIXED = [Bank(3), Bank(5), Bank(3, 2), Bank((1, 4)), Bank(3)]


@pytest.mark.parametrize("how", [{"sharing": "position"}, {}, {"input_dependent": True}])
def test_banks_of_mixed_structure(how: dict[str, Any]) -> None:
    made = layer(2, 3, MIXED, (6, 7), 5, padding="same", **how)
    assert len(made.bases) == 4  # the two of 3x3 are computed together
    x = torch.randn(2, 2, 6, 7, dtype=DOUBLE, requires_grad=True)
    y, expected = made(x), per_position(x, made)
    assert_equal(y, expected)
    wanted = [x, *made.parameters()]
    for found, reference in zip(gradients(y, wanted), gradients(expected, wanted), strict=True):
        assert_equal(found, reference)
    if "input_dependent" not in how:
        assert_equal(made.expanded()(x), y)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("bias", [(True, True), (True, False), (False, True), (False, False)])
def test_expanded_has_the_same_outputs(geometry: dict[str, Any], bias: tuple[bool, bool]) -> None:
    made = layer(2, 3, (3, 2), (6, 7), 4, **geometry, bias=bias[0], spatial_bias=bias[1])
    x = torch.randn(2, 2, 6, 7, dtype=DOUBLE)
    local = made.expanded()
    assert isinstance(local, LocallyConnected2d)
    assert_equal(local(x), made(x))
    assert (local.bias is None) == (bias == (False, False))


@pytest.mark.parametrize("how", [{}, {"input_dependent": True}])
def test_without_a_batch(how: dict[str, Any]) -> None:
    made = layer(2, 3, 3, (6, 7), 4, padding=1, **how)
    x = torch.randn(2, 6, 7, dtype=DOUBLE)
    assert_equal(made(x), made(x[None])[0])


def test_half_precision_and_autocast() -> None:
    made = LowRankLocal2d(2, 4, 3, 8, 3, padding=1)
    x = torch.randn(20, 2, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        low = made(x)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), made(x), atol=0.1, rtol=0.05)
    low.float().sum().backward()
    assert made.bases[0].grad is not None


REFUSED = [
    ({"rank": 0}, "rank must be a whole number >= 1, got 0"),
    ({"rank": 2.0}, "rank must be a whole number >= 1, got 2.0"),
    ({"rank": 37}, "rank must be at most H W = 36, the number of output positions, got 37"),
    ({"input_dependent": True, "sharing": "row+column"}, "sharing must be .* got 'row\\+column'"),
    ({"input_dependent": True, "sharing": "row"}, "sharing must be .* got 'row'"),
    ({"kernel_size": [Bank(3), Bank(5)]}, 'padding must be "same" .* got 0'),
    ({"kernel_size": [Bank(3)] * 3, "padding": "same"}, "rank must be 3, .* got 2"),
    ({"sharing": "rows"}, "did you mean 'row'"),
    ({"normalisation": "max"}, "normalisation must be one of softmax, norm, none"),
    ({"init": "zero"}, "init must be one of conv, random"),
    ({"form": "wider"}, "did you mean 'wide'"),
    ({"form": "local", "input_dependent": True}, 'form must be "wide"'),
    ({"kernel_size": 9}, "must fit"),
    ({"stride": 0}, "stride must be"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    options = {"kernel_size": 3, "rank": 2, **change}
    with pytest.raises(InvalidArgument, match=message):
        LowRankLocal2d(2, 3, input_size=8, **options)


def test_a_size_other_than_the_layers() -> None:
    made = LowRankLocal2d(2, 3, 3, 8, 2)
    for shape in ((1, 2, 8, 9), (1, 3, 8, 8), (8, 2, 8), (8, 8), (1, 1, 2, 8, 8)):
        with pytest.raises(InvalidArgument, match=r"must be of shape \(2, 8, 8\), with or"):
            made(torch.zeros(shape))
    with pytest.raises(InvalidArgument, match="dtype"):
        made(torch.zeros(1, 2, 8, 8, dtype=DOUBLE))
    with pytest.raises(InvalidArgument, match="must be fixed"):
        LowRankLocal2d(2, 3, 3, 8, 2, input_dependent=True).expanded()


def test_a_model_can_become_channels_last() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), LowRankLocal2d(4, 3, 3, 6, 2, input_dependent=True))
    x = torch.randn(2, 2, 8, 8)
    expected = model(x)
    model: Any = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    y = model(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(y, expected)
    assert model.double()(x.double()).dtype == DOUBLE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["wide", "local"])
def test_gradients_of_many_parts_are_rounded_once(
    form: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ones added up in half precision come to a stop at 256 or 2,048; here every part is a one."""
    parts = 3000
    monkeypatch.setattr(wide, "CHUNK", {"cpu": 1})
    monkeypatch.setattr(local_form, "BAND", {"cpu": 1})
    images, rows = (parts, 1) if form == "wide" else (1, parts)
    geometry = Geometry((rows, 1), (1, 1), (1, 1), (1, 1), (0, 0), (0, 0))
    x = torch.ones(images, 1, rows, 1, dtype=dtype)
    combining = torch.ones(2, rows, 1, dtype=dtype, requires_grad=True)
    bases = torch.ones(2, 1, 1, 1, 1, dtype=dtype, requires_grad=True)
    low_rank_product(x, combining, bases, geometry, form).sum().backward()
    assert bases.grad is not None
    assert combining.grad is not None
    assert torch.equal(bases.grad, torch.full_like(bases, parts))
    assert torch.equal(combining.grad, torch.full_like(combining, images))


@pytest.mark.parametrize("form", ["auto", "naive", "wide", "local"])
@pytest.mark.parametrize("dependent", [False, True])
def test_no_images(form: str, dependent: bool) -> None:
    if dependent and form == "local":
        return
    made = LowRankLocal2d(2, 3, 3, (6, 5), 4, input_dependent=dependent, form=form)
    x = torch.zeros(0, 2, 6, 5, requires_grad=True)
    y = made(x)
    assert y.shape == (0, 3, 4, 3)
    y.sum().backward()
    assert x.grad is not None
    assert all(p.grad is None or not p.grad.any() for p in made.parameters())
