"""Run by `test_presentation` in a process of its own: Triton reads its settings when imported."""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from neurosim.dynamics import InstantResponse, RateCircuit
from neurosim.nn import LocallyConnected2d
from neurosim.sleep import frame_of, presentation, presentation_triton
from neurosim.sleep.presentation import Held, Moving

RESPONSES = (RateCircuit(tau=20, alpha=4, steps=12, dt=0.5), InstantResponse(5))
LAYERS = (
    LocallyConnected2d(2, 5, 3, 7, padding=1),
    LocallyConnected2d(2, 3, 1, (3, 5)),  # one grid
    LocallyConnected2d(2, 1, 2, 6, stride=3),  # as many as there are positions
)
torch.manual_seed(0)
for layer, response, border, dtype in product(
    LAYERS, RESPONSES, ("share", "exclude"), (torch.float32, torch.float64)
):
    frame = frame_of(layer, border)  # type: ignore[arg-type]
    shape = (len(frame.positions), layer.out_channels)
    r, m, change, start = (torch.randn(shape, dtype=dtype) for _ in range(4))
    inhibition = torch.randn(len(frame.members), shape[1], dtype=dtype)
    now = Moving(r, inhibition, m, change)
    before = [values.clone() for values in now]
    etas = np.linspace(0.02, 0.01, 12)
    held = Held(start, torch.rand(shape, dtype=dtype), etas, 0.5, 0.1, response, frame)
    for neurons in (2048, 4):  # all output channels in one program, or in several
        presentation_triton.NEURONS = neurons
        found = presentation_triton.euler(now, held)
        tolerance = 1e-5 if dtype == torch.float32 else 1e-12
        wanted = presentation.euler(now, held)
        if isinstance(response, InstantResponse):  # which has no inhibition to move
            torch.testing.assert_close(found.inhibition, inhibition, rtol=0, atol=0)
        torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)
        assert all(map(torch.equal, now, before))  # the state before is left alone
print("equal")
