"""The sleep of a low-rank layer: its combining weights become equal, the banks stay.

The filters of position p are F^(p) = sum_k w_p^(k) F^(k) (Elsayed et al. 2020, Eq. 2), so the mean
of a grid's filters combines the same banks by the mean of the grid's weights,

    mean_p F^(p) = sum_k (mean_p w_p^(k)) F^(k)

and an instant sleep stays low-rank. What has to be found are tables whose normalised sum is that
mean. With w~ = log(mean) a softmax gives the mean back, since it is positive and sums to 1; but
rows and columns together would have to add up to log(mean) of every pair, which they do only
without normalisation, where the mean over a grid is (mean_i alpha_i) + (mean_j beta_j). Means of
vectors of length 1 are shorter: an L2 norm cannot give them back.

Any other sleep multiplies the filters themselves by a matrix, differently for every grid, and what
it leaves is no combination of the same banks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neurosim.errors import InvalidArgument
from neurosim.nn.combine import axes_of
from neurosim.nn.low_rank import LowRankLocal2d
from neurosim.sleep.frame import Border, Frame, frame_of
from neurosim.sleep.instant import Instant


def check_low_rank(layer: LowRankLocal2d, name: str, sleep: Any) -> None:
    """Refuse what would not leave a low-rank layer with the same banks."""
    wrong = None
    if not isinstance(sleep.mechanism, Instant):
        wrong = "mechanism", type(sleep.mechanism).__name__, "Instant(), which leaves its rank"
    elif layer.input_dependent:
        wrong = "combining weights", "input-dependent", "fixed, for grids to share them"
    elif layer.normalisation == "norm":
        wrong = "normalisation", "norm", '"softmax" or "none", which can have a grid\'s mean'
    elif layer.sharing == "row+column" and layer.normalisation == "softmax":
        wrong = "sharing", layer.sharing, '"row", "column" or "position" with "softmax"'
    elif layer.sharing != "position" and sleep.border == "exclude":
        wrong = "border", sleep.border, f'"share" for combining weights by {layer.sharing}'
    elif getattr(layer, "present_inputs", None) is not None:
        wrong = "connections", "some absent", "all present, for positions to see the same"
    elif sleep.scaling is not None:
        wrong = "scaling", sleep.scaling, "None, for banks have no position"
    if wrong:
        what, got, allowed = wrong
        raise InvalidArgument(
            f"{what} of low-rank layer {name!r} must be {allowed}, for it to sleep, got {got!r}: "
            "or make it locally connected with neurosim.nn.to_local"
        )


@torch.no_grad()
def share_combining(layer: LowRankLocal2d, border: Border) -> None:
    """Give every grid the mean of its combining weights, and so the mean of its filters."""
    frame = frame_of(layer, border)
    weights: Any = layer.combine
    mean = _mean_of_grids(weights().flatten(1).t(), frame).t().view(-1, *layer.output_size)
    if layer.normalisation == "softmax":
        mean = mean.log()
    if layer.sharing == "row+column":  # without normalisation: each table's own mean
        for name, table in weights.named_parameters():
            average(table, name, frame)
        return
    for name, table in weights.named_parameters():  # a single one
        varies = axes_of(weights.sharing)[name]
        inside = (slice(None), *(slice(None) if v else slice(0, 1) for v in varies))
        table.copy_(mean[inside])


@torch.no_grad()
def average(values: Tensor, name: str, frame: Frame) -> None:
    """Give everything in a table, of all positions or of rows or columns, its grid's mean."""
    if name == "table":
        flat = _mean_of_grids(values.flatten(1).t(), frame)
        values.copy_(flat.t().view_as(values))
    else:
        values.copy_(_mean_over_period(values, *_axis(name, frame)))


def _mean_of_grids(values: Tensor, frame: Frame) -> Tensor:
    """(positions, K) with every grid's members replaced by their mean."""
    shared = values.clone()
    shared[frame.positions] = frame.mean(values[frame.positions])[frame.grid]
    return shared


def _axis(name: str, frame: Frame) -> tuple[int, int]:
    """The axis of a table of rows or columns, (K, H', 1) or (K, 1, W'), and its period."""
    return (1, frame.period[0]) if name == "row" else (2, frame.period[1])


def _mean_over_period(table: Tensor, axis: int, period: int) -> Tensor:
    """Means over every period-th row or column."""
    mean = table.clone()
    for first in range(min(period, table.shape[axis])):
        part = slice(first, None, period)
        inside = (slice(None),) * axis + (part,)
        mean[inside] = table[inside].mean(axis, keepdim=True)
    return mean
