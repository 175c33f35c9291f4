"""The locally connected product: every backend against the loops, and the loops against torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.profiler import ProfilerActivity, profile

from neurosim.errors import InvalidArgument
from neurosim.nn.ops.local import Geometry, from_storage, local_product, matmul, to_storage
from neurosim.nn.ops.local.operators import pack

# Largest error of an output or a gradient, over the largest element of the float64 reference.
# Low precision is added up in float32 and rounded once.
TOLERANCES = {
    torch.float64: 1e-14,
    torch.float32: 2e-6,
    torch.float16: 5e-4,
    torch.bfloat16: 4e-3,
}
COARSER = {
    ("matmul-cuda", torch.float16): 4e-3,  # rounds once per tap
    ("matmul-cuda", torch.bfloat16): 3e-2,
    ("triton-cpu", torch.bfloat16): 8e-3,  # the interpreter cuts digits off
}


@dataclass(frozen=True)
class Backend:
    """A fast backend, where it runs, and its dtypes, the most exact first."""

    name: str
    device: str
    dtypes: tuple[torch.dtype, ...] = tuple(TOLERANCES)

    def __str__(self) -> str:
        return f"{self.name}-{self.device}"

    def tolerance(self, dtype: torch.dtype) -> float:
        return COARSER.get((str(self), dtype), TOLERANCES[dtype])

    def product(self, geometry: Geometry) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, weight: local_product(x, weight, geometry, self.name)

    def outcomes(self, geometry: Geometry, case: list[Tensor]) -> Iterator[dict[str, Tensor]]:
        """At once and, where the backend can, one row or one tap after the other."""
        yield outcome(*case, self.product(geometry))  # type: ignore[call-arg]
        for name, value in {"BAND": 1, "THIN": 0}.items() if str(self) == "matmul-cpu" else ():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(matmul, name, value)
                yield outcome(*case, self.product(geometry))  # type: ignore[call-arg]

    def case(self, *tensors: Tensor, dtype: torch.dtype | None = None) -> list[Tensor]:
        return [tensor.to(self.device, dtype or self.dtypes[0]) for tensor in tensors]


# test_triton.py runs this file in a process in which Triton's kernels go through its interpreter.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
SINGLE = tuple(TOLERANCES)[1:]
HERE = Backend("triton", "cpu", SINGLE) if INTERPRETED else Backend("matmul", "cpu")
FAST = [
    HERE,
    Backend("cpu", "cpu", (torch.float64, torch.float32)),
    pytest.param(Backend("matmul", "cuda"), marks=pytest.mark.gpu),
    pytest.param(Backend("triton", "cuda", SINGLE), marks=pytest.mark.gpu),
]

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
each_backend = pytest.mark.parametrize("backend", FAST, ids=str)


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


def loops(geometry: Geometry) -> Callable[[Tensor, Tensor], Tensor]:
    """The reference."""
    return lambda x, weight: local_product(x, weight, geometry, "naive")


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
def test_the_loops_with_equal_filters_make_a_convolution(geometry: Geometry) -> None:
    x, weight, grad = drawn(geometry)
    filters = weight[(0,) * len(geometry.output_size)].clone()
    everywhere = from_storage(to_storage(weight, geometry), geometry).copy_(filters)
    wanted = outcome(x, filters, grad, lambda x, w: shared_convolution(x, w, geometry))
    got = outcome(x, everywhere, grad, loops(geometry))
    by_position = got["weight gradient"]
    got["weight gradient"] = by_position.sum(tuple(range(len(geometry.output_size))))
    assert_close(got, wanted, TOLERANCES[torch.float64])


@each_backend
@each_geometry
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_backends_agree_with_the_loops(
    geometry: Geometry, dtype: torch.dtype, backend: Backend
) -> None:
    if dtype not in backend.dtypes:
        pytest.skip("not a dtype of this backend")
    case = backend.case(*drawn(geometry), dtype=dtype)
    wanted = outcome(*(tensor.double() for tensor in case), loops(geometry))  # type: ignore
    for got in backend.outcomes(geometry, case):
        assert all(value.dtype == dtype for value in got.values())
        assert_close(got, wanted, backend.tolerance(dtype))


@each_backend
@pytest.mark.parametrize("groups", [1, 2])
def test_more_than_one_block_of_everything(groups: int, backend: Backend) -> None:
    """Kernels work in blocks of samples and channels; none of these is a multiple of any."""
    geometry = Geometry((3,), (2,), (1,), (1,), (0,), (0,), groups)
    n = 150 if backend.name == "cpu" else 37  # interpreted kernels take long
    case = backend.case(*drawn(geometry, n=n, channels=20 * groups, outputs=18 * groups))
    wanted = outcome(*(tensor.double() for tensor in case), loops(geometry))  # type: ignore
    for got in backend.outcomes(geometry, case):
        assert_close(got, wanted, backend.tolerance(backend.dtypes[0]))


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
@settings(max_examples=8 if INTERPRETED else 80, deadline=None)
@given(case=cases(), seed=st.integers(0, 1000))
def test_any_shape(backend: Backend, case: tuple[Geometry, int, int, int], seed: int) -> None:
    geometry, n, channels, outputs = case
    tensors = backend.case(*drawn(geometry, n, channels, outputs, seed))
    wanted = outcome(*(tensor.double() for tensor in tensors), loops(geometry))  # type: ignore
    for got in backend.outcomes(geometry, tensors):
        assert_close(got, wanted, backend.tolerance(backend.dtypes[0]))


SOME = ["sequence", "dilated", "grouped", "more zeros than input"]


@each_backend
@pytest.mark.parametrize("name", SOME)
def test_second_derivatives_agree_with_the_loops(name: str, backend: Backend) -> None:
    geometry = GEOMETRIES[name]
    tensors = backend.case(*drawn(geometry))

    def second(product: Callable[[Tensor, Tensor], Tensor], case: list[Tensor]) -> dict:
        x, weight, grad = (tensor.detach().requires_grad_() for tensor in case)
        first = torch.autograd.grad(product(x, weight), (x, weight), grad, create_graph=True)
        total = sum(gradient.square().sum() for gradient in first)
        found = torch.autograd.grad(total, (x, weight, grad))  # type: ignore[arg-type]
        return dict(zip(("input", "weight", "grad"), found, strict=True))

    wanted = second(loops(geometry), [tensor.double() for tensor in tensors])
    got = second(backend.product(geometry), tensors)
    assert_close(got, wanted, backend.tolerance(backend.dtypes[0]))


@pytest.mark.parametrize("name", SOME)
def test_derivatives_of_every_order(name: str) -> None:
    geometry = GEOMETRIES[name]
    if len(geometry.input_size) == 2:
        geometry = replace(geometry, input_size=(3, 2))
    x, weight, _ = drawn(geometry, n=2, channels=2, outputs=2)
    inputs = (x.requires_grad_(), weight.requires_grad_())
    assert gradcheck(lambda x, w: local_product(x, w, geometry, "matmul"), inputs)
    assert gradgradcheck(
        lambda x, w: local_product(x, w, geometry, "matmul"), inputs, fast_mode=True
    )


@pytest.mark.parametrize("frozen", ["input", "weight"])
def test_what_nobody_needs_is_neither_computed_nor_kept(frozen: str) -> None:
    x, weight, grad = drawn(SQUARE)
    (weight if frozen == "input" else x).requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = local_product(x, weight, SQUARE, "matmul")
    needed = x if frozen == "input" else weight
    assert [tensor.data_ptr() for tensor in kept] == [needed.data_ptr()]
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        y.backward(grad)
    names = {event.name for event in trace.events() or ()}
    gradients = {f"neurosim::local_matmul_{of}_gradient" for of in ("input", "weight")}
    assert gradients & names == gradients - {f"neurosim::local_matmul_{frozen}_gradient"}


def test_channels_first_costs_a_few_copies_and_not_one_a_product() -> None:
    def copies(memory_format: torch.memory_format) -> int:
        x, weight, grad = (tensor.requires_grad_() for tensor in drawn(SQUARE))
        x, grad = (tensor.contiguous(memory_format=memory_format) for tensor in (x, grad))
        with profile(activities=[ProfilerActivity.CPU]) as trace:
            local_product(x, weight, SQUARE, "matmul").backward(grad)
        return sum(event.name == "aten::copy_" for event in trace.events() or ())

    first, last = copies(torch.contiguous_format), copies(torch.channels_last)
    assert last <= first <= last + 10


@each_backend
@pytest.mark.parametrize("layout", ["channels-last", "transposed", "every other", "expanded"])
def test_any_memory_order_of_the_input(layout: str, backend: Backend) -> None:
    x, weight, grad = backend.case(*drawn(SQUARE))
    x = {
        "channels-last": lambda: x.contiguous(memory_format=torch.channels_last),
        "transposed": lambda: x.mT.contiguous().mT,
        "every other": lambda: torch.stack([x, x + 1], -1)[..., 0],
        "expanded": lambda: x[:1].expand(x.shape),
    }[layout]()
    plain = weight.contiguous()  # not as the layers lay it out: slower, equally right
    case = (tensor.double() for tensor in (x.contiguous(), weight, grad))
    wanted = outcome(*case, loops(SQUARE))  # type: ignore[call-arg]
    for filters in (weight, plain):
        got = outcome(x, filters, grad, backend.product(SQUARE))
        assert_close(got, wanted, backend.tolerance(backend.dtypes[0]))
    x.requires_grad_()
    y = backend.product(SQUARE)(x, weight)
    (by_sum,) = torch.autograd.grad(y.sum(), x)  # an upstream gradient of one element
    (by_ones,) = torch.autograd.grad(backend.product(SQUARE)(x, weight), x, torch.ones_like(y))
    assert torch.equal(by_sum, by_ones)


@each_backend
@each_geometry
def test_same_input_same_bits(geometry: Geometry, backend: Backend) -> None:
    case = backend.case(*drawn(geometry), dtype=torch.float32)
    first, second = (next(backend.outcomes(geometry, case)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@each_geometry
def test_compiled_numbers_do_not_depend_on_threads(geometry: Geometry) -> None:
    backend, before = Backend("cpu", "cpu"), torch.get_num_threads()
    case = backend.case(*drawn(geometry, n=20), dtype=torch.float32)
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(next(backend.outcomes(geometry, case)))
    finally:
        torch.set_num_threads(before)
    for name, alone in found[0].items():
        assert all(torch.equal(alone, other[name]) for other in found[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["32", "64"])
@pytest.mark.parametrize(
    ("n", "channels", "outputs", "groups"),
    [(70, 16, 16, 1), (33, 7, 32, 1), (16, 64, 64, 1), (5, 32, 64, 2), (150, 130, 48, 1)],
)
def test_compiled_products_of_whole_vectors(
    n: int, channels: int, outputs: int, groups: int, dtype: torch.dtype
) -> None:
    """Output channels as networks have them, which go to the filters' gradient at once."""
    backend, geometry = Backend("cpu", "cpu"), replace(SQUARE, groups=groups)
    case = drawn(geometry, n, channels, outputs)
    wanted = outcome(*case, loops(geometry))
    got = next(backend.outcomes(geometry, backend.case(*case, dtype=dtype)))
    assert_close(got, wanted, TOLERANCES[dtype])


