"""Who shares with whom in a locally connected layer, and how its taps meet a periodic pattern.

Lateral connections in the layer below repeat a tile of k elements along every axis (Fig. 3B).
Tap i of output position h then sees the tile's element

    e(h, i) = (h s - pad + i d) mod k                        for dilations d with gcd(d, k) = 1

so that positions whose h agree modulo k / gcd(k, s) see the same elements by the same taps: they
form a grid, share one inhibitory neuron per output channel, and learn each other's weights.
Dilations that have a divisor in common with k spread d tiles over k d pixels,

    a = (h s - pad) mod (k d),    e(h, i) = (a div d + i) mod k,    grid period k d / gcd(k d, s)

so that those with the same a div d, but another a, see the same without sharing.

Indexed by e instead of i, in the torus frame, the weights of all positions see the same vector,
whatever their grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurosim.errors import require_choice
from neurosim.nn.local import LocallyConnected
from neurosim.nn.low_rank import LowRankLocal2d

Border = Literal["share", "exclude"]
BORDERS = ("share", "exclude")


class Axis(NamedTuple):
    """One spatial axis of a layer."""

    grid: Tensor  # (positions,), class of each position: its grid along this axis
    taps: Tensor  # (positions, k), the tap that sees element e of the tile
    interior: Tensor  # (positions,), whether the receptive field lies inside the image
    period: int


def axis(kernel: int, stride: int, dilation: int, before: int, image: int, positions: int) -> Axis:
    """Grids, taps and interior of one axis; `before` is the padding before the image."""
    h = torch.arange(positions)
    tap = torch.arange(kernel)
    corner = h * stride - before
    if math.gcd(dilation, kernel) == 1:
        extent = kernel
        element = (corner[:, None] + tap * dilation) % kernel
    else:
        extent = kernel * dilation
        element = (torch.div(corner % extent, dilation, rounding_mode="floor")[:, None] + tap) % (
            kernel
        )
    period = extent // math.gcd(extent, stride)
    last = corner + (kernel - 1) * dilation
    return Axis(h % period, element.argsort(1), (corner >= 0) & (last < image), period)


@dataclass(frozen=True, eq=False)
class Frame:
    """The grids and the torus frame of one layer, for the positions that take part in a sleep."""

    period: tuple[int, ...]  # of the grids, along every axis
    complete: bool  # whether every position takes part
    positions: Tensor  # (P,), flat numbers of the positions that do
    grid: Tensor  # (P,), number of each one's grid
    members: Tensor  # (G,), positions in each grid
    rows: Tensor  # (P, elements), row of (taps, positions) that holds element e of a position
    interior: Tensor  # (all positions,), whether the receptive field lies inside the image

    def to(self, device: torch.device) -> Frame:
        """The same frame on another device."""
        moved = (
            t.to(device)
            for t in (self.positions, self.grid, self.members, self.rows, self.interior)
        )
        return Frame(self.period, self.complete, *moved)

    def mean(self, values: Tensor) -> Tensor:
        """Means over the members of every grid: (P, ...) -> (G, ...)."""
        means = self.averages(values.dtype) @ values.flatten(1)
        return means.unflatten(1, values.shape[1:])

    def averages(self, dtype: torch.dtype) -> Tensor:
        """The matrix (G, P) that averages over the members of every grid."""
        return _averages(self, dtype)

    @cached_property
    def membership(self) -> Tensor:
        """Whether each position belongs to each grid, (G, P)."""
        return self.grid == torch.arange(len(self.members), device=self.grid.device)[:, None]

    @cached_property
    def neurons(self) -> tuple[Tensor, Tensor]:
        """Those that take part, a grid's after each other; where each grid starts, and the end."""
        ends = self.members.cumsum(0)
        return self.grid.argsort(stable=True), torch.cat([ends.new_zeros(1), ends])

    @cached_property
    def in_order(self) -> tuple[Tensor, Tensor]:
        """The same by their positions."""
        order, bounds = self.neurons
        return self.positions[order], bounds

    @cached_property
    def largest(self) -> int:
        """Members of the largest grid."""
        return int(self.members.max())

    def part(self, storage: Tensor) -> Tensor:
        """Storage (taps, positions, ...) of the positions that take part: a view if all do."""
        return storage if self.complete else storage.index_select(1, self.positions)

    def set_part(self, storage: Tensor, values: Tensor) -> None:
        """Write what `part` read."""
        if self.complete:
            storage.copy_(values)
        else:
            storage.index_copy_(1, self.positions, values)

    def gather(self, storage: Tensor) -> Tensor:
        """Weights in the torus frame: (taps, positions, C, O) -> (P, taps C, O)."""
        taps, positions, channels, outputs = storage.shape
        rows = storage.reshape(taps * positions, -1).index_select(0, self.rows.flatten())
        return rows.view(-1, taps * channels, outputs)

    def scatter(self, weights: Tensor, storage: Tensor) -> None:
        """Write weights (P, taps C, O) of the torus frame back to (taps, positions, C, O)."""
        flat = storage.view(storage.shape[0] * storage.shape[1], -1)
        flat.index_copy_(0, self.rows.flatten(), weights.reshape(self.rows.numel(), -1))


