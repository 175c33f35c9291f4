"""Sleep by the circuit itself: the rate ODE of Eq. 8, for a whole layer as one matrix."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurosim.dynamics import (
    Constant,
    InputStream,
    InstantResponse,
    InverseSqrt,
    InverseTime,
    Plasticity,
    RateCircuit,
    Response,
)
from neurosim.dynamics.stability import check_stability, stable_plasticity
from neurosim.dynamics.transfer import transfer
from neurosim.errors import InvalidArgument, require, require_count, require_instance
from neurosim.sleep import presentation, presentation_cpu
from neurosim.sleep.frame import Frame
from neurosim.sleep.hebbian import noisy
from neurosim.sleep.operator import Operator
from neurosim.sleep.patterns import Source, TileShape, rows
from neurosim.sleep.presentation import Held, Moving


@dataclass(frozen=True)
class Circuit:
    """Lateral inhibition and anti-Hebbian plasticity, one inhibitory neuron per grid and channel.

    `response` and `plasticity` are those of a convergence study (`neurosim.dynamics`), shown
    `presentations` tiles. The rate is meant for |x|^2 up to `reference` and is lowered in
    proportion for layers that see more (`stable_plasticity`). By default all sleeps show the
    same tiles, so that the operator of a layer is computed once; `redraw=m` draws new ones
    every m sleeps, which matters to a network that sleeps often. However many the tiles, they
    shrink the mean weight more in some directions than in others (by 2 to 10% with the defaults
    at D = 576). The same tiles single out the same directions in every sleep, so that the
    difference adds up; with new ones it averages out.

    The defaults are a sleep of ten minutes that a network can use, which the published simulation
    is not: its rates (`RateCircuit(), Plasticity()`, 400 presentations and reference 81) leave
    78% of the deviations where D = 576, and its inhibition of 10 takes a third of the mean where
    D is small. Here inhibition is 100, which needs dt < 0.59 ms, and a constant small rate without
    momentum treats all layers alike, since with E[x x^T] = I a deviation decays by eta T g_dev per
    presentation whatever D is: 3% (D = 27), 4% (D = 144) and 9% (D = 576) are left, and 95% of
    the mean.
    """

    response: Response = field(default_factory=lambda: RateCircuit(alpha=100, steps=600, dt=0.25))
    plasticity: Plasticity = field(default_factory=lambda: Plasticity(8e-6, momentum=0.0))
    presentations: int = 4000
    redraw: int | None = None
    reference: float = 576.0

    def __post_init__(self) -> None:
        require_instance("sleep.response", self.response, Response)
        require_instance("sleep.plasticity", self.plasticity, Plasticity)
        require_count("sleep.presentations", self.presentations)
        if self.response.rectified:
            raise InvalidArgument(
                "sleep.response.rectified must be False, got True: a sleep is a matrix only "
                "while the circuit is linear"
            )
        require_count("sleep.redraw", self.redraw, optional=True)
        positive = math.isfinite(self.reference) and self.reference > 0
        require(positive, "sleep.reference", self.reference, "finite and > 0")
        # Of the bounds, the one on dt holds for all layers alike.
        check_stability(self.response, self.plasticity, energy=0, dimension=1, presentations=0)

    @property
    def minutes(self) -> float:
        """How long the sleep lasts in the circuit's own time, which an `InstantResponse` lacks."""
        if isinstance(self.response, InstantResponse):
            return math.nan
        return self.presentations * self.response.steps * self.response.dt / 60_000

    def operator(self, patterns: Source, shape: TileShape, draw: int = 0) -> Operator:
        """The sleep as two matrices, from `neurosim.dynamics.transfer`."""
        return _operator(self._by_rates(), patterns, shape, draw)

    def _by_rates(self) -> Circuit:
        """The same circuit, told from others by its rates where those are a function of a user's.

        Such a function may be no key of a cache, or be one that computes something else later.
        """
        rate = self.plasticity.rate
        if isinstance(rate, Constant | InverseSqrt | InverseTime):
            return self
        steps = self.response.steps
        rates = self.plasticity.step_rates(self.response, 0, self.presentations, steps)
        known = _KnownRate(rate, hashlib.sha256(rates.tobytes()).hexdigest())
        return replace(self, plasticity=replace(self.plasticity, rate=known))

    def check(self, patterns: Source, shape: TileShape, noise: float) -> None:
        """Refuse patterns that do not fit, and what is not stable."""
        self._plasticity(patterns.streams(shape, self.presentations, 0), shape, noise)

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
        streams = patterns.streams(shape, self.presentations, draw)
        plasticity = self._plasticity(streams, shape, noise)
        response, gamma = self.response, plasticity.gamma
        momentum = plasticity.step_momentum(response)
        width = weights.shape[-1] // len(streams)
        tiles = zip(*(rows(stream, 1) for stream in streams), strict=True)

        weights = weights.contiguous()
        passes = _fastest(weights, response)
        m, change = torch.zeros_like(weights), torch.zeros_like(weights)  # change = w - w_init
        r = torch.zeros_like(weights[:, 0])
        inhibition = r.new_zeros(len(frame.members), r.shape[1])
        for number, shown in enumerate(tiles):
            tile = torch.from_numpy(np.concatenate(shown).T.copy()).to(weights)  # (D, parts)
            x = noisy(tile.repeat_interleave(width, 1), weights, noise, generator).contiguous()
            energy, start, m_x, change_x = passes.along(x, weights, m, change)
            etas = plasticity.step_rates(response, number, 1, response.steps)[:, 0]
            now = Moving(r, inhibition, m_x, change_x)
            held = Held(start, energy, etas, momentum, gamma, response, frame)
            then = passes.euler(now, held)
            r, inhibition = then.r, then.inhibition
            across = presentation.map_across(etas, momentum, gamma)
            (a, b), (c, d) = across.tolist()
            scale = energy.where(energy > 0, torch.ones_like(energy))
            by_m = (then.m - a * m_x - b * change_x) / scale
            by_change = (then.change - c * m_x - d * change_x) / scale
            m, change = passes.move(m, change, x, across, by_m, by_change)
        return weights + change

    def _plasticity(
        self, streams: list[InputStream], shape: TileShape, noise: float = 0.0
    ) -> Plasticity:
        """The rule with its rate lowered to what |x|^2 allows, checked."""
        energies = np.concatenate([stream.sample_energies() for stream in streams])
        energy = float(energies.mean()) + noise**2 * shape.dimension
        plasticity = stable_plasticity(self.plasticity, energy, self.reference)
        check_stability(
            self.response,
            plasticity,
            energy=energies,
            dimension=shape.dimension,
            presentations=self.presentations,
            noise=noise,
        )
        return plasticity


@dataclass(frozen=True)
class _KnownRate:
    """A function of time, told from others by what it came to."""

    rate: Any = field(compare=False)
    values: str

    def __call__(self, t: NDArray[np.float64]) -> Any:
        return self.rate(t)


def _fastest(weights: Tensor, response: Response) -> ModuleType:
    """The form of `presentation` for such weights."""
    if presentation_cpu.can_compile(weights, response):
        return presentation_cpu
    try:
        from neurosim.sleep import presentation_triton
    except (ImportError, RuntimeError):  # not installed, or a version that wants a GPU
        return presentation
    return presentation_triton if presentation_triton.can_run(weights) else presentation


@lru_cache(maxsize=16)
def _operator(circuit: Circuit, patterns: Source, shape: TileShape, draw: int) -> Operator:
    streams = patterns.streams(shape, circuit.presentations, draw)
    plasticity = circuit._plasticity(streams, shape)
    found = [
        transfer(stream, response=circuit.response, plasticity=plasticity, check=False)
        for stream in streams
    ]
    operator = Operator(
        torch.stack([torch.from_numpy(one.deviation) for one in found]),
        torch.stack([torch.from_numpy(one.mean) for one in found]),
    )
    operator.check()
    return operator
