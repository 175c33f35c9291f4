"""The locally connected product: every backend against the loops, and the loops against torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.profiler import ProfilerActivity, profile

from neurosim.errors import InvalidArgument
from neurosim.nn.ops.local import BACKENDS, Geometry, from_storage, local_product
from neurosim.nn.ops.local.matmul import (
    _pack,
    local_forward,
    local_input_gradient,
    local_weight_gradient,
    to_storage,
)

FAST = [name for name in BACKENDS if name != "naive"]

# Largest error of an output or a gradient, over the largest element of the float64 reference.
# Low precision rounds the output once per element of the kernel, hence several units in the
# last place.
TOLERANCES = {
    torch.float64: 1e-14,
    torch.float32: 2e-6,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}

SQUARE = Geometry((5, 5), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
GEOMETRIES = {
    "sequence": Geometry((7,), (3,), (2,), (1,), (1,), (1,)),
    "square": SQUARE,
    "strided": replace(SQUARE, stride=(2, 3)),
    "dilated": replace(SQUARE, dilation=(2, 1), before=(2, 0), after=(1, 3)),
    "rectangular": Geometry((6, 4), (2, 3), (1, 2), (1, 1), (0, 1), (0, 1)),
    "grouped": replace(SQUARE, groups=2),
    "depthwise": replace(SQUARE, groups=4, stride=(2, 2)),
    "pointwise": Geometry((4, 3), (1, 1), (1, 2), (1, 1), (0, 0), (0, 0)),
    "one position": Geometry((3, 4), (3, 4), (1, 1), (1, 1), (0, 0), (0, 0)),
    "unseen pixels": Geometry((7, 7), (2, 2), (4, 3), (1, 1), (0, 0), (0, 0)),
    "more zeros than input": Geometry((2, 1), (3, 3), (2, 1), (1, 1), (3, 2), (2, 4)),
    "volume": Geometry((3, 4, 2), (2, 3, 1), (1, 2, 1), (1, 1, 1), (1, 0, 0), (0, 1, 0), groups=2),
}
each_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
each_backend = pytest.mark.parametrize("backend", FAST)


def drawn(
    geometry: Geometry, n: int = 3, channels: int = 4, outputs: int = 8, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Input, filters of every position (laid out for speed) and a gradient of the output."""
    rng = torch.Generator().manual_seed(seed)
    new = {"generator": rng, "dtype": torch.float64}
    x = torch.randn(n, channels, *geometry.input_size, **new)
    shape = (prod(geometry.kernel_size), geometry.positions, channels // geometry.groups, outputs)
    weight = from_storage(torch.randn(shape, **new), geometry)
    return x, weight, torch.randn(n, outputs, *geometry.output_size, **new)


def outcome(
    x: Tensor, weight: Tensor, grad: Tensor, product: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """The output of `product` and both its gradients."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    y = product(x, weight)
    by_input, by_weight = torch.autograd.grad(y, (x, weight), grad)
    return {"output": y.detach(), "input gradient": by_input, "weight gradient": by_weight}


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float) -> None:
    """Equal shapes, and nowhere further apart than `tolerance` of the largest wanted element."""
    for name, reference in wanted.items():
        value = got[name]
        assert value.shape == reference.shape, name
        if reference.numel():
            error = (value.to(reference.dtype) - reference).abs().max().item()
            allowed = tolerance * reference.abs().max().item()
            assert error <= allowed, f"{name}: error {error:.1e} > {allowed:.1e}"  # so is NaN


@pytest.fixture(scope="module", autouse=True)
def _poisoned() -> Iterator[None]:
    """Freshly allocated memory holds NaN, so that whatever is never written shows."""
    torch.use_deterministic_algorithms(True)
    assert torch.empty(1000).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def shared_convolution(x: Tensor, filters: Tensor, g: Geometry) -> Tensor:
    """Torch's convolution, with zeros that may differ between the two sides of an axis."""
    pads = [p for pair in zip(reversed(g.before), reversed(g.after), strict=True) for p in pair]
    convolve = getattr(torch.nn.functional, f"conv{len(g.input_size)}d")
    x = torch.nn.functional.pad(x, pads)
    return convolve(x, filters, stride=g.stride, dilation=g.dilation, groups=g.groups)


@each_geometry
@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_filters_make_a_convolution(geometry: Geometry, backend: str) -> None:
    x, weight, grad = drawn(geometry)
    filters = weight[(0,) * len(geometry.output_size)].clone()
    everywhere = from_storage(to_storage(weight, geometry), geometry).copy_(filters)
    wanted = outcome(x, filters, grad, lambda x, w: shared_convolution(x, w, geometry))
    got = outcome(x, everywhere, grad, lambda x, w: local_product(x, w, geometry, backend))
    by_position = got["weight gradient"]
    got["weight gradient"] = by_position.sum(tuple(range(len(geometry.output_size))))
    assert_close(got, wanted, TOLERANCES[torch.float64])


@each_backend
@each_geometry
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_backends_agree_with_the_loops(
    geometry: Geometry, dtype: torch.dtype, backend: str
) -> None:
    case = [tensor.to(dtype) for tensor in drawn(geometry)]
    wanted = outcome(
        *(tensor.double() for tensor in case),
        lambda x, w: local_product(x, w, geometry, "naive"),  # type: ignore
    )
    got = outcome(*case, lambda x, w: local_product(x, w, geometry, backend))  # type: ignore
    assert all(value.dtype == dtype for value in got.values())
    assert_close(got, wanted, TOLERANCES[dtype])


@st.composite
def cases(draw: st.DrawFn) -> tuple[Geometry, int, int, int]:
    """Any small geometry with a batch (of none, at times), channels in and channels out."""
    axes = draw(st.integers(1, 3))

    def per_axis(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(low, high)) for _ in range(axes))

    kernel, stride, dilation = per_axis(1, 3), per_axis(1, 3), per_axis(1, 2)
    before, after, extra = per_axis(0, 2), per_axis(0, 2), per_axis(0, 3)
    extents = zip(kernel, dilation, before, after, extra, strict=True)
    size = tuple(max(1, d * (k - 1) + 1 - b - a) + e for k, d, b, a, e in extents)
    groups = draw(st.integers(1, 3))
    geometry = Geometry(size, kernel, stride, dilation, before, after, groups)
    channels, outputs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    return geometry, draw(st.integers(0, 3)), channels, outputs


@each_backend
@settings(max_examples=80, deadline=None)
@given(case=cases(), seed=st.integers(0, 1000))
def test_any_shape(backend: str, case: tuple[Geometry, int, int, int], seed: int) -> None:
    geometry, n, channels, outputs = case
    x, weight, grad = drawn(geometry, n, channels, outputs, seed)
    wanted = outcome(x, weight, grad, lambda x, w: local_product(x, w, geometry, "naive"))
    got = outcome(x, weight, grad, lambda x, w: local_product(x, w, geometry, backend))
    assert_close(got, wanted, TOLERANCES[torch.float64])


@each_backend
@pytest.mark.parametrize("name", ["sequence", "dilated", "grouped", "more zeros than input"])
def test_derivatives_of_every_order(name: str, backend: str) -> None:
    geometry = GEOMETRIES[name]
    if len(geometry.input_size) == 2:
        geometry = replace(geometry, input_size=(3, 2))
    x, weight, _ = drawn(geometry, n=2, channels=2, outputs=2)
    inputs = (x.requires_grad_(), weight.requires_grad_())
    assert gradcheck(lambda x, w: local_product(x, w, geometry, backend), inputs)
    assert gradgradcheck(
        lambda x, w: local_product(x, w, geometry, backend), inputs, fast_mode=True
    )


@pytest.mark.parametrize("frozen", ["input", "weight"])
def test_a_derivative_that_nobody_needs_is_not_computed(frozen: str) -> None:
    x, weight, grad = drawn(SQUARE)
    (weight if frozen == "input" else x).requires_grad_()
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        local_product(x, weight, SQUARE, "matmul").backward(grad)
    names = {event.name for event in trace.events() or ()}
    assert f"neurosim::local_{frozen}_gradient" not in names
    assert {"neurosim::local_input_gradient", "neurosim::local_weight_gradient"} & names


@pytest.mark.parametrize("layout", ["channels-last", "transposed", "every other", "expanded"])
def test_any_memory_order_of_the_input(layout: str) -> None:
    x, weight, grad = drawn(SQUARE)
    x = {
        "channels-last": lambda: x.contiguous(memory_format=torch.channels_last),
        "transposed": lambda: x.mT.contiguous().mT,
        "every other": lambda: torch.stack([x, x + 1], -1)[..., 0],
        "expanded": lambda: x[:1].expand(x.shape),
    }[layout]()
    plain = weight.contiguous()  # not as the layers lay it out: slower, equally right
    wanted = outcome(
        x.contiguous(), weight, grad, lambda x, w: local_product(x, w, SQUARE, "naive")
    )
    for filters in (weight, plain):
        got = outcome(x, filters, grad, lambda x, w: local_product(x, w, SQUARE, "matmul"))
        assert_close(got, wanted, TOLERANCES[torch.float64])
    x.requires_grad_()
    y = local_product(x, weight, SQUARE, "matmul")
    (by_sum,) = torch.autograd.grad(y.sum(), x)  # an upstream gradient of one element
    (by_ones,) = torch.autograd.grad(local_product(x, weight, SQUARE).sum(), x)
    assert torch.equal(by_sum, by_ones)


@each_backend
@each_geometry
def test_same_input_same_bits(geometry: Geometry, backend: str) -> None:
    case = [tensor.float() for tensor in drawn(geometry)]
    first, second = (
        outcome(*case, lambda x, w: local_product(x, w, geometry, backend))  # type: ignore
        for _ in range(2)  # type: ignore
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@each_geometry
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.filterwarnings("ignore")
def test_registered_as_torch_expects(geometry: Geometry, n: int) -> None:
    """Schema, fake implementation (shapes *and* strides) and autograd, checked by torch."""
    x, weight, grad = drawn(geometry, n)
    stored, sizes = to_storage(weight, geometry).detach(), _pack(geometry)
    inputs = [tensor.float().requires_grad_() for tensor in (x, stored, grad)]
    x, stored, grad = inputs
    # Compilation with dynamic shapes is by far the slowest check: once suffices.
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if geometry is SQUARE and n == 3:
        checks.append("test_aot_dispatch_dynamic")
    for operator, args in (
        (local_forward, (x, stored)),
        (local_input_gradient, (grad, stored)),
        (local_weight_gradient, (grad, x)),
    ):
        torch.library.opcheck(operator, (*args, sizes), test_utils=checks)


@each_geometry
def test_results_own_their_memory(geometry: Geometry) -> None:
    """Compiled code relies on the alignment of a fresh allocation; a slice would waste memory."""
    x, weight, grad = drawn(geometry, n=1)
    stored, sizes = to_storage(weight, geometry), _pack(geometry)
    for result in (
        local_forward(x, stored, sizes),
        local_input_gradient(grad, stored, sizes),
        local_weight_gradient(grad, x, sizes),
    ):
        assert result.storage_offset() == 0
        assert result.untyped_storage().nbytes() == result.nbytes


@each_geometry
def test_storage_is_a_view(geometry: Geometry) -> None:
    _, weight, _ = drawn(geometry)
    stored = to_storage(weight, geometry)
    assert stored.is_contiguous()
    assert stored.data_ptr() == weight.data_ptr()
    assert torch.equal(from_storage(stored, geometry), weight)


def allocations(call: Callable[[], object]) -> list[int]:
    """Bytes of every tensor that `call` allocates, and negative those of every one it frees."""
    call()  # what is cached stays out
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    results = trace.profiler.kineto_results  # type: ignore[union-attr]
    return [event.nbytes() for event in results.events() if event.name() == "[memory]"]  # type: ignore


@pytest.mark.parametrize("backend", FAST)
def test_no_copy_of_the_input_for_every_tap(backend: str) -> None:
    """A 5x5 kernel would make unfold's buffer 25 inputs large; here nothing exceeds one."""
    geometry = Geometry((16, 16), (5, 5), (1, 1), (1, 1), (2, 2), (2, 2))
    x, weight, grad = drawn(geometry, n=32, channels=8, outputs=8)
    padded = x.nbytes * prod(geometry.padded_size) / prod(geometry.input_size)
    x.requires_grad_()
    y = local_product(x, weight, geometry, backend)
    calls: dict[str, Callable[[], object]] = {
        "forward": lambda: local_product(x.detach(), weight, geometry, backend),
        "backward": lambda: torch.autograd.grad(y, x, grad, retain_graph=True),
    }
    for what, call in calls.items():
        sizes = allocations(call)
        assert max(sizes) <= 1.01 * padded, what
        live = torch.tensor(sizes).cumsum(0)
        assert 0 < live.max() <= 4.5 * padded, what


def test_bad_input() -> None:
    with pytest.raises(InvalidArgument, match=r"backend must be one of auto, .*got 'matmull'"):
        local_product(*drawn(SQUARE)[:2], SQUARE, "matmull")
    with pytest.raises(InvalidArgument, match=r"kernel_size \(3, 3\).*padded input .*\(2, 7\)"):
        replace(SQUARE, input_size=(0, 5))
    with pytest.raises(InvalidArgument, match="stride must be >= 1 along every axis, got"):
        replace(SQUARE, stride=(0, 1))
    with pytest.raises(InvalidArgument, match="groups must be >= 1, got 0"):
        replace(SQUARE, groups=0)
    for dtype in (torch.int64, torch.complex64):
        x, weight, _ = (tensor.to(dtype) for tensor in drawn(SQUARE))
        with pytest.raises(InvalidArgument, match=r"dtype must be one of float64, .* got"):
            local_product(x, weight, SQUARE)
