"""Many populations at once, over all cores.

Each population draws its weights, inputs and noise from generators keyed by the seed, its
trial, N and D. So its result depends neither on the number of threads nor on what else is in
the ensemble, and settings that differ only in gamma, alpha or the like are compared on the
same draws.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import numpy as np

from neurosim.dynamics.blas import single_threaded
from neurosim.dynamics.circuit import Plasticity, Response
from neurosim.dynamics.inputs import InputStream, check_seed, child_generator
from neurosim.dynamics.problem import Initial, Solver
from neurosim.dynamics.simulate import Trajectory, as_solver, prepare, simulate
from neurosim.errors import require


@dataclass(frozen=True)
class Setting:
    """One population: the arguments of `simulate`, with draws in place of arrays."""

    inputs: InputStream  # its seed is replaced
    response: Response
    plasticity: Plasticity
    neurons: int = 100
    noise: float = 0.0
    solver: str | Solver = "collapsed"
    initial: Initial = "zero"
    weight_mean: float = 1.0
    weight_std: float = 1.0
    trial: int = 0

    def __post_init__(self) -> None:
        require(self.neurons >= 2, "neurons", self.neurons, ">= 2")
        require(self.trial >= 0, "trial", self.trial, ">= 0")
        require(self.weight_std >= 0, "weight_std", self.weight_std, ">= 0")


def _arguments(setting: Setting, seed: int) -> dict[str, Any]:
    """The arguments of `simulate` for one population, drawn from generators of its own."""
    dimension = setting.inputs.dimension
    key = (setting.trial, setting.neurons, dimension)
    shape = (setting.neurons, dimension)
    return {
        "weights": child_generator(seed, *key, 0).normal(
            setting.weight_mean, setting.weight_std, shape
        ),
        "inputs": replace(setting.inputs, seed=np.random.SeedSequence(seed, spawn_key=(*key, 1))),
        "response": setting.response,
        "plasticity": setting.plasticity,
        "solver": setting.solver,
        "noise": setting.noise,
        "seed": np.random.SeedSequence(seed, spawn_key=(*key, 2)),
        "initial": setting.initial,
    }


def check_setting(setting: Setting) -> None:
    """Refuse what `simulate` would refuse, without running anything."""
    prepare(**_arguments(setting, seed=0))


def simulate_setting(
    setting: Setting,
    *,
    seed: int = 0,
    record_every: int | None = None,
    snapshots: Sequence[int] = (),
    check: bool = True,
    stop: Event | None = None,
) -> Trajectory:
    """One population, in this thread; what `simulate_ensemble` does with each."""
    return simulate(
        **_arguments(setting, seed),
        record_every=record_every,
        snapshots=snapshots,
        check=check,
        stop=stop,
    )


def simulate_ensemble(
    settings: Sequence[Setting],
    *,
    seed: int = 0,
    record_every: int | None = None,
    snapshots: Sequence[int] = (),
    threads: int | None = None,
    check: bool = True,
) -> Iterator[tuple[int, Trajectory]]:
    """Yield (index of the setting, its trajectory) as populations finish.

    `threads` defaults to all cores (one with Brian2, whose state is global). At most two
    populations per thread are held at a time.
    """

    def run(setting: Setting) -> Trajectory:
        return simulate_setting(
            setting,
            seed=seed,
            record_every=record_every,
            snapshots=snapshots,
            check=check,
            stop=stop,
        )

    stop = Event()
    check_seed("seed", seed)
    require(threads is None or threads >= 1, "threads", threads, ">= 1 or None")
    workers = threads or os.cpu_count() or 1
    if any(as_solver(setting.solver).name == "brian2" for setting in settings):
        workers = 1
    with single_threaded(), ThreadPoolExecutor(workers) as pool:
        running: dict[Future[Trajectory], int] = {}
        waiting = iter(enumerate(settings))
        try:
            while True:
                while len(running) < 2 * workers and (item := next(waiting, None)):
                    index, setting = item
                    future = pool.submit(run, setting)
                    running[future] = index
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            stop.set()
            for future in running:
                future.cancel()
