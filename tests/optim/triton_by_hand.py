"""Run by `test_beta_lasso` in a process of its own: Triton reads its settings when imported."""

# Layers are reached by name, of which torch does not know the types.
# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportCallIssue=false
# pyright: reportGeneralTypeIssues=false, reportOperatorIssue=false, reportReturnType=false

from __future__ import annotations

import torch

from neurosim.optim import step_triton
from neurosim.optim.step import Update, reference

torch.manual_seed(0)
for momentum in (0.0, 0.9):
    for shape in ((3, 5), (97, 101)):
        weight, gradient = torch.randn(shape), torch.randn(shape)
        weight[0, :2] = 0
        own, expected = weight.clone(), weight.clone()
        kept = [torch.full(shape, 0.1)] * 2 if momentum else None
        by = Update(0.1, 0.02, 0.4, momentum)
        momenta = [None if kept is None else [k.clone()] for k in kept or (0, 0)]
        for _ in range(2):
            step_triton.step([own], [gradient], momenta[0], by)
            reference([expected], [gradient], momenta[1], by)
        torch.testing.assert_close(own, expected, rtol=1e-5, atol=1e-6)
        assert (own == 0).any()
        assert not own[own != 0].abs().lt(0.4 - 1e-6).any()
        print("equal")
