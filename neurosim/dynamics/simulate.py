"""`simulate`: one population through one sleep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurosim.dynamics import statistics
from neurosim.dynamics.blas import single_threaded
from neurosim.dynamics.brian import Brian2
from neurosim.dynamics.circuit import Plasticity, RateCircuit, Response
from neurosim.dynamics.collapsed import Collapsed
from neurosim.dynamics.continuous import Continuous
from neurosim.dynamics.euler import Euler
from neurosim.dynamics.inputs import Given, InputStream, Seed, check_array, check_seed
from neurosim.dynamics.problem import Initial, Problem, Recorder, Solver
from neurosim.dynamics.stability import check_stability
from neurosim.errors import Diverged, InvalidArgument, require, require_choice

Array = NDArray[np.float64]

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
    """What the weights did: their final values, and statistics at recorded presentations."""

    weights: Array  # (N, D) final
    presentations: NDArray[np.int64]  # (R,) how many inputs had been shown
    mean: Array  # (R, D) over neurons
    variance: Array  # (R, D) over neurons
    snapshots: Array  # (S, N, D) all weights, at the presentations asked for
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

    def rates(self, presentations: Sequence[int]) -> Rates:
        """r_i(t) and r_inh(t) at full time resolution, found again by replaying the run.

        A presentation that was cut short fills the rest of its row with NaN.
        """
        total = self.problem.presentations
        chosen = sorted({int(k) for k in presentations})
        if not chosen or chosen[0] < 0 or chosen[-1] >= total:
            raise InvalidArgument(
                f"presentations must be numbers from 0 to {total - 1}, got {list(presentations)!r}"
            )
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


def as_solver(solver: str | Solver) -> Solver:
    """A solver by its name, or as it is."""
    if not isinstance(solver, str):
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
    require(np.isfinite(noise) and noise >= 0, "noise", noise, "finite and >= 0")
    if noise and seed is None:
        raise InvalidArgument(f"seed must be given when there is noise, got noise = {noise!r}")
    check_seed("seed", 0 if seed is None else seed)
    require_choice("initial", initial, get_args(Initial))
    if final_steps is not None:
        require(
            isinstance(response, RateCircuit) and 1 <= final_steps <= response.steps,
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
        snapshots: numbers of presentations after which to keep all the weights.
        final_steps: steps for which the last input is shown, if fewer than the others'.
        check: refuse steps, inhibition and rates beyond the stability bounds.
        stop: set from another thread, this event ends the run with the error `Stopped`.
    """
    require(record_every is None or record_every >= 1, "record_every", record_every, ">= 1 or None")
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
    wanted = sorted({int(k) for k in snapshots})
    if wanted and not 0 <= wanted[0] <= wanted[-1] <= stream.presentations:
        raise InvalidArgument(
            f"snapshots must be numbers from 0 to {stream.presentations}, got {list(snapshots)!r}"
        )
    state, recorder = problem.start(), Recorder(record_every)
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
        kept[-1], points, mean, variance, np.array(kept[:-1]).reshape(-1, *w_init.shape),
        problem, chosen,
    )  # fmt: skip
