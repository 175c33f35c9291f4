"""Compiled presentations against those written out in torch."""

from __future__ import annotations

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
