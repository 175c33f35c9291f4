"""What a solver is given, and what it hands back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Event
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from neurosim.dynamics.arrays import Array
from neurosim.dynamics.circuit import Plasticity, Response
from neurosim.dynamics.draws import NeuronNoise, Seed
from neurosim.dynamics.inputs import InputStream
from neurosim.errors import Stopped

Initial = Literal["zero", "rest"]


@dataclass
class State:
    """Where a population stands after `presentations` inputs."""

    weights: Array  # (N, D)
    momentum: Array  # (N, D)
    r: Array  # (N,)
    r_inh: float
    presentations: int = 0


class Trace(NamedTuple):
    """The rates at the end of every step of one presentation."""

    time: Array  # (steps,) in ms from the start of the simulation
    r: Array  # (steps, N)
    r_inh: Array  # (steps,)


class Chunk(NamedTuple):
    """A few consecutive presentations."""

    first: int
    inputs: Array  # (count, D)
    etas: Array  # (steps, count)
    noise: NeuronNoise | None

    def parts(self, recorder: Recorder) -> Iterator[Part]:
        """The same, cut where something is to be recorded, and to a few MiB of noise."""
        low, count = 0, len(self.inputs)
        longest = self.noise.block if self.noise else count
        while low < count:
            high = min(count, low + longest, recorder.next_due(self.first + low) - self.first)
            yield self.part(low, high)
            low = high

    def part(self, low: int, high: int) -> Part:
        """Presentations low, ..., high - 1 of this chunk, as the neurons see them."""
        x = self.inputs[low:high, None]
        if self.noise:
            noise = [self.noise.at(k) for k in range(self.first + low, self.first + high)]
            x = x + np.stack(noise)
        return Part(self.first + high, x, np.ascontiguousarray(self.etas[:, low:high].T))


class Part(NamedTuple):
    """Consecutive presentations as neurons see them, up to but not including `stop`."""

    stop: int
    inputs: Array  # (count, 1, D), the same for all neurons, or with noise (count, N, D)
    etas: Array  # (count, steps)


@dataclass(frozen=True)
class Problem:
    """One population, what it is shown and how it learns."""

    weights: Array  # (N, D), w_init: where the sleep starts and what gamma pulls toward
    inputs: InputStream
    response: Response
    plasticity: Plasticity
    noise: float = 0.0
    seed: Seed = 0
    initial: Initial = "zero"
    final_steps: int | None = None
    stop: Event | None = None  # set from another thread, it ends the run at the next chunk

    @property
    def neurons(self) -> int:
        """N."""
        return self.weights.shape[0]

    @property
    def presentations(self) -> int:
        """How many inputs there are."""
        return self.inputs.presentations

    @cached_property
    def neuron_noise(self) -> NeuronNoise | None:
        """The generator of per-neuron noise, if there is any."""
        neurons, dimension = self.weights.shape
        return NeuronNoise(self.seed, neurons, dimension, self.noise) if self.noise else None

    def start(self) -> State:
        """Rates at zero, as published, or at rest (r = b); no momentum."""
        rest = self.response.bias if self.initial == "rest" else 0.0
        return State(
            self.weights.copy(),
            np.zeros(self.weights.shape),
            np.full(self.neurons, rest),
            0.0,
        )

    def check_stop(self, presentation: int) -> None:
        """End the run if another thread asked for it."""
        if self.stop is not None and self.stop.is_set():
            raise Stopped(f"stopped before presentation {presentation}")

    def chunks(self, start: int, stop: int) -> Iterator[Chunk]:
        """Presentations start, ..., stop - 1; a cut-short last one comes by itself."""
        cut = self.presentations - 1 if self.final_steps is not None else self.presentations
        for low, high, steps in (
            (start, min(stop, cut), self.response.steps),
            (max(start, cut), stop, self.final_steps or 0),
        ):
            if low >= high:
                continue
            for first, x in self.inputs.read(low, high):
                self.check_stop(first)
                etas = self.plasticity.step_rates(self.response, first, len(x), steps)
                yield Chunk(first, x, etas, self.neuron_noise)

    def empty_trace(self, steps: int, presentation: int) -> Trace:
        """Room for the rates of one presentation."""
        start = presentation * self.response.steps
        time = np.arange(start + 1, start + steps + 1).astype(np.float64) * self.response.dt
        return Trace(time, np.full((steps, self.neurons), np.nan), np.full(steps, np.nan))


class Recorder:
    """Keeps the mean and the variance of the weights after every so many presentations."""

    def __init__(self, every: int | None) -> None:
        self.every = every
        self.presentations: list[int] = []
        self._means: list[Array] = []
        self._variances: list[Array] = []

    def due(self, presentations: int) -> bool:
        """Whether the state after this many presentations is to be recorded."""
        return self.every is not None and presentations % self.every == 0

    def next_due(self, presentations: int) -> int:
        """The first point after `presentations` that is due (far away if none is)."""
        if self.every is None:
            return sys.maxsize
        return (presentations // self.every + 1) * self.every

    def add(self, presentations: Sequence[int], means: Array, variances: Array) -> None:
        """Keep the mean and variance over neurons at these points: (count, D) each."""
        self.presentations.extend(presentations)
        self._means.append(means)
        self._variances.append(variances)

    def add_state(self, state: State) -> None:
        """Keep where a population stands now, if that is due."""
        if self.due(state.presentations):
            mean, variance = state.weights.mean(0), state.weights.var(0)
            self.add([state.presentations], mean[None], variance[None])

    def stacked(self, dimension: int) -> tuple[Array, Array]:
        """All means and variances, (R, D) each."""
        empty = np.empty((0, dimension))
        return np.concatenate([empty, *self._means]), np.concatenate([empty, *self._variances])


@runtime_checkable
class Solver(Protocol):
    """One way to integrate a problem; a file each beside this one."""

    @property
    def name(self) -> str:
        """What the solver is called on the command line."""
        ...

    def check(self, problem: Problem) -> None:
        """Refuse what this solver cannot do, naming one that can."""
        ...

    def run(self, problem: Problem, state: State, stop: int, recorder: Recorder) -> None:
        """Advance `state` in place to `stop` presentations, recording on the way."""
        ...

    def trace(self, problem: Problem, state: State) -> Trace:
        """Advance `state` in place by one presentation; its rates at every step."""
        ...
