"""The layers are what `nn.ConvNd` is, with filters of their own at every position."""

from __future__ import annotations

import copy
import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected1d, LocallyConnected2d, LocallyConnected3d
from neurosim.nn.local import PADDING_MODES, LocallyConnected
from neurosim.nn.ops.local import to_storage

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler"
)

Layer = LocallyConnected1d | LocallyConnected2d | LocallyConnected3d
BACKENDS = ("naive", "matmul")  # for the others see test_ops
LAYERS = (LocallyConnected1d, LocallyConnected2d, LocallyConnected3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}

# Input size and the arguments that a layer shares with its convolution (4 channels to 8).
ARGUMENTS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((9,), {"kernel_size": 3}),
    ((9,), {"kernel_size": 4, "padding": "same", "dilation": 2}),
    ((10,), {"kernel_size": 3, "stride": 2, "padding": 4, "groups": 2}),
    ((6, 5), {"kernel_size": 3, "padding": 1}),
    ((6, 5), {"kernel_size": 3, "padding": "valid", "stride": 2}),
    ((6, 5), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)}),
    ((6, 5), {"kernel_size": (2, 3), "dilation": (2, 1), "padding": "same"}),
    ((6, 5), {"kernel_size": (2, 3), "dilation": (1, 2), "padding": (4, 3), "stride": (3, 2)}),
    ((6, 5), {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2}),
    ((6, 5), {"kernel_size": (1, 3), "padding": "same", "groups": 4}),  # depthwise
    ((6, 5), {"kernel_size": 1, "stride": (2, 3)}),
    ((6, 5), {"kernel_size": (6, 5)}),
    ((4, 3, 5), {"kernel_size": 3, "padding": 1, "stride": (1, 2, 1)}),
    ((4, 3, 5), {"kernel_size": (2, 1, 3), "padding": "same", "groups": 2}),
    ((4, 3, 5), {"kernel_size": (2, 1, 3), "padding": (1, 0, 2), "dilation": (3, 1, 2)}),
]


def layer_of(size: tuple[int, ...], channels: int = 4, outputs: int = 8, **arguments: Any) -> Layer:
    """A layer in double precision unless told otherwise."""
    arguments = {"dtype": torch.float64} | arguments
    kernel = arguments.pop("kernel_size", 3)
    return LAYERS[len(size) - 1](channels, outputs, kernel, size, **arguments)


def convolution_like(layer: Layer, **arguments: Any) -> nn.Module:
    """A convolution of the same arguments; the layer takes over its parameters."""
    bias = layer.bias is not None
    convolution = CONVOLUTIONS[layer.axes - 1](
        layer.in_channels, layer.out_channels, bias=bias, dtype=layer.weight.dtype, **arguments
    )
    with torch.no_grad():
        layer.weight.copy_(convolution.weight)
        if layer.bias is not None and convolution.bias is not None:
            missing = (1,) * (layer.bias.ndim - 1)
            layer.bias.copy_(convolution.bias.reshape(-1, *missing))
    return convolution


