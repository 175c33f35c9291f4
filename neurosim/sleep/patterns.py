"""The tiles that lateral connections repeat over the layer below during a sleep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurosim.dynamics import Gaussian, Given, InputStream, OneHot
from neurosim.errors import require, require_choice

Array = NDArray[np.float64]
Kind = Literal["gaussian", "rectified", "one-hot"]
KINDS = ("gaussian", "rectified", "one-hot")


@dataclass(frozen=True)
class Patterns:
    """Seeded tiles, one sequence for every number of components D = C_in / groups * k^2.

    Gaussian tiles as in the published code; rectified, because rates are not negative; or one
    element after the other, as when one grid of the layer below is active at a time (Sec. 4.1),
    which leaves nothing to draw. All have E[x x^T] = I, but for the rectified ones, max(x, 0) of
    a Gaussian x.
    """

    kind: Kind = "gaussian"
    seed: int = 0

    def __post_init__(self) -> None:
        require_choice("patterns.kind", self.kind, KINDS)
        require(self.seed >= 0, "patterns.seed", self.seed, ">= 0")

    def streams(self, shape: TileShape, count: int, draw: int) -> list[InputStream]:
        """`count` tiles for a layer; the sequence numbered `draw` of those with this seed."""
        seed = np.random.SeedSequence(self.seed, spawn_key=(shape.dimension, draw))
        if self.kind == "one-hot":
            return [OneHot(shape.dimension, count, seed)]
        rectified = self.kind == "rectified"
        return [Gaussian(shape.dimension, count, seed, rectified=rectified)]


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles as given: (steps, batch, C_in, *kernel), the same at every sleep.

    They are copied: what they do to a layer is known once it was computed, and has to stay true.
    """

    tiles: Tensor

    def __post_init__(self) -> None:
        given = self.tiles
        real = isinstance(given, Tensor) and not given.is_complex()
        kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
        require(real, "tiles", kind, "a real tensor (steps, batch, C_in, *kernel)")
        object.__setattr__(self, "tiles", given.detach().to("cpu", torch.float64, copy=True))

    def streams(self, shape: TileShape, count: int, draw: int) -> list[InputStream]:
        """The tiles of each group of the layer as rows, in the order of the torus frame."""
        tiles, given = self.tiles, tuple(self.tiles.shape)
        expected = (shape.groups * shape.channels, *shape.kernel)
        allowed = f"(steps, batch, {', '.join(map(str, expected))})"
        require(given[2:] == expected, "patterns", f"tiles of shape {given}", f"of shape {allowed}")
        shown = given[0] * given[1]
        require(shown == count, "patterns", f"{shown} tiles", f"{count} tiles, as the sleep shows")
        rows = tiles.flatten(0, 1).unflatten(1, (shape.groups, shape.channels))
        rows = rows.movedim(2, -1).flatten(2)  # (count, groups, elements C)
        return [Given.of(rows[:, group].numpy()) for group in range(shape.groups)]


Source = Patterns | Tiles


@dataclass(frozen=True)
class TileShape:
    """What one neuron of a layer sees."""

    groups: int
    channels: int  # of one group
    kernel: tuple[int, ...]

    @property
    def dimension(self) -> int:
        """D, the number of components."""
        return self.channels * math.prod(self.kernel)


def rows(stream: InputStream, batch: int) -> Iterator[Array]:
    """The stream's tiles in batches of equal size, (batch, D)."""
    pending: list[Array] = []
    held = 0
    for _, block in stream.read(0, stream.presentations):
        while len(block):
            taken = block[: batch - held]
            pending.append(taken)
            held += len(taken)
            block = block[len(taken) :]
            if held == batch:
                yield np.concatenate(pending)
                pending, held = [], 0
