"""Compiled presentations against those written out in torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurosim.dynamics import InstantResponse, RateCircuit
from neurosim.nn import LocallyConnected2d
from neurosim.sleep import frame_of, presentation, presentation_cpu
from neurosim.sleep.presentation import Held, Moving

FINE = RateCircuit(tau=20, alpha=4, steps=40, dt=0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(2, 6),
    kernel=st.integers(1, 3),
    outputs=st.integers(1, 17),
    steps=st.integers(1, 41),
    momentum=st.floats(0, 0.9),
    seed=st.integers(0, 99),
)
def test_as_written_out(
    dtype: torch.dtype,
    size: int,
    kernel: int,
    outputs: int,
    steps: int,
    momentum: float,
    seed: int,
) -> None:
    layer = LocallyConnected2d(2, outputs, kernel, size, padding=kernel // 2)
    frame = frame_of(layer)
    positions, dimension = len(frame.grid), 2 * kernel**2
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    def same(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
        tolerance = 1e-12 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)

    x, weights, m, change = (drawn(positions, dimension, outputs) for _ in range(4))
    products = presentation.along(x, weights, m, change)
    same(presentation_cpu.along(x, weights, m, change), products)

    energy, start, m_x, change_x = products
    now = Moving(drawn(positions, outputs), drawn(len(frame.members), outputs), m_x, change_x)
    before = [values.clone() for values in now]
    etas = np.linspace(1e-3, 5e-4, steps)
    held = Held(start, energy, etas, momentum, 0.2, FINE, frame)
    after = presentation.euler(now, held)
    same(presentation_cpu.euler(now, held), after)
    assert all(map(torch.equal, now, before))  # the state before is left alone

    across = presentation.map_across(etas, momentum, 0.2)
    by = drawn(positions, outputs), drawn(positions, outputs)
    moved = presentation.move(m, change, x, across, *by)
    same(presentation_cpu.move(m.clone(), change.clone(), x, across, *by), moved)


def test_across_is_the_product_of_all_steps() -> None:
    """One vector stepped by the plain rule, at a rate of its own in every step."""
    etas, m, change = np.linspace(0.1, 0.5, 7), 0.3, -0.7
    mapped = presentation.map_across(etas, momentum=0.6, gamma=0.4) @ [m, change]
    for eta in etas:
        m = 0.6 * m - eta * 0.4 * change
        change += m
    np.testing.assert_allclose(mapped, [m, change], rtol=1e-14)


def test_what_is_not_compiled() -> None:
    weights = torch.zeros(4, 3, 2)
    assert presentation_cpu.can_compile(weights, FINE)
    assert not presentation_cpu.can_compile(weights, InstantResponse(5))
    assert not presentation_cpu.can_compile(weights.bfloat16(), FINE)
    assert not presentation_cpu.can_compile(weights.to("meta"), FINE)


def test_triton_in_its_interpreter() -> None:
    """All steps in one kernel, for grids of one and of many neurons."""
    pytest.importorskip("triton")
    script = Path(__file__).with_name("triton_by_hand.py")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("Triton's interpreter and numpy do not fit together (3.6 and 2.5 do not)")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["equal"]


@pytest.mark.parametrize("dtype", ["fp32", "fp64"])
@pytest.mark.parametrize("instant", [False, True])
@pytest.mark.parametrize(("members", "columns"), [(1, 16), (128, 16), (4096, 1)])
def test_compiles_for_hopper(dtype: str, instant: bool, members: int, columns: int) -> None:
    """Without a GPU: the state of a grid fits into registers, but for very large ones."""
    triton = pytest.importorskip("triton", minversion="3.3")  # constants had another name before
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    presentation_triton = pytest.importorskip("neurosim.sleep.presentation_triton")
    function = presentation_triton._euler
    fixed = {"STEPS": 150, "INSTANT": instant, "MEMBERS": members, "COLUMNS": columns}
    kinds = {"order": "*i64", "bounds": "*i64", "outputs": "i32"}
    kinds |= dict.fromkeys(fixed, "constexpr")
    source = ASTSource(
        fn=function,
        signature={name: kinds.get(name, f"*{dtype}") for name in function.arg_names},
        constexprs=fixed,
    )
    options = {"num_warps": presentation_triton.WARPS}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert compiled.metadata.shared <= 227 * 1024
    assert "cubin" in compiled.asm