def outcome(module: nn.Module, x: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """The output and the gradients of the input and of every parameter, for a random upstream."""
    module.zero_grad()
    x = x.detach().requires_grad_()
    y = module(x)
    rng = torch.Generator().manual_seed(seed)
    y.backward(torch.randn(y.shape, generator=rng, dtype=torch.float64).to(y.dtype))
    assert x.grad is not None
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return {"output": y.detach(), "input": x.grad, **found}


def assert_equal(got: dict[str, Tensor], wanted: dict[str, Tensor], rtol: float = 1e-13) -> None:
    assert got.keys() == wanted.keys()
    for name, reference in wanted.items():
        bound = rtol * max(1, reference.abs().max().item() if reference.numel() else 0)
        torch.testing.assert_close(
            got[name], reference, rtol=0, atol=bound, msg=lambda text, name=name: f"{name}: {text}"
        )


def shape(layer: Layer, batch: int | None = 3) -> tuple[int, ...]:
    sizes = (layer.in_channels, *layer.input_size)
    return sizes if batch is None else (batch, *sizes)


def stored(layer: Layer) -> Tensor:
    """The weight as it lies in memory, made sure to be a view."""
    storage = to_storage(layer.weight, layer.geometry)
    assert storage.is_contiguous()
    assert storage.data_ptr() == layer.weight.data_ptr()
    return storage


@pytest.mark.parametrize("bias", [True, False, "position"])
@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("case", range(len(ARGUMENTS)))
def test_equal_filters_make_a_convolution(case: int, mode: str, bias: bool | str) -> None:
    """Outputs and gradients; a shared parameter's gradient is the sum over positions."""
    size, arguments = ARGUMENTS[case]
    padding = arguments.get("padding", 0)
    if mode == "reflect" and isinstance(padding, tuple):
        padding = tuple(min(p, n - 1) for p, n in zip(padding, size, strict=True))
    arguments = arguments | {"padding_mode": mode, "padding": padding}
    layer = layer_of(size, bias=bias, **arguments)
    convolution = convolution_like(layer, **arguments)
    assert layer.weight.shape == (*layer.output_size, *convolution.weight.shape)  # type: ignore
    inputs = [torch.randn(shape(layer), dtype=torch.float64)]
    inputs.append(inputs[0][1])
    inputs.append(torch.stack([inputs[0], inputs[0]], 1)[:, 0])  # neither format
    if memory_format := CHANNELS_LAST.get(layer.axes):
        inputs.append(inputs[0].contiguous(memory_format=memory_format))
    for x in inputs:
        wanted, got = outcome(convolution, x), outcome(layer, x)
        assert got["output"].shape[-layer.axes :] == layer.output_size
        got["weight"] = got["weight"].sum(tuple(range(layer.axes)))
        if bias == "position":
            got["bias"] = got["bias"].flatten(1).sum(1)
        assert_equal(got, wanted)


def test_weight_at_a_position_is_its_filter() -> None:
    layer = layer_of((6, 5), padding=1, bias="position")
    x = torch.randn(shape(layer), dtype=torch.float64)
    h, w = 2, 3
    assert layer.weight[h, w].shape == nn.Conv2d(4, 8, 3).weight.shape
    assert layer.bias is not None
    patch = x[:, :, h - 1 : h + 2, w - 1 : w + 2]
    wanted = torch.einsum("nikl,oikl->no", patch, layer.weight[h, w]) + layer.bias[:, h, w]
    torch.testing.assert_close(layer(x)[:, :, h, w], wanted)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("mode", PADDING_MODES)
def test_backends_agree_on_filters_of_their_own(mode: str, backend: str) -> None:
    arguments = {"padding": (1, 2), "padding_mode": mode, "stride": (1, 2), "groups": 2}
    layer = layer_of((5, 6), bias="position", backend=backend, **arguments)
    reference = layer_of((5, 6), bias="position", backend="naive", **arguments)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(shape(layer), dtype=torch.float64)
    assert_equal(outcome(layer, x), outcome(reference, x))


@pytest.mark.parametrize("mode", PADDING_MODES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_batch_as_convolutions_have_it(backend: str, mode: str) -> None:
    for groups in (1, 2):
        arguments = {"kernel_size": 3, "padding": 1, "padding_mode": mode, "groups": groups}
        layer = layer_of((6, 5), backend=backend, **arguments)
        convolution = convolution_like(layer, **arguments)
        x = torch.empty(shape(layer, 0), dtype=torch.float64)
        wanted, got = outcome(convolution, x), outcome(layer, x)
        assert got["output"].shape == wanted["output"].shape
        assert got["input"].shape == x.shape
        assert all((got[name] == 0).all() for name in ("weight", "bias"))


def test_a_shift_of_the_input_shifts_the_output() -> None:
    """Shared filters on a torus commute with shifts; filters of their own do not."""
    arguments = {"padding": "same", "padding_mode": "circular"}
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    for eps, commutes in ((0.0, True), (0.5, False)):
        layer = layer_of((6, 5), init=eps, **arguments)
        for shift in ((1, 0), (0, 2), (3, 4)):
            shifted = layer(x.roll(shift, (2, 3)))
            assert torch.allclose(shifted, layer(x).roll(shift, (2, 3)), atol=1e-12) is commutes


# Initialisation


def test_every_position_draws_its_own_filter() -> None:
    torch.manual_seed(0)
    layer = layer_of((16, 16), 8, 16, padding=1, groups=2)
    std = (2 / (16 * 9)) ** 0.5  # 2 / (c_out k^2), as in the paper and torch, whatever the groups
    assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
    assert abs(layer.weight.mean().item()) < 0.01 * std
    across = layer.weight.flatten(0, 1).std(0)
    assert across.mean().item() == pytest.approx(std, rel=0.02)
    neighbours = torch.stack([layer.weight[3, 3].flatten(), layer.weight[3, 4].flatten()])
    assert abs(torch.corrcoef(neighbours)[0, 1].item()) < 0.15


@pytest.mark.parametrize("eps", [0, 0.1, 1.0])
def test_a_shared_filter_plus_relative_noise(eps: float) -> None:
    torch.manual_seed(0)
    layer = layer_of((16, 16), 8, 32, padding=1, init=eps)
    std = (2 / (32 * 9)) ** 0.5
    positions = layer.weight.flatten(0, 1)
    assert positions.mean(0).std().item() == pytest.approx(std, rel=0.06)
    noise = (positions - positions.mean(0)).pow(2).mean().sqrt().item()
    assert noise == pytest.approx(eps * std, rel=0.02, abs=1e-12)


def test_a_callable_fills_the_weight_in_place() -> None:
    layer = layer_of((5, 5), init=lambda weight: nn.init.constant_(weight, 3.0))
    assert (layer.weight == 3).all()
    layer.weight.data.zero_()
    layer.reset_parameters()
    assert (layer.weight == 3).all()
    stored(layer)


@pytest.mark.parametrize("bias", [True, "position"])
def test_biases_as_torch_draws_them(bias: bool | str) -> None:
    layer = layer_of((9, 9), 8, 512, groups=2, bias=bias)
    bound = 1 / (8 / 2 * 9) ** 0.5
    assert layer.bias is not None
    assert layer.bias.abs().max().item() <= bound
    assert layer.bias.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_a_seed_repeats_everything() -> None:
    def run() -> dict[str, Tensor]:
        torch.manual_seed(3)
        layer = layer_of((6, 5), padding=1, groups=2, dtype=torch.float32)
        return outcome(layer, torch.randn(shape(layer))) | dict(layer.named_parameters())

    first, second = run(), run()
    assert all(torch.equal(first[name], second[name]) for name in first)


# What torch does with modules


def small(**arguments: Any) -> Layer:
    arguments = {"padding": 1, "stride": (1, 2), "bias": "position", "dtype": None} | arguments
    return layer_of((6, 5), **arguments)


def by_state_dict(layer: Layer) -> Layer:
    buffer = io.BytesIO()
    torch.save(layer.state_dict(), buffer)
    other = small()
    other.load_state_dict(torch.load(io.BytesIO(buffer.getvalue()), weights_only=True))
    return other


def by_assignment(layer: Layer) -> Layer:
    other = small(device="meta")
    other.load_state_dict(copy.deepcopy(layer.state_dict()), assign=True)
    return other


COPIES: dict[str, Callable[[Layer], Layer]] = {
    "state_dict": by_state_dict,
    "state_dict into a skeleton": by_assignment,
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_equal_and_stay_fast(how: str) -> None:
    """Weights keep their memory order, so that products still read them in place."""
    layer = small()
    twin = COPIES[how](layer)
    assert twin.weight.data_ptr() != layer.weight.data_ptr()
    assert stored(twin).stride() == stored(layer).stride()
    x = torch.randn(shape(layer))
    assert_equal(outcome(twin, x), outcome(layer, x), rtol=0)
    assert list(layer.state_dict()) == list(nn.Conv2d(4, 8, 3).state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_change_of_dtype(dtype: torch.dtype) -> None:
    layer = small()
    x = torch.randn(shape(layer)).to(dtype)
    wanted = outcome(copy.deepcopy(layer).to(dtype).double(), x.double())
    layer = layer.to(dtype)
    stored(layer)
    got = outcome(layer, x)
    assert all(value.dtype == dtype for value in got.values())
    tolerance = {torch.float64: 1e-13, torch.bfloat16: 4e-2, torch.float16: 5e-3}[dtype]
    assert_equal({name: value.double() for name, value in got.items()}, wanted, tolerance)


@pytest.mark.parametrize("size", [(6,), (6, 5), (4, 3, 5)])
@pytest.mark.parametrize("memory_format", CHANNELS_LAST.values())
def test_a_model_in_channels_last(size: tuple[int, ...], memory_format: Any) -> None:
    """Whatever a model is converted to, filters keep the order that makes them fast."""
    layer = layer_of(size, padding=1, bias="position")
    x = torch.randn(shape(layer), dtype=torch.float64)
    wanted = outcome(layer, x)
    layer = layer.to(memory_format=memory_format)  # type: ignore
    assert_equal(outcome(layer, x), wanted)
    stored(layer)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("size", [(6,), (6, 5), (1, 5), (1, 1), (4, 3, 5), (4, 1, 1)])
@pytest.mark.parametrize("batch", [0, 1, 16])
def test_memory_format_as_convolutions_have_it(
    size: tuple[int, ...], channels: int, batch: int
) -> None:
    """Output and input gradient, as far as sizes of 1 leave a difference; so `view` works."""
    if batch == 1 and len(size) == 3:
        pytest.skip("there torch has a path of its own that forgets the format")
    layer = layer_of(size, channels, kernel_size=1, dtype=torch.float32)
    convolution = CONVOLUTIONS[layer.axes - 1](channels, 8, 1)
    x = torch.randn(shape(layer, batch))
    inputs = [x]
    if memory_format := CHANNELS_LAST.get(layer.axes):
        inputs.append(x.contiguous(memory_format=memory_format))
        inputs.append(x.movedim(1, -1).contiguous().movedim(-1, 1))
    for x in inputs:
        wanted, got = convolution(x), layer(x)
        for layout in (torch.contiguous_format, memory_format):
            if layout is not None:
                same = got.is_contiguous(memory_format=layout)
                assert same == wanted.is_contiguous(memory_format=layout)
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(x).sum(), x)
        assert gradient.is_contiguous() == x.is_contiguous()
    layer(inputs[0]).view(batch, -1 if batch else 8)


def test_meta_device() -> None:
    layer = small(device="meta")
    assert layer(torch.empty(shape(layer), device="meta")).shape == (3, 8, *layer.output_size)


def test_gradients_and_moments_lie_as_the_weight_does() -> None:
    """Else every optimizer step would stride through memory."""
    layer = small(padding_mode="circular")
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    for _ in range(2):
        before = layer.weight.detach().clone()
        outcome(layer, torch.randn(shape(layer)))
        optimizer.step()
        assert not torch.equal(layer.weight, before)
    assert layer.weight.grad is not None
    state = optimizer.state[layer.weight]
    for tensor in (layer.weight.grad, state["exp_avg"], state["exp_avg_sq"]):
        assert tensor.stride() == layer.weight.stride()
    stored(layer)


def test_the_weight_gradient_is_written_once() -> None:
    """But for a few input channels, whose taps share one product."""
    layer = small(bias=False, channels=8)
    y = layer(torch.randn(shape(layer)))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        y.sum().backward()
    events = trace.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]  # type: ignore
    assert sizes.count(layer.weight.nbytes) == 1


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_backward_keeps_only_input_and_weight(mode: str) -> None:
    layer = small(padding_mode=mode)
    x = torch.randn(shape(layer), requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        layer(x)
    assert len(kept) == 2
    addresses = [tensor.data_ptr() for tensor in kept]
    assert layer.weight.data_ptr() in addresses
    assert (x.data_ptr() in addresses) is (mode == "zeros")  # else the padded input


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant: bool) -> None:
    layer = small()
    x = torch.randn(shape(layer))

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: Tensor) -> Tensor:
            result = checkpoint(self.layer, x, use_reentrant=reentrant)
            assert isinstance(result, Tensor)
            return result

    wanted = outcome(layer, x)
    got = {k.removeprefix("layer."): v for k, v in outcome(Checkpointed(), x).items()}
    assert_equal(got, wanted, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_as_for_convolutions(dtype: torch.dtype) -> None:
    arguments = {"kernel_size": 3, "padding": 1}
    layer = layer_of((6, 5), **arguments, dtype=torch.float32)
    convolution = convolution_like(layer, **arguments)
    x = torch.randn(shape(layer))
    exact = outcome(layer, x)
    with torch.autocast("cpu", dtype):
        assert convolution(x).dtype == layer(x).dtype == dtype
        assert layer(x.to(dtype)).dtype == dtype
        got = outcome(layer, x)
        assert layer.double()(x.double()).dtype == convolution.double()(x.double()).dtype
        with pytest.raises(InvalidArgument, match="dtype"):
            layer.float()(x.long())
    got["output"] = got["output"].float()
    assert all(value.dtype == torch.float32 for value in got.values())
    assert_equal(got, exact, 5e-2)
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    "compiler",
    ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, needs_compiler])],
)
def test_compiled_whole(compiler: str) -> None:
    """One graph for several layers and batch sizes, gradients included."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model = nn.Sequential(
        LocallyConnected2d(3, 4, 3, (6, 5), padding=1),
        nn.ReLU(),
        LocallyConnected2d(4, 4, (2, 3), (6, 5), padding="same", padding_mode="circular", groups=2),
        LocallyConnected2d(4, 2, 3, (6, 5), stride=2, bias="position"),
    )
    compiled = torch.compile(model, fullgraph=True, backend=compiler)
    for n in (2, 1) if compiler == "inductor" else (2, 1, 5, 0):
        x = torch.randn(n, 3, 6, 5)
        wanted = outcome(model, x)
        got = {k.removeprefix("_orig_mod."): v for k, v in outcome(compiled, x).items()}  # type: ignore[arg-type]
        assert_equal(got, wanted, 1e-5)
    if compiler == "aot_eager":
        for layer in model:
            if isinstance(layer, LocallyConnected):
                single = torch.compile(layer, fullgraph=True, backend=compiler)
                x = torch.randn(2, layer.in_channels, *layer.input_size)
                torch.testing.assert_close(single(x), layer(x))
                with torch.autocast("cpu", torch.bfloat16):
                    assert single(x).dtype == torch.bfloat16


# Several processes


def ddp_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        LocallyConnected2d(2, 4, 3, (5, 4), padding=1), nn.ReLU(),
        LocallyConnected2d(4, 2, 3, (5, 4), groups=2, bias="position"),
    )  # fmt: skip


def ddp_worker(rank: int, world: int, folder: str) -> None:
    """One process' half of the batch; the first one writes the averaged gradients."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    model = nn.parallel.DistributedDataParallel(ddp_model())
    batch = torch.load(Path(folder, "batch.pt"), weights_only=True)
    model(batch.chunk(world)[rank]).square().mean().backward()
    if rank == 0:
        gradients = {n.removeprefix("module."): p.grad for n, p in model.named_parameters()}
        torch.save(gradients, Path(folder, "gradients.pt"))
    torch.distributed.destroy_process_group()
    os._exit(0)  # gloo's threads now and then abort an interpreter that takes its time to end


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_find_the_gradients_of_one(tmp_path: Path) -> None:
    batch = torch.randn(6, 2, 5, 4)
    torch.save(batch, tmp_path / "batch.pt")
    torch.multiprocessing.spawn(ddp_worker, (2, str(tmp_path)), nprocs=2)  # type: ignore
    model = ddp_model()
    model(batch).square().mean().backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert_equal(torch.load(tmp_path / "gradients.pt", weights_only=True), wanted, 1e-6)


