"""Sleep by the idealised rule (Eq. 4), in mini-batches as the published network code runs it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from neurosim.errors import StabilityError, require, require_count
from neurosim.sleep.frame import Frame
from neurosim.sleep.operator import Operator, largest_singular_value
from neurosim.sleep.patterns import Source, TileShape, rows


@dataclass(frozen=True)
class Hebbian:
    """Anti-Hebbian plasticity with neurons that subtract their grid's mean at once.

        m_i <- momentum m_i - rate [ mean_b (z_bi - mean_j z_bj) x_b + gamma (w_i - w_i_init) ]
        w_i <- w_i + m_i                                                                  (4)

    over `steps` batches of `batch` tiles. The defaults, with `border="exclude"` and
    `redraw=1`, are the published non-instant sleep. By default all sleeps show the same tiles,
    whose effect is known once it was computed; `redraw=m` draws new ones every m sleeps.
    """

    steps: int = 100
    rate: float = 0.1
    gamma: float = 1e-5
    momentum: float = 0.0
    batch: int = 128
    redraw: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            require_count(f"sleep.{name}", getattr(self, name))
        require(
            math.isfinite(self.rate) and self.rate > 0, "sleep.rate", self.rate, "finite and > 0"
        )
        require(
            math.isfinite(self.gamma) and self.gamma >= 0,
            "sleep.gamma",
            self.gamma,
            "finite and >= 0",
        )
        require(0 <= self.momentum < 1, "sleep.momentum", self.momentum, "at least 0 and below 1")
        require_count("sleep.redraw", self.redraw, optional=True)

    @property
    def tiles(self) -> int:
        """How many tiles a sleep shows."""
        return self.steps * self.batch

    def operator(self, patterns: Source, shape: TileShape, draw: int = 0) -> Operator:
        """The sleep as a matrix: deviations follow Eq. 4, the mean stays."""
        return _operator(self, patterns, shape, draw)

    def check(self, patterns: Source, shape: TileShape, noise: float) -> None:
        """Refuse patterns that do not fit; what noise does to stability only the sleep shows."""
        patterns.streams(shape, self.tiles, 0)

    def step(
        self,
        weights: Tensor,
        frame: Frame,
        patterns: Source,
        shape: TileShape,
        *,
        noise: float = 0.0,
        draw: int = 0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Weights (P, D, O) of the torus frame after the sleep, every neuron by itself.

        With `noise`, every neuron sees every tile with Gaussian noise of its own (App. A.3).
        """
        streams = patterns.streams(shape, self.tiles, draw)
        width = weights.shape[-1] // len(streams)
        batches = zip(*(rows(stream, self.batch) for stream in streams), strict=True)
        change, movement = torch.zeros_like(weights), torch.zeros_like(weights)
        for shown in batches:
            tiles = torch.from_numpy(np.stack(shown, 2)).to(weights)  # (batch, D, parts)
            gradient = torch.zeros_like(weights)
            for tile in tiles.repeat_interleave(width, 2):  # (D, O)
                seen = noisy(tile, weights, noise, generator)
                z = ((weights + change) * seen).sum(1)  # (P, O)
                gradient += (z - frame.mean(z)[frame.grid])[:, None] * seen
            gradient /= self.batch
            movement = self.momentum * movement - self.rate * (gradient + self.gamma * change)
            change = change + movement
        return weights + change


def noisy(tile: Tensor, weights: Tensor, noise: float, generator: torch.Generator | None) -> Tensor:
    """What every neuron sees of a tile (D, O): itself, or with noise drawn for each neuron."""
    if noise == 0:
        return tile.expand_as(weights)
    device = weights.device if generator is None else generator.device  # a seed is a seed
    drawn = torch.empty(weights.shape, dtype=weights.dtype, device=device)
    return drawn.normal_(0, noise, generator=generator).to(weights.device).add_(tile)


@lru_cache(maxsize=16)  # the layers of a network have few different shapes
def _operator(hebbian: Hebbian, patterns: Source, shape: TileShape, draw: int) -> Operator:
    deviations = []
    for stream in patterns.streams(shape, hebbian.tiles, draw):
        identity = torch.eye(shape.dimension, dtype=torch.float64)
        change, movement = torch.zeros_like(identity), torch.zeros_like(identity)
        largest = 0.0
        for tiles in map(torch.from_numpy, rows(stream, hebbian.batch)):
            z = (identity + change) @ tiles.T  # (D, batch)
            gradient = z @ tiles / hebbian.batch + hebbian.gamma * change
            movement = hebbian.momentum * movement - hebbian.rate * gradient
            change = change + movement
            largest = max(largest, largest_singular_value(tiles) ** 2 / hebbian.batch)
        safe = 2 * (1 + hebbian.momentum) / (largest + hebbian.gamma)
        operator = Operator((identity + change)[None], identity[None])
        try:
            operator.check()
        except StabilityError as error:
            raise StabilityError(
                f"sleep.rate must let deviations shrink, which it surely does below "
                f"2 (1 + momentum) / (largest eigenvalue of C + gamma) = {safe:.3g} for "
                f"D = {shape.dimension} in batches of {hebbian.batch}, got {hebbian.rate:g}"
            ) from error
        deviations.append(operator.deviation)
    deviation = torch.cat(deviations)
    return Operator(deviation, torch.eye(shape.dimension, dtype=torch.float64).expand_as(deviation))
