"""`simulate`: one population through one sleep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from numbers import Integral
from threading import Event
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurosim.dynamics import statistics
from neurosim.dynamics.arrays import Array, check_array
from neurosim.dynamics.blas import single_threaded
from neurosim.dynamics.brian import Brian2
from neurosim.dynamics.circuit import Plasticity, RateCircuit, Response
from neurosim.dynamics.collapsed import Collapsed
from neurosim.dynamics.continuous import Continuous
from neurosim.dynamics.draws import Seed, check_seed
from neurosim.dynamics.euler import Euler
from neurosim.dynamics.inputs import Given, InputStream
from neurosim.dynamics.problem import Initial, Problem, Recorder, Solver
from neurosim.dynamics.stability import check_stability
from neurosim.errors import (
    Diverged,
    InvalidArgument,
    NeurosimError,
    require,
    require_choice,
    require_count,
    require_instance,
    require_number,
)

SOLVERS: dict[str, type] = {
    solver.name: solver for solver in (Collapsed, Euler, Continuous, Brian2)
}


class Rates(NamedTuple):
    """Rates at the end of every step of the chosen presentations."""

    presentations: NDArray[np.int64]  # (P,) numbers from 0
    time: Array  # (P, steps) ms from the start of the simulation
    r: Array  # (P, steps, N)
    r_inh: Array  # (P, steps)


@dataclass(frozen=True)
class Trajectory:
    """What the weights did: their final values, and statistics at recorded presentations.

    Where nothing is recorded (`record_every=None`), statistics and `inverse_snr` are empty. The
    weights at the start are `problem.weights`.
    """

    weights: Array  # (N, D) final
    presentations: NDArray[np.int64]  # (R,) how many inputs had been shown; 0 is the start
    mean: Array  # (R, D) over neurons
    variance: Array  # (R, D) over neurons
    snapshot_presentations: NDArray[np.int64]  # (S,) how many inputs had been shown
    snapshots: Array  # (S, N, D) all weights then
    problem: Problem = field(repr=False)
    solver: Solver = field(repr=False)

    @property
    def inverse_snr(self) -> Array:
        """mean_j(var_j / mean_j^2), as the published figures plot it: (R,)."""
        return statistics.inverse_snr(self.mean, self.variance)

    @property
    def snr(self) -> Array:
        """mean_j(mean_j^2 / var_j), Eq. 6: (R,)."""
        return statistics.snr(self.mean, self.variance)

    @property
    def alignment(self) -> Array:
        """Cosine of the mean weight with its start: (R,)."""
        return statistics.alignment(self.mean, self.problem.weights.mean(0))

    @property
    def times(self) -> Array:
        """The end of each recorded presentation: (R,) ms, or inputs for an `InstantResponse`."""
        return self._times(self.presentations)

    def _times(self, presentations: NDArray[np.int64]) -> Array:
        response, cut = self.problem.response, self.problem.final_steps
        steps = presentations * response.steps
        if cut is not None:  # the last input was shown for less
            steps[presentations == self.problem.presentations] += cut - response.steps
        return (steps * float(response.dt)).astype(np.float64)

    def to_xarray(self) -> Any:
        """Everything as an `xarray.Dataset` with named axes; needs the package xarray."""
        try:
            import xarray
        except ImportError as error:
            raise NeurosimError(
                f"to_xarray needs the package xarray, which cannot be imported ({error}); "
                'run "pip install xarray"'
            ) from error
        recorded, kept = "presentation", "snapshot"
        variables = {
            "mean": ((recorded, "component"), self.mean),
            "variance": ((recorded, "component"), self.variance),
            "inverse_snr": (recorded, self.inverse_snr),
            "snr": (recorded, self.snr),
            "alignment": (recorded, self.alignment),
            "snapshots": ((kept, "neuron", "component"), self.snapshots),
            "initial_weights": (("neuron", "component"), self.problem.weights),
            "weights": (("neuron", "component"), self.weights),
        }
        coordinates = {
            recorded: self.presentations,
            "time": (recorded, self.times),
            kept: self.snapshot_presentations,
            "snapshot_time": (kept, self._times(self.snapshot_presentations)),
        }
        return xarray.Dataset(variables, coordinates)

    def rates(self, presentations: Sequence[int]) -> Rates:
        """r_i(t) and r_inh(t) at full time resolution, found again by replaying the run.

        `presentations` are numbers from 0, in increasing order. One that was cut short fills the
        rest of its row with NaN.
        """
        last = self.problem.presentations - 1
        chosen = _check_numbers("presentations", presentations, last)
        require(chosen, "presentations", list(presentations), "at least one number")
        state = self.problem.start()
        traces = []
        with single_threaded():
            for k in chosen:
                self.solver.run(self.problem, state, k, Recorder(None))
                traces.append(self.solver.trace(self.problem, state))
        steps = max(len(trace.time) for trace in traces)

        def stack(parts: list[Array]) -> Array:
            out = np.full((len(parts), steps, *parts[0].shape[1:]), np.nan)
            for row, part in zip(out, parts, strict=True):
                row[: len(part)] = part
            return out

        return Rates(np.array(chosen), *(stack(list(p)) for p in zip(*traces, strict=True)))


def _check_numbers(name: str, numbers: Sequence[int], last: int) -> list[int]:
    """Numbers of presentations: whole ones from 0 to `last`, each above the one before."""
    allowed = f"whole numbers from 0 to {last}, in increasing order"
    require(isinstance(numbers, Sequence | np.ndarray | range), name, numbers, allowed)
    shown = list(numbers)
    whole = all(isinstance(k, Integral) and not isinstance(k, bool) for k in shown)
    require(whole and all(a < b for a, b in pairwise(shown)), name, shown, allowed)
    require(not shown or 0 <= shown[0] <= shown[-1] <= last, name, shown, allowed)
    return [int(k) for k in shown]


def as_solver(solver: str | Solver) -> Solver:
    """A solver by its name, or as it is."""
    if not isinstance(solver, str):
        valid = isinstance(solver, Solver) and not isinstance(solver, type)
        require(valid, "solver", solver, f"one of {', '.join(SOLVERS)}, or a solver object")
        return solver
    require_choice("solver", solver, SOLVERS)
    return SOLVERS[solver]()


def prepare(
    weights: ArrayLike,
    inputs: ArrayLike | InputStream,
    *,
    response: Response,
    plasticity: Plasticity,
    solver: str | Solver = "collapsed",
    noise: float = 0.0,
    seed: Seed | None = None,
    initial: Initial = "zero",
    final_steps: int | None = None,
    check: bool = True,
    stop: Event | None = None,
) -> tuple[Problem, Solver]:
    """Check the arguments of `simulate` and put them together, without running anything."""
    w_init = check_array("weights", weights, 2)
    require(len(w_init) >= 2, "weights.shape[0] (neurons)", len(w_init), ">= 2")
    stream = inputs if isinstance(inputs, InputStream) else Given.of(inputs)
    if stream.dimension != w_init.shape[1]:
        raise InvalidArgument(
            f"inputs must have as many components as weights, {w_init.shape[1]}, "
            f"got {stream.dimension}"
        )
    require_instance("response", response, Response)
    require_instance("plasticity", plasticity, Plasticity)
    require_number("noise", noise)
    require(np.isfinite(noise) and noise >= 0, "noise", noise, "finite and >= 0")
    if noise and seed is None:
        raise InvalidArgument(f"seed must be given when there is noise, got noise = {noise!r}")
    check_seed("seed", 0 if seed is None else seed)
    require_choice("initial", initial, get_args(Initial))
    require_count("final_steps", final_steps, optional=True)
    if final_steps is not None:
        require(
            isinstance(response, RateCircuit) and final_steps <= response.steps,
            "final_steps",
            final_steps,
            f"from 1 to response.steps = {response.steps}, and the response a RateCircuit",
        )
        require(stream.presentations > 0, "inputs.presentations", 0, "> 0 with final_steps")
    problem = Problem(
        w_init,
        stream,
        response,
        plasticity,
        float(noise),
        0 if seed is None else seed,
        initial,
        final_steps,
        stop,
    )
    chosen = as_solver(solver)
    chosen.check(problem)
    if check and not isinstance(chosen, Continuous):  # whose steps have bounds of their own
        check_stability(
            response,
            plasticity,
            energy=stream.sample_energies(),
            dimension=stream.dimension,
            presentations=stream.presentations,
            noise=noise,
        )
    return problem, chosen


def simulate(
    weights: ArrayLike,
    inputs: ArrayLike | InputStream,
    *,
    response: Response,
    plasticity: Plasticity,
    solver: str | Solver = "collapsed",
    noise: float = 0.0,
    seed: Seed | None = None,
    initial: Initial = "zero",
    record_every: int | None = 1,
    record_start: bool = False,
    snapshots: Sequence[int] = (),
    final_steps: int | None = None,
    check: bool = True,
    stop: Event | None = None,
) -> Trajectory:
    """Show `inputs` to a population and let its weights follow the plasticity rule.

    Args:
        weights: (N, D), one row per neuron; also what gamma pulls toward.
        inputs: (T, D), or a seeded stream such as `Gaussian`.
        response: `RateCircuit` (Eq. 8) or `InstantResponse` (Eqs. 4 and 21).
        plasticity: learning rate, gamma and momentum.
        solver: "collapsed" (exact, fast), "euler" (step by step), "continuous" (the limit of
            small dt, without momentum), "brian2", or a configured solver object.
        noise: standard deviation of Gaussian noise on each neuron's input (App. A.3), drawn
            anew at every presentation.
        seed: of the noise; needed only if there is noise.
        initial: rates start at "zero", as published, or at "rest" (r = b).
        record_every: record after every so many presentations; None records nothing, and
            memory then does not depend on the number of presentations.
        record_start: also record the weights before the first presentation.
        snapshots: numbers of presentations after which to keep all the weights, in increasing
            order; 0 keeps the start.
        final_steps: steps for which the last input is shown, if fewer than the others'.
        check: refuse steps, inhibition and rates beyond the stability bounds.
        stop: set from another thread, this event ends the run with the error `Stopped`.
    """
    require_count("record_every", record_every, optional=True)
    records = record_every is not None or not record_start
    require(records, "record_start", record_start, "False where record_every is None")
    problem, chosen = prepare(
        weights,
        inputs,
        response=response,
        plasticity=plasticity,
        solver=solver,
        noise=noise,
        seed=seed,
        initial=initial,
        final_steps=final_steps,
        check=check,
        stop=stop,
    )
    w_init, stream = problem.weights, problem.inputs
    wanted = _check_numbers("snapshots", snapshots, stream.presentations)
    state, recorder = problem.start(), Recorder(record_every)
    if record_start:
        recorder.add_state(state)
    kept = []
    with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
        for goal in [*wanted, stream.presentations]:
            if goal > state.presentations:
                chosen.run(problem, state, goal, recorder)
            kept.append(state.weights.copy())
    mean, variance = recorder.stacked(stream.dimension)
    points = np.array(recorder.presentations, dtype=np.int64)
    if not np.isfinite(state.weights).all():
        bad = points[~np.isfinite(mean).all(1) | ~np.isfinite(variance).all(1)]
        when = f"by presentation {bad[0]}" if len(bad) else "during the run"
        raise Diverged(
            f"weights became NaN or Inf {when} of {stream.presentations}: "
            "lower plasticity.rate or response.dt, or see with check=True which bound breaks"
        )
    largest = np.abs(kept[-1]).max()
    if check and largest > 1e6 * np.abs(w_init).max():
        raise Diverged(
            f"weights grew from {np.abs(w_init).max():.3g} to {largest:.3g}: lower "
            "plasticity.rate or response.dt (check=False returns them all the same)"
        )
    problem = replace(problem, stop=None)  # whoever looks at the result may replay it
    return Trajectory(
        kept[-1], points, mean, variance, np.array(wanted, dtype=np.int64),
        np.array(kept[:-1]).reshape(-1, *w_init.shape), problem, chosen,
    )  # fmt: skip