def test_repr_says_what_differs_from_the_defaults() -> None:
    layer = layer_of((6, 5), kernel_size=(3, 2), padding=1, groups=2, bias="position")
    assert repr(layer) == (
        "LocallyConnected2d(4, 8, kernel_size=(3, 2), input_size=(6, 5), stride=(1, 1), "
        "padding=(1, 1), groups=2, bias='position')"
    )
    assert "bias=False" in repr(layer_of((6, 5), bias=False))
    assert "padding" not in repr(layer_of((6, 5), padding=(0, 0)))
    assert "padding='same'" in repr(layer_of((6, 5), padding="same"))


# Mistakes

X = torch.zeros(2, 4, 6, 5)


def make(**arguments: Any) -> Layer:
    return layer_of((6, 5), **({"dtype": torch.float32} | arguments))


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "other input size": (
        lambda: make()(torch.zeros(2, 4, 5, 6)),
        r"input of LocallyConnected2d must be of shape \(4, 6, 5\), .* got \(2, 4, 5, 6\)",
    ),
    "other channels": (lambda: make()(X[:, :3]), r"\(4, 6, 5\), .* got \(2, 3, 6, 5\)"),
    "an axis too few": (lambda: make()(X[0, 0]), r"got \(6, 5\)"),
    "an axis too many": (lambda: make()(X[None]), r"got \(1, 2, 4, 6, 5\)"),
    "1d input of another size": (
        lambda: layer_of((7,))(torch.zeros(1, 4, 8)), r"of LocallyConnected1d .*\(4, 7\), .* 8\)",
    ),
    "whole numbers as input": (lambda: make()(X.long()), "dtype torch.float32, got torch.int64"),
    "input of another dtype": (lambda: make()(X.double()), "torch.float32, got torch.float64"),
    "whole numbers as weights": (
        lambda: make(dtype=torch.int64), "dtype must be one of float64, .* got torch.int64",
    ),
    "complex weights": (lambda: make(dtype=torch.complex64), "dtype must be one of .*complex64"),
    "turned complex": (
        lambda: make().to(torch.complex64)(X.to(torch.complex64)), "dtype must be one of .*complex",
    ),
    "channels not divisible": (
        lambda: make(channels=5, groups=2), "in_channels must be divisible by groups = 2, got 5",
    ),
    "outputs not divisible": (
        lambda: make(outputs=5, groups=2), "out_channels must be divisible by groups = 2, got 5",
    ),
    "groups 0": (lambda: make(groups=0), "groups must be a whole number >= 1, got 0"),
    "groups 1.5": (lambda: make(groups=1.5), "groups must be a whole number >= 1, got 1.5"),
    "no channels": (lambda: make(channels=0), "in_channels must be a whole number >= 1, got 0"),
    "channels a word": (lambda: make(outputs="8"), "out_channels must be a whole number .*'8'"),
    "kernel larger than the input": (
        lambda: make(kernel_size=7, padding=(1, 0)),
        r"kernel_size \(7, 7\) with dilation \(1, 1\) must fit the padded input of size \(8, 5\)",
    ),
    "dilated kernel larger": (lambda: make(dilation=3), r"dilation \(3, 3\) must fit"),
    "kernel 0": (lambda: make(kernel_size=0), "kernel_size must be a whole number >= 1, .* got 0"),
    "kernel 2.5": (lambda: make(kernel_size=2.5), "kernel_size must be a whole number .*got 2.5"),
    "kernel of three axes": (lambda: make(kernel_size=(3, 3, 3)), r"or 2 of them, got \(3, 3, 3\)"),
    "input size of one axis": (
        lambda: LocallyConnected2d(4, 8, 3, (6,)), r"input_size must be .*of them, got \(6,\)",
    ),
    "stride 0": (lambda: make(stride=(1, 0)), r"stride must be .* got \(1, 0\)"),
    "dilation -1": (lambda: make(dilation=-1), "dilation must be .* got -1"),
    "padding -1": (lambda: make(padding=-1), '"same", "valid", a whole number >= 0 .* got -1'),
    "padding 0.5": (lambda: make(padding=0.5), "padding must be .* got 0.5"),
    "padding a word": (lambda: make(padding="full"), "padding must be .* got 'full'"),
    "stride with same": (
        lambda: make(padding="same", stride=(1, 2)), r'stride must be 1 .*"same", got \(1, 2\)',
    ),
    "reflect beyond the input": (
        lambda: make(padding=(1, 5), padding_mode="reflect"),
        r'padding must be at most \(5, 4\) for padding_mode "reflect", got \(1, 5\)',
    ),
    "same, reflected beyond": (
        lambda: make(kernel_size=(1, 2), dilation=(1, 9), padding="same", padding_mode="reflect"),
        r'padding must be at most \(5, 4\) .*got "same", which is \(0, 5\)',
    ),
    "circular beyond the input": (
        lambda: make(padding=(7, 1), padding_mode="circular"),
        r'padding must be at most \(6, 5\) for padding_mode "circular", got \(7, 1\)',
    ),
    "unknown padding mode": (
        lambda: make(padding_mode="zero"), "padding_mode must be one of .*did you mean 'zeros'",
    ),
    "unknown backend": (lambda: make(backend="matmull"), "backend must be one of auto.*'matmul'"),
    "bias a word": (lambda: make(bias="channel"), 'bias must be True, False or "position", got'),
    "unknown init": (lambda: make(init="kaiming"), 'init must be "independent", a .* got \'kaim'),
    "noise below 0": (lambda: make(init=-0.1), "init must be .* >= 0 or a callable, got -0.1"),
    "noise NaN": (lambda: make(init=float("nan")), "init must be .* got nan"),
    "noise infinite": (lambda: make(init=float("inf")), "init must be .* got inf"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_clear_sentence(mistake: str) -> None:
    attempt, message = MISTAKES[mistake]
    with pytest.raises(InvalidArgument, match=message) as info:
        attempt()
    assert "\n" not in str(info.value)


def test_numbers_of_numpy_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    layer = make(kernel_size=numpy.int64(3), padding=(numpy.int32(1), 0))
    assert layer(X).shape == (2, 8, 6, 3)
    assert pickle.loads(pickle.dumps(layer)).kernel_size == (3, 3)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
def test_largest_padding_of_every_mode(mode: str) -> None:
    """What the check allows, torch can do."""
    padding = (5, 4) if mode == "reflect" else (6, 5)
    layer = make(padding=padding, padding_mode=mode)
    convolution = convolution_like(layer, kernel_size=3, padding=padding, padding_mode=mode)
    torch.testing.assert_close(layer(X + 1), convolution(X + 1))
