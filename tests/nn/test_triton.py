"""Triton's kernels: exact through the interpreter, compiled for Hopper, refused where they must be.

On a GPU, `pytest -m gpu tests/nn/test_ops.py` holds them against the loops.
"""

from __future__ import annotations

import os
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d
from neurosim.nn.ops.local import BACKENDS, Geometry

triton = pytest.importorskip("triton")
if "triton" not in BACKENDS:
    pytest.skip("this version of Triton cannot be imported without a GPU", allow_module_level=True)

HERE = Path(__file__).parent

# The interpreter takes some 10 ms a program, so of the tests of a backend only the ones that
# differ by what a kernel does.
SELECTED = (
    "(agree and sequence) or (agree and pointwise)"
    " or (agree and float32 and (strided or rectangular or unseen or volume)) or any_shape"
    " or (second and sequence) or more_than_one_block or (any_memory and transposed)"
    " or (registered and sequence) or (own_their_memory and one and position)"
)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: Triton reads its settings when it is imported."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )


def test_exact_through_the_interpreter() -> None:
    options = ["-q", "-x", "-n0", "-W", "ignore", "-p", "no:cacheprovider", "-k", SELECTED]
    done = python("-m", "pytest", *options, str(HERE / "test_ops.py"), TRITON_INTERPRET="1")
    if "only 0-dimensional arrays can be converted" in done.stdout:
        pytest.skip("Triton's interpreter and numpy do not fit together (3.6 and 2.5 do not)")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "matmul" not in done.stdout
    assert int(done.stdout.rsplit(" passed", 1)[0].split()[-1]) > 20


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("kernel", ["forward", "input_gradient", "weight_gradient"])
def test_compiles_for_hopper(kernel: str, dtype: str) -> None:
    """Without a GPU: configurations fit its shared memory, low precision uses its tensor cores."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from neurosim.nn.ops.local import triton as backend

    g = Geometry((16, 16), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1))
    function = getattr(backend, f"_{kernel}_kernel").fn
    constants = {
        "INPUT": g.input_size, "OUTPUT": g.output_size, "KERNEL": g.kernel_size,
        "STRIDE": g.stride, "DILATION": g.dilation, "BEFORE": g.before, "AXES": 2,
        "ELEMENTS": prod(g.input_size), "POSITIONS": g.positions, "TAPS": 9, "GROUPS": 1,
        "IN": 16, "OUT": 32, "PRECISION": "ieee",
    }  # fmt: skip
    for configuration in backend.CONFIGURATIONS[:: 2 if dtype == "bf16" else 7]:
        fixed = constants | configuration.kwargs
        kinds = {"samples": "i32", "batch": "i32"} | dict.fromkeys(fixed, "constexpr")
        source = ASTSource(
            fn=function,
            signature={name: kinds.get(name, f"*{dtype}") for name in function.arg_names},
            constexprs={name: fixed[name] for name in function.arg_names if name in fixed},
            attrs={(i,): [["tt.divisibility", 16]] for i in range(3)},
        )
        options = {"num_warps": configuration.num_warps, "num_stages": configuration.num_stages}
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
        assert compiled.metadata.shared <= 227 * 1024
        if dtype != "fp32":
            assert "mma" in compiled.asm["ptx"]


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        (torch.float32, 'tensors are on cpu, not on a GPU; use backend="matmul"'),
        (torch.float64, 'torch.float64 is .*; use backend="matmul"'),
    ],
)
def test_says_why_it_cannot_run(dtype: torch.dtype, reason: str) -> None:
    layer = LocallyConnected2d(1, 1, 1, 2, backend="triton", dtype=dtype)
    with pytest.raises(InvalidArgument, match=f'backend "triton" cannot run: {reason}'):
        layer(torch.ones(1, 1, 2, 2, dtype=dtype))


def test_without_triton() -> None:
    """An explicit request fails when the layer is made; everything else works."""
    program = """
import sys
sys.modules["triton"] = None
import torch
from neurosim.nn import LocallyConnected2d
print(LocallyConnected2d(1, 1, 1, 2)(torch.ones(1, 1, 2, 2)).shape)
LocallyConnected2d(1, 1, 1, 2, backend="triton")
"""
    done = python("-c", program)
    assert "torch.Size([1, 1, 2, 2])" in done.stdout
    assert 'backend "triton" cannot run: Triton cannot be imported' in done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_with_the_rest_of_a_model(dtype: torch.dtype) -> None:
    """The operators are nodes of one graph; "auto" takes Triton for them."""
    torch.manual_seed(0)
    layer = LocallyConnected2d(16, 32, 3, 8, padding=1, device="cuda", dtype=dtype)
    model = torch.nn.Sequential(layer, torch.nn.ReLU())
    x = torch.randn(32, 16, 8, 8, device="cuda", dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    results = []
    for module in (model, torch.compile(model, fullgraph=True)):
        y = module(x)
        results.append((y, *torch.autograd.grad(y.float().square().sum(), (x, layer.weight))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)
    layer.backend = "matmul"
    torch.testing.assert_close(layer(x).relu(), results[0][0], atol=0.05, rtol=0.05)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [3, 16, 32, 64, 128])
def test_every_configuration_computes_the_same(
    channels: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that tuning would choose from, one after the other."""
    from neurosim.nn.ops.local import triton as backend

    torch.manual_seed(0)
    layer = LocallyConnected2d(channels, channels, 3, 4, padding=1, device="cuda", dtype=dtype)
    x = torch.randn(150, channels, 4, 4, device="cuda", dtype=dtype, requires_grad=True)

    def outcome() -> tuple[torch.Tensor, ...]:
        y = layer(x)
        return y, *torch.autograd.grad(y.float().square().sum(), (x, layer.weight))

    layer.backend, found = "matmul", []
    reference = outcome()
    layer.backend = "triton"
    for configuration in backend._as_wide(channels, backend.CONFIGURATIONS):
        monkeypatch.setattr(backend, "_known", {})
        for name in ("forward", "input_gradient", "weight_gradient"):
            monkeypatch.setattr(getattr(backend, f"_{name}_kernel"), "configs", [configuration])
        found.append(outcome())
    assert len(found) > 1
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    for one in found:
        for got, wanted in zip(one, reference, strict=True):
            error = (got - wanted).abs().max() / wanted.abs().max()
            assert float(error) < tolerance


@pytest.mark.gpu
def test_tuning_chooses_a_configuration() -> None:
    """From those as wide as the result is; another batch of about that size is not tuned again."""
    from neurosim.nn.ops.local import triton as backend

    kernel = backend._forward_kernel
    chosen, kernel.configs = kernel.configs, backend.CONFIGURATIONS
    try:
        backend._known.clear()
        layer = LocallyConnected2d(16, 16, 3, 5, padding=1, device="cuda", bias=False)
        for count in (30, 17):
            layer(torch.randn(count, 16, 5, 5, device="cuda"))
        assert kernel.best_config.kwargs["COLUMNS"] == 16
        assert len(backend._known) == 1
    finally:
        kernel.configs = chosen
        backend._known.clear()


def test_configurations_are_as_wide_as_the_result() -> None:
    from neurosim.nn.ops.local.triton import CONFIGURATIONS, _as_wide

    widths = {c: {x.kwargs["COLUMNS"] for x in _as_wide(c, CONFIGURATIONS)} for c in (3, 24, 512)}
    assert widths == {3: {16}, 24: {32}, 512: {64, 128}}
