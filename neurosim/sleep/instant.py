"""The papers' shortcut: every grid's weights become their mean at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim.sleep.frame import Frame


@dataclass(frozen=True)
class Instant:
    """w_i <- (1/N) sum_j w_j over each grid, the limit of Eq. 5 for gamma -> 0 (Sec. 4)."""

    def apply(self, storage: Tensor, frame: Frame) -> None:
        """Share weights (taps, positions, C, O) in place."""
        mean = frame.mean_by_tap(frame.part(storage))
        if frame.complete:
            torch.index_select(mean, 1, frame.grid, out=storage)
        else:
            frame.set_part(storage, mean.index_select(1, frame.grid))
