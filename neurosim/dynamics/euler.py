"""Step by step: the reference that every other solver answers to.

The update order is that of the published simulation: the increments of r and r_inh both use
the old r and r_inh, and plasticity uses the new r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurosim.compiled import compiled
from neurosim.dynamics.circuit import RateCircuit

if TYPE_CHECKING:
    from neurosim.dynamics.problem import Part, Problem, Recorder, State, Trace


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
    w, m, w_init, r, r_inh, inputs, etas, momentum, gamma, leak, alpha, bias, rectified,
    r_trace, i_trace,
):  # fmt: skip
    """Show inputs, each for etas.shape[1] steps (Eq. 8); w, m, r in place, r_inh is returned."""
    neurons = w.shape[0]
    z = np.empty(neurons)
    rho = np.empty(neurons)
    for k in range(len(inputs)):
        x = inputs[k]
        for step in range(etas.shape[1]):
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
            _learn(w, m, w_init, rho, x, etas[k, step], momentum, gamma)
            if step < len(r_trace):
                r_trace[step] = r
                i_trace[step] = r_inh
    return r_inh


@compiled
def _show_instant(w, m, w_init, r, inputs, etas, momentum, gamma, subtracted):
    """One update of Eq. 21 per input (Eq. 4 if the whole mean is subtracted); in place."""
    z = np.empty(w.shape[0])
    for k in range(len(inputs)):
        _drive(w, inputs[k], z)
        r[:] = z - subtracted * z.mean()
        _learn(w, m, w_init, r, inputs[k], etas[k, 0], momentum, gamma)


def show(problem: Problem, state: State, part: Part, trace: Trace | None = None) -> None:
    """Present a few inputs to `state`, in place; `trace` takes the rates of the last one."""
    response, plasticity = problem.response, problem.plasticity
    momentum, gamma = plasticity.step_momentum(response), plasticity.gamma
    w, m, r = state.weights, state.momentum, state.r
    if isinstance(response, RateCircuit):
        c = response
        traces = (trace.r, trace.r_inh) if trace else (np.empty((0, len(r))), np.empty(0))
        state.r_inh = _show_circuit(
            w, m, problem.weights, r, state.r_inh, part.inputs, part.etas, momentum, gamma,
            c.leak, c.alpha, c.bias, c.rectified, *traces,
        )  # fmt: skip
    else:
        _show_instant(
            w, m, problem.weights, r, part.inputs, part.etas, momentum, gamma, response.subtracted
        )
        if trace:
            trace.r[0], trace.r_inh[0] = r, 0.0
    state.presentations = part.stop


@dataclass(frozen=True)
class Euler:
    """Forward Euler, one step after the other; does everything, slowly."""

    name = "euler"

    def check(self, problem: Problem) -> None:
        """Every problem is within reach."""

    def run(self, problem: Problem, state: State, stop: int, recorder: Recorder) -> None:
        """Advance `state` to `stop` presentations, recording on the way."""
        for chunk in problem.chunks(state.presentations, stop):
            for part in chunk.parts(recorder):
                show(problem, state, part)
                recorder.add_state(state)

    def trace(self, problem: Problem, state: State) -> Trace:
        """Advance `state` by one presentation and return its rates at every step."""
        (chunk,) = problem.chunks(state.presentations, state.presentations + 1)
        trace = problem.empty_trace(len(chunk.etas), state.presentations)
        show(problem, state, chunk.part(0, 1), trace)
        return trace
