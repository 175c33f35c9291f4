"""Step by step: the reference that every other solver answers to.

The update order is that of the published simulation: the increments of r and r_inh both use
the old r and r_inh, and plasticity uses the new r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neurosim.dynamics.circuit import RateCircuit
from neurosim.dynamics.compiled import compiled

if TYPE_CHECKING:
    from neurosim.dynamics.problem import Problem, Recorder, State, Trace

Array = NDArray[np.float64]


@compiled
def _learn(w, m, w_init, rho, x, eta, momentum, gamma):
    """m <- momentum m + eta [-rho x - gamma (w - w_init)];  w <- w + m."""
    neurons, dimension = w.shape
    for i in range(neurons):
        x_i = x[i % x.shape[0]]  # one row for all neurons, or one each
        for j in range(dimension):
            pull = rho[i] * x_i[j] + gamma * (w[i, j] - w_init[i, j])
            m[i, j] = momentum * m[i, j] - eta * pull
            w[i, j] += m[i, j]


@compiled
def _drive(w, x, z):
    """z_i = w_i . x_i (Eq. 3)."""
    for i in range(w.shape[0]):
        x_i = x[i % x.shape[0]]
        z[i] = 0.0
        for j in range(w.shape[1]):
            z[i] += w[i, j] * x_i[j]


@compiled
def _show_circuit(
    w, m, w_init, r, r_inh, x, etas, momentum, gamma, leak, alpha, bias, rectified, r_trace, i_trace
):
    """Show x for len(etas) steps (Eq. 8); w, m and r change in place, r_inh is returned."""
    neurons = w.shape[0]
    z = np.empty(neurons)
    rho = np.empty(neurons)
    for step in range(len(etas)):
        _drive(w, x, z)
        excitation = r.mean() - bias
        if rectified:
            excitation = max(excitation, 0.0)
        for i in range(neurons):
            target = z[i] - alpha * r_inh + bias
            if rectified:
                target = max(target, 0.0)
            r[i] += leak * (-r[i] + target)
            rho[i] = r[i] - bias
        r_inh += leak * (-r_inh + excitation)
        _learn(w, m, w_init, rho, x, etas[step], momentum, gamma)
        if step < len(r_trace):
            r_trace[step] = r
            i_trace[step] = r_inh
    return r_inh


@compiled
def _show_instant(w, m, w_init, r, x, eta, momentum, gamma, subtracted):
    """One update of Eq. 21 (Eq. 4 when the whole mean is subtracted); w, m, r in place."""
    z = np.empty(w.shape[0])
    _drive(w, x, z)
    r[:] = z - subtracted * z.mean()
    _learn(w, m, w_init, r, x, eta, momentum, gamma)


def show(problem: Problem, state: State, x: Array, etas: Array, trace: Trace | None) -> None:
    """Present one input, (1, D) or one per neuron (N, D), to `state`, in place."""
    response, plasticity = problem.response, problem.plasticity
    momentum = plasticity.step_momentum(response)
    if isinstance(response, RateCircuit):
        state.r_inh = _show_circuit(
            state.weights,
            state.momentum,
            problem.weights,
            state.r,
            state.r_inh,
            x,
            etas,
            momentum,
            plasticity.gamma,
            response.leak,
            response.alpha,
            response.bias,
            response.rectified,
            trace.r if trace else np.empty((0, len(state.r))),
            trace.r_inh if trace else np.empty(0),
        )
        return
    _show_instant(
        state.weights,
        state.momentum,
        problem.weights,
        state.r,
        x,
        etas[0],
        momentum,
        plasticity.gamma,
        response.subtracted,
    )
    if trace:
        trace.r[0], trace.r_inh[0] = state.r, 0.0


@dataclass(frozen=True)
class Euler:
    """Forward Euler, one step after the other; does everything, slowly."""

    name = "euler"

    def check(self, problem: Problem) -> None:
        """Every problem is within reach."""

    def run(self, problem: Problem, state: State, stop: int, recorder: Recorder) -> None:
        """Advance `state` to `stop` presentations, recording on the way."""
        for chunk in problem.chunks(state.presentations, stop):
            for offset in range(len(chunk.inputs)):
                x = chunk.noisy(offset, problem.neurons, problem.noise)
                show(problem, state, x, chunk.etas[:, offset].copy(), None)
                state.presentations += 1
                if recorder.due(state.presentations):
                    recorder.add(
                        [state.presentations],
                        state.weights.mean(0)[None],
                        state.weights.var(0)[None],
                    )

    def trace(self, problem: Problem, state: State) -> Trace:
        """Advance `state` by one presentation and return its rates at every step."""
        (chunk,) = problem.chunks(state.presentations, state.presentations + 1)
        trace = problem.empty_trace(len(chunk.etas), state.presentations)
        x = chunk.noisy(0, problem.neurons, problem.noise)
        show(problem, state, x, chunk.etas[:, 0].copy(), trace)
        state.presentations += 1
        return trace
