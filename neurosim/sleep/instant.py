"""The papers' shortcut: every grid's weights become their mean at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurosim.sleep import taps_cpu
from neurosim.sleep.frame import Frame


@dataclass(frozen=True)
class Instant:
    """w_i <- (1/N) sum_j w_j over each grid, the limit of Eq. 5 for gamma -> 0 (Sec. 4)."""

    def apply(self, storage: Tensor, frame: Frame, present: Tensor | None = None) -> None:
        """Share weights (taps, positions, C, O) in place.

        All members of a grid share one order of taps, so means need no torus frame. With
        `present`, in the shape of the weights, they are over the connections that are present,
        and absent ones stay 0.
        """
        if present is None and taps_cpu.can_compile(storage):
            taps_cpu.share_means(storage, *frame.in_order)
        else:
            share_means(storage, frame, present)


def share_means(storage: Tensor, frame: Frame, present: Tensor | None = None) -> None:
    """The same in torch, on any device; half precision is averaged in single."""
    part = frame.part(storage)
    wide = part.flatten(2).to(torch.promote_types(part.dtype, torch.float32))
    if present is None:
        mean = frame.averages(wide.dtype) @ wide
    else:
        counted = frame.part(present).flatten(2).to(wide.dtype)
        membership = frame.membership.to(wide.dtype)
        mean = membership @ (wide * counted) / (membership @ counted).clamp_min(1)
    mean = mean.to(part.dtype).unflatten(2, part.shape[2:])
    if frame.complete:
        torch.index_select(mean, 1, frame.grid, out=storage)
    else:
        frame.set_part(storage, mean.index_select(1, frame.grid))
    if present is not None:
        storage.mul_(present)