@pytest.mark.parametrize("backend", ["auto", "cpu", "matmul", "naive"])
def test_operands_that_do_not_fit_are_refused(backend: str) -> None:
    """Kernels know addresses only: they would read beyond."""
    x, weight, _ = drawn(SQUARE)
    for wrong, filters, said in (
        (x[:, :3], weight, "x must be"),
        (x[..., :4], weight, "x must be"),
        (x.float(), weight, "one dtype"),
        (x, weight[:4], "weight must be"),
        (x, weight[..., :2], "weight must be"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            local_product(wrong, filters, SQUARE, backend)


def operators(backend: str, x: Tensor, weight: Tensor, grad: Tensor) -> list[tuple[Any, tuple]]:
    """The three operators of a backend, with their operands."""
    of = torch.ops.neurosim
    operands = {"forward": (x, weight), "input_gradient": (grad, weight)}
    operands["weight_gradient"] = (grad, x)
    return [(getattr(of, f"local_{backend}_{k}").default, v) for k, v in operands.items()]


@each_geometry
@each_backend
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_registered_as_torch_expects(
    geometry: Geometry, backend: Backend, n: int, channels_last: bool
) -> None:
    """Schema, fake implementation (shapes *and* strides) and autograd, checked by torch."""
    x, weight, grad = backend.case(*drawn(geometry, n), dtype=torch.float32)
    stored, plan = to_storage(weight, geometry).detach(), pack(geometry, channels_last)
    inputs = [tensor.requires_grad_() for tensor in (x, stored, grad)]
    # Compilation with dynamic shapes is by far the slowest check: once suffices.
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if geometry is SQUARE and n == 3:
        checks.append("test_aot_dispatch_dynamic")
    for operator, operands in operators(backend.name, *inputs):
        torch.library.opcheck(operator, (*operands, plan), test_utils=checks)


@each_geometry
@each_backend
@pytest.mark.parametrize("channels_last", [False, True])
def test_results_own_their_memory(
    geometry: Geometry, backend: Backend, channels_last: bool
) -> None:
    """Compiled code relies on the alignment of a fresh allocation; a slice would waste memory."""
    x, weight, grad = backend.case(*drawn(geometry, n=1))
    stored, plan = to_storage(weight, geometry), pack(geometry, channels_last)
    for operator, operands in operators(backend.name, x, stored, grad):
        result = operator(*operands, plan)
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


def test_no_copy_of_the_input_for_every_tap() -> None:
    """A 5x5 kernel would make unfold's buffer 25 inputs large; here nothing exceeds one."""
    geometry = Geometry((16, 16), (5, 5), (1, 1), (1, 1), (2, 2), (2, 2))
    x, weight, grad = drawn(geometry, n=32, channels=8, outputs=8)
    padded = x.nbytes * prod(geometry.padded_size) / prod(geometry.input_size)
    x.requires_grad_()
    y = local_product(x, weight, geometry, "matmul")
    calls: dict[str, Callable[[], object]] = {
        "forward": lambda: local_product(x.detach(), weight, geometry, "matmul"),
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