def frame_of(layer: LocallyConnected | LowRankLocal2d, border: Border = "share") -> Frame:
    """The frame of a layer, kept for the next sleep.

    `border` "share" lets positions whose receptive field leaves the image sleep as if the
    pattern went on there, as averaging over every k-th position does; "exclude" leaves them
    out, as the published Hebbian code does.
    """
    require_choice("border", border, BORDERS)
    settings = (
        layer.kernel_size,
        layer.stride,
        layer.dilation,
        _before(layer),
        layer.input_size,
        layer.output_size,
    )
    device = next(layer.parameters()).device
    return _frame(tuple(zip(*settings, strict=True)), border, device)


@lru_cache(maxsize=256)
def _frame(axes: tuple[tuple[int, ...], ...], border: Border, device: torch.device) -> Frame:
    if device.type != "cpu":
        return _frame(axes, border, torch.device("cpu")).to(device)
    parts = [axis(*settings) for settings in axes]
    grid = _combined([part.grid for part in parts], [part.period for part in parts])
    taps = _combined([part.taps.T for part in parts], [settings[0] for settings in axes])
    interior = reduce(lambda a, b: (a[:, None] & b).flatten(), [part.interior for part in parts])
    total = len(interior)
    rows = taps.T * total + torch.arange(total)[:, None]
    positions = torch.arange(total) if border == "share" else interior.nonzero().flatten()
    present, grid = grid[positions].unique(return_inverse=True)  # small maps lack some grids
    members = torch.bincount(grid, minlength=len(present))
    period = tuple(part.period for part in parts)
    return Frame(
        period, len(positions) == total, positions, grid, members, rows[positions], interior
    )


@lru_cache(maxsize=256)
def _averages(frame: Frame, dtype: torch.dtype) -> Tensor:
    return (frame.membership / frame.members[:, None].double()).to(dtype)


def _combined(tables: list[Tensor], bases: list[int]) -> Tensor:
    """One number from one per axis, for every combination of positions (and of elements).

    Tables are (positions,) or (elements, positions); the result flattens each kind of axis.
    """
    combined = tables[0]
    for table, base in zip(tables[1:], bases[1:], strict=True):
        if table.ndim == 1:
            combined = (combined[:, None] * base + table).flatten()
        else:
            sums = combined[:, None, :, None] * base + table[None, :, None, :]
            combined = sums.flatten(2).flatten(0, 1)
    return combined


def _before(layer: LocallyConnected | LowRankLocal2d) -> tuple[int, ...]:
    """Padding before the image along every axis, in any padding mode."""
    if layer.padding == "same":
        pairs = zip(layer.dilation, layer.kernel_size, strict=True)
        return tuple(dilation * (kernel - 1) // 2 for dilation, kernel in pairs)
    if isinstance(layer.padding, str):
        return (0,) * layer.axes
    return tuple(layer.padding)  # type: ignore[arg-type]
