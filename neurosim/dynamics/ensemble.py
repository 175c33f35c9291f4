"""Many populations at once, over all cores.

Each population draws its weights, inputs and noise from generators keyed by the seed, its
trial, N and D. So its result depends neither on the number of threads nor on what else is in
the ensemble, and settings that differ only in gamma, alpha or the like are compared on the
same draws.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from threading import Event
from typing import Any

import numpy as np

from neurosim.dynamics.blas import single_threaded
from neurosim.dynamics.circuit import Plasticity, Response
from neurosim.dynamics.draws import check_seed, child_generator
from neurosim.dynamics.inputs import InputStream
from neurosim.dynamics.problem import Initial, Solver
from neurosim.dynamics.simulate import Trajectory, as_solver, prepare, simulate
from neurosim.errors import require, require_count, require_instance, require_number


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
        require_instance("inputs", self.inputs, InputStream)
        require_count("neurons", self.neurons, least=2)
        require_count("trial", self.trial, least=0)
        require_number("weight_mean", self.weight_mean)
        require_number("weight_std", self.weight_std)
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
    require_instance("setting", setting, Setting)
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
    """One population, in this thread; what `simulate_ensemble` does with each.

    Unlike `simulate`, it records nothing (`inverse_snr` is empty) unless `record_every` says so.
    """
    require_instance("setting", setting, Setting)
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
) -> Generator[tuple[int, Trajectory]]:
    """Yield (index of the setting, its trajectory) as populations finish.

    `threads` defaults to all cores (one with Brian2, whose state is global). At most two
    populations per thread are held at a time. Unlike `simulate`, it records nothing
    (`inverse_snr` is empty) unless `record_every` says so: an ensemble's records fill memory.
    """
    listed = isinstance(settings, Sequence) and not isinstance(settings, str)
    require(listed, "settings", settings, "a list of Settings")
    for setting in settings:
        require_instance("settings[...]", setting, Setting)
    check_seed("seed", seed)
    require_count("threads", threads, optional=True)
    workers = threads or os.cpu_count() or 1
    if any(as_solver(setting.solver).name == "brian2" for setting in settings):
        workers = 1
    stop = Event()

    def run(setting: Setting) -> Trajectory:
        with single_threaded():  # also while it is checked; not while the caller has the result
            return simulate_setting(
                setting,
                seed=seed,
                record_every=record_every,
                snapshots=snapshots,
                check=check,
                stop=stop,
            )

    return _as_they_finish(run, settings, workers, stop)


def _as_they_finish(
    run: Callable[[Setting], Trajectory], settings: Sequence[Setting], workers: int, stop: Event
) -> Generator[tuple[int, Trajectory]]:
    """Run every setting on one of the workers; a caller who leaves early stops what is running."""
    with ThreadPoolExecutor(workers) as pool:
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
