"""The limit of small dt: rates and weights as one ordinary differential equation.

    tau dr_i/dt   = -r_i + w_i.x - alpha r_inh + b                              (8a)
    tau dr_inh/dt = -r_inh + mean_j(r_j) - b                                    (8b)
    dw_i/dt       = eta(t) [-(r_i - b) x - gamma (w_i - w_i_init)]

x jumps from presentation to presentation, and eta may jump at its `breaks`; integration
restarts there, so that every method keeps its order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.integrate import solve_ivp

from neurosim.dynamics.arrays import Array
from neurosim.dynamics.circuit import RateCircuit
from neurosim.dynamics.problem import Problem, Recorder, State, Trace
from neurosim.errors import (
    Diverged,
    InvalidArgument,
    StabilityError,
    require,
    require_choice,
    require_number,
)

Method = Literal["RK45", "DOP853", "LSODA", "RK4"]
Slope = Callable[[float, Array], Array]


def rk4_step(slope: Slope, t: float, y: Array, h: float) -> Array:
    """One step of the classical Runge-Kutta method of order 4."""
    k1 = slope(t, y)
    k2 = slope(t + h / 2, y + h / 2 * k1)
    k3 = slope(t + h / 2, y + h / 2 * k2)
    k4 = slope(t + h, y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def pack(state: State) -> Array:
    """(r, r_inh, w) as one vector of N + 1 + N D numbers."""
    return np.concatenate([state.r, [state.r_inh], state.weights.ravel()])


def circuit_slope(problem: Problem, x: Array, eta: Callable[[float], float]) -> Slope:
    """d(r, r_inh, w)/dt while x, (1, D) or one row per neuron (N, D), is shown."""
    circuit, gamma, w_init = problem.response, problem.plasticity.gamma, problem.weights
    assert isinstance(circuit, RateCircuit)  # `check` has seen to it
    n, shape = problem.neurons, problem.weights.shape

    def slope(t: float, y: Array) -> Array:
        r, r_inh, w = y[:n], y[n], y[n + 1 :].reshape(shape)
        z = np.einsum("nd,nd->n", w, np.broadcast_to(x, shape))
        rho = r - circuit.bias
        dw = -eta(t) * (rho[:, None] * x + gamma * (w - w_init))
        return np.concatenate(
            [
                (-rho + z - circuit.alpha * r_inh) / circuit.tau,
                [(-r_inh + rho.mean()) / circuit.tau],
                dw.ravel(),
            ]
        )

    return slope


@dataclass(frozen=True)
class Continuous:
    """scipy's integrators or fixed-step RK4.

    RK45, DOP853 and LSODA choose their steps by tolerances (default: `rtol` 1e-9, `atol` 1e-12),
    RK4 takes steps of `dt` ms (default: the circuit's).
    """

    method: Method = "DOP853"
    rtol: float | None = None
    atol: float | None = None
    dt: float | None = None

    name = "continuous"

    def __post_init__(self) -> None:
        require_choice("solver.method", self.method, get_args(Method))
        for name in ("rtol", "atol", "dt"):
            value = getattr(self, name)
            if value is None:
                continue
            require_number(f"solver.{name}", value)
            require(0 < value < math.inf, f"solver.{name}", value, "finite and > 0, or None")
            meant = (name == "dt") == (self.method == "RK4")
            require(meant, f"solver.{name}", value, f"None, which {self.method} does not use")

    def check(self, problem: Problem) -> None:
        """Rates need dynamics, and neither momentum nor rectification has this limit."""
        for wrong, what in (
            (not isinstance(problem.response, RateCircuit), "an InstantResponse"),
            (problem.response.rectified, "response.rectified = True"),
            (problem.plasticity.momentum != 0, f"momentum = {problem.plasticity.momentum:g}"),
        ):
            if wrong:
                stepwise = problem.response.rectified or problem.noise
                able = '"euler"' if stepwise else '"collapsed" or "euler"'
                raise InvalidArgument(
                    'solver "continuous" needs a linear RateCircuit and momentum = 0, '
                    f"got {what}; use solver {able}"
                )

        circuit = problem.response
        if self.method == "RK4" and isinstance(circuit, RateCircuit):
            # Stable for |lambda| dt < 2.6 in this sector; lambda = (1 +- i sqrt(alpha)) / tau
            largest = 2.6 * circuit.tau / math.sqrt(1 + circuit.alpha)
            if (self.dt or circuit.dt) >= largest:
                raise StabilityError(
                    f"solver.dt must be < 2.6 tau / sqrt(1 + alpha) = {largest:.4g} ms for RK4 at "
                    f"tau = {circuit.tau:g} and alpha = {circuit.alpha:g}, "
                    f"got {self.dt or circuit.dt:g}"
                )

    def run(self, problem: Problem, state: State, stop: int, recorder: Recorder) -> None:
        """Advance `state` to `stop` presentations, recording on the way."""
        for chunk in problem.chunks(state.presentations, stop):
            for offset in range(len(chunk.inputs)):
                problem.check_stop(state.presentations)
                (x,) = chunk.part(offset, offset + 1).inputs
                self._show(problem, state, x, len(chunk.etas), None)
                recorder.add_state(state)

    def trace(self, problem: Problem, state: State) -> Trace:
        """Advance `state` by one presentation and return its rates every `response.dt`."""
        (chunk,) = problem.chunks(state.presentations, state.presentations + 1)
        trace = problem.empty_trace(len(chunk.etas), state.presentations)
        (x,) = chunk.part(0, 1).inputs
        self._show(problem, state, x, len(chunk.etas), trace)
        return trace

    def _show(
        self, problem: Problem, state: State, x: Array, steps: int, trace: Trace | None
    ) -> None:
        """Integrate one presentation, from one break of the learning rate to the next."""
        response, rate = problem.response, problem.plasticity.rate
        start = state.presentations * response.steps * response.dt
        stop = start + steps * response.dt
        breaks = [t for t in getattr(rate, "breaks", ()) if start < t < stop]
        times = trace.time if trace else np.empty(0)
        y = pack(state)
        for low, high in zip([start, *breaks], [*breaks, stop], strict=True):
            inside = np.nextafter(low, np.inf), np.nextafter(high, -np.inf)

            def eta(t: float, inside: tuple[float, float] = inside) -> float:
                return float(problem.plasticity.at(np.clip([t], *inside))[0])

            within = (times > low + 1e-9) & (times <= high + 1e-9)
            grid = np.append(np.minimum(times[within], high), high)
            slope = circuit_slope(problem, x, eta)
            values = self._integrate(slope, low, high, y, grid, self.dt or response.dt)
            if trace:
                trace.r[within] = values[:-1, : problem.neurons]
                trace.r_inh[within] = values[:-1, problem.neurons]
            y = values[-1]
        n = problem.neurons
        state.r, state.r_inh = y[:n].copy(), float(y[n])
        state.weights = y[n + 1 :].reshape(problem.weights.shape).copy()
        state.presentations += 1

    def _integrate(
        self, slope: Slope, low: float, high: float, y: Array, grid: Array, dt: float
    ) -> Array:
        """The solution at every time of `grid`, the last of which is `high`."""
        if self.method != "RK4":
            solution = solve_ivp(
                slope,
                (low, high),
                y,
                self.method,
                np.unique(grid),
                rtol=1e-9 if self.rtol is None else self.rtol,
                atol=1e-12 if self.atol is None else self.atol,
            )
            if not solution.success or not np.isfinite(solution.y).all():
                raise Diverged(
                    f"{self.method} stopped between {low:g} and {high:g} ms at "
                    f"t = {solution.t[-1] if len(solution.t) else low:g} ms: {solution.message} "
                    "Lower plasticity.rate, or allow larger solver.rtol and solver.atol"
                )
            return solution.y.T[np.searchsorted(np.unique(grid), grid)]
        values, t = [], low
        for goal in grid:
            count = math.ceil((goal - t) / dt - 1e-9)
            h = (goal - t) / max(1, count)
            for step in range(count):
                y = rk4_step(slope, t + step * h, y, h)
            values.append(y)
            t = goal
        return np.array(values)
