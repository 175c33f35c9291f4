"""The layers are modules like torch's: copies, formats, compilers, processes, memory."""

from __future__ import annotations

import copy
import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from local_layers import (
    CHANNELS_LAST,
    CONVOLUTIONS,
    Layer,
    assert_equal,
    convolution_like,
    layer_of,
    outcome,
    shape,
    stored,
)
from scenarios import gradients_of_two_processes
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d
from neurosim.nn.local import LocallyConnected

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="no C++ compiler"
)


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


def ddp_model(rank: int = 0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        LocallyConnected2d(2, 4, 3, (5, 4), padding=1), nn.ReLU(),
        LocallyConnected2d(4, 2, 3, (5, 4), groups=2, bias="position"),
    )  # fmt: skip


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_find_the_gradients_of_one(tmp_path: Path) -> None:
    batch = torch.randn(6, 2, 5, 4)
    found = gradients_of_two_processes(ddp_model, batch, tmp_path)
    model = ddp_model()
    model(batch).square().mean().backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert_equal(found, wanted, 1e-6)


def test_repr_says_what_differs_from_the_defaults() -> None:
    layer = layer_of((6, 5), kernel_size=(3, 2), padding=1, groups=2, bias="position")
    assert repr(layer) == (
        "LocallyConnected2d(4, 8, kernel_size=(3, 2), input_size=(6, 5), stride=(1, 1), "
        "padding=(1, 1), groups=2, bias='position')"
    )
    assert "bias=False" in repr(layer_of((6, 5), bias=False))
    assert "padding" not in repr(layer_of((6, 5), padding=(0, 0)))
    assert "padding='same'" in repr(layer_of((6, 5), padding="same"))
