"""Exact and fast: a presentation is one small matrix (see `maps`), not hundreds of steps.

Three things make it fast; none of them approximates:
- A presentation costs O(N D) instead of O(steps N D).
- Several presentations at once cost matrix products instead of vector ones: until the next
  recorded presentation, m and e are combinations of their values at the start of the block
  and of the block's inputs, so only the coefficients have to be followed.
- Deviations from the mean all obey the same linear map. When there are more neurons than
  inputs, D combinations of them (from a QR decomposition) stand for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neurosim.compiled import compiled
from neurosim.dynamics import euler
from neurosim.dynamics.arrays import Array
from neurosim.dynamics.circuit import Mode, RateCircuit
from neurosim.dynamics.maps import presentation_maps
from neurosim.dynamics.problem import Chunk, Problem, Recorder, State, Trace
from neurosim.errors import InvalidArgument

# Presentations per block, the fastest measured from D = 9 to 576: the matrix products gain with
# longer blocks, the coefficients cost in proportion to their length.
BLOCK = 16


class Rows(NamedTuple):
    """Weight vectors that pass through the same presentations in the same mode."""

    start: Array  # (R, D), w_init of each row
    momentum: Array  # (R, D), m
    change: Array  # (R, D), e = w - w_init
    rho: Array  # (R,), r - b
    r_inh: Array  # (R,)

    @classmethod
    def at_rest(cls, start: Array) -> Rows:
        """No momentum, no change, rates at rest."""
        start = np.ascontiguousarray(start)
        zeros = np.zeros(len(start))
        return cls(start, np.zeros(start.shape), np.zeros(start.shape), zeros, zeros.copy())

    def tiles(self) -> list[Rows]:
        """The same rows (views) in groups that fit the cache."""
        size = min(256, max(48, 2**15 // self.start.shape[1]))
        return [Rows(*(part[i : i + size] for part in self)) for i in range(0, len(self.rho), size)]


@compiled
def _show_block(rows_start, momentum, change, rho, r_inh, x, energy, along, across):
    """Pass all rows through the presentations of one block, (b, D)."""
    b, count = len(x), len(rho)
    overlap = np.dot(x, x.T)
    p = np.dot(x, momentum.T)  # (b, R): m.x of every presentation to come
    e = np.dot(x, change.T)
    c = np.dot(x, rows_start.T)
    total = np.eye(2)
    for s in range(b):
        k, a = along[s], across[s]
        inverse = 1.0 / energy[s] if energy[s] > 1e-290 else 0.0  # else 1 / energy overflows
        for i in range(count):
            rho_i, inh_i, p_i, e_i, c_i = rho[i], r_inh[i], p[s, i], e[s, i], c[s, i]
            rho[i] = (
                k[0, 0] * rho_i + k[0, 1] * inh_i + k[0, 2] * p_i + k[0, 3] * e_i + k[0, 4] * c_i
            )
            r_inh[i] = (
                k[1, 0] * rho_i + k[1, 1] * inh_i + k[1, 2] * p_i + k[1, 3] * e_i + k[1, 4] * c_i
            )
            # What x adds to m and e beyond the decay that they have in every direction;
            # from here on p[s] and e[s] hold these coefficients of x.
            p[s, i] = inverse * (
                k[2, 0] * rho_i
                + k[2, 1] * inh_i
                + (k[2, 2] - a[0, 0]) * p_i
                + (k[2, 3] - a[0, 1]) * e_i
                + k[2, 4] * c_i
            )
            e[s, i] = inverse * (
                k[3, 0] * rho_i
                + k[3, 1] * inh_i
                + (k[3, 2] - a[1, 0]) * p_i
                + (k[3, 3] - a[1, 1]) * e_i
                + k[3, 4] * c_i
            )
        for u in range(b):
            if u == s:
                continue
            # Coefficients of earlier inputs (u < s) decay; products with later ones (u > s)
            # decay and gain what x has just added.
            g = overlap[s, u] if u > s else 0.0
            for i in range(count):
                p_i, e_i = p[u, i], e[u, i]
                p[u, i] = a[0, 0] * p_i + a[0, 1] * e_i + g * p[s, i]
                e[u, i] = a[1, 0] * p_i + a[1, 1] * e_i + g * e[s, i]
        total = np.dot(a, total)
    added_m, added_e = np.dot(p.T, x), np.dot(e.T, x)
    for i in range(count):
        for j in range(x.shape[1]):
            m_ij, e_ij = momentum[i, j], change[i, j]
            momentum[i, j] = total[0, 0] * m_ij + total[0, 1] * e_ij + added_m[i, j]
            change[i, j] = total[1, 0] * m_ij + total[1, 1] * e_ij + added_e[i, j]


@compiled
def _show(
    start, momentum, change, rho, r_inh, inputs, energy, along, across, cuts, due, sums, power
):
    """Pass rows through all presentations, block by block between `cuts`.

    After each block that is `due` (its number in `sums`, or -1) the sum over rows of
    w^power is added to sums: power 1 records the mean mode, 2 the deviations' squares.
    """
    for block in range(len(due)):
        low, high = cuts[block], cuts[block + 1]
        _show_block(
            start,
            momentum,
            change,
            rho,
            r_inh,
            inputs[low:high],
            energy[low:high],
            along[low:high],
            across[low:high],
        )
        if due[block] >= 0:
            record = sums[due[block]]
            for i in range(len(rho)):
                for j in range(len(record)):
                    w = start[i, j] + change[i, j]
                    record[j] += w if power == 1 else w * w


def _cuts(chunk: Chunk, recorder: Recorder) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where blocks begin and end, and which record each block ends with (-1: none)."""
    count = len(chunk.inputs)
    cuts, due, records, low = [0], [], 0, 0
    while low < count:
        high = min(count, low + BLOCK, recorder.next_due(chunk.first + low) - chunk.first)
        is_due = recorder.due(chunk.first + high)
        due.append(records if is_due else -1)
        records += is_due
        cuts.append(high)
        low = high
    return np.array(cuts), np.array(due, dtype=np.int64)


def show(
    problem: Problem,
    chunk: Chunk,
    mode: Mode,
    tiles: list[Rows],
    recorder: Recorder,
    power: int = 1,
    each: Callable[..., Iterable[Array]] = map,
) -> Array:
    """Pass tiles of rows through one chunk, in place; the recorded sums over rows, (R, D).

    `each` maps a function over the tiles, on several threads if it likes.
    """
    energy = np.einsum("td,td->t", chunk.inputs, chunk.inputs)
    maps = presentation_maps(problem.response, problem.plasticity, mode, energy, chunk.etas)
    cuts, due = _cuts(chunk, recorder)
    shape = (int((due >= 0).sum()), chunk.inputs.shape[1])

    def pass_through(tile: Rows) -> Array:
        sums = np.zeros(shape)
        _show(*tile, chunk.inputs, energy, *maps, cuts, due, sums, power)
        return sums

    return np.sum(list(each(pass_through, tiles)), axis=0)


@dataclass(frozen=True)
class Collapsed:
    """Equal to stepping, to rounding, at a small fraction of the cost."""

    name = "collapsed"

    def check(self, problem: Problem) -> None:
        """Neurons must see the same input and answer linearly."""
        able = '"euler" or "brian2"' if isinstance(problem.response, RateCircuit) else '"euler"'
        if problem.noise:
            raise InvalidArgument(
                'solver "collapsed" needs the same input for all neurons, got '
                f"noise = {problem.noise!r}; use solver {able}"
            )
        if problem.response.rectified:
            raise InvalidArgument(
                'solver "collapsed" needs linear rates, got response.rectified = True; '
                f"use solver {able}"
            )

    def run(self, problem: Problem, state: State, stop: int, recorder: Recorder) -> None:
        """Advance `state` to `stop` presentations, recording on the way."""
        population = _Population.split(problem, state, stop)
        for chunk in problem.chunks(state.presentations, stop):
            response = problem.response
            squares = show(
                problem, chunk, response.deviation_mode, population.tiles, recorder, power=2
            )
            means = show(problem, chunk, response.mean_mode, [population.mean], recorder, power=1)
            after = np.arange(chunk.first, chunk.first + len(chunk.inputs)) + 1
            points = [int(k) for k in after if recorder.due(int(k))]
            if points:
                recorder.add(points, means, squares / problem.neurons)
        population.join(problem, state)
        state.presentations = stop

    def trace(self, problem: Problem, state: State) -> Trace:
        """Advance `state` by one presentation, stepping, to see its rates."""
        return euler.Euler().trace(problem, state)


@dataclass
class _Population:
    """A population split into its mean and the deviations from it."""

    mean: Rows
    deviations: Rows
    tiles: list[Rows]
    basis: Array | None  # (N, D): each neuron's combination of the deviation rows

    @classmethod
    def split(cls, problem: Problem, state: State, stop: int) -> _Population:
        """Take a state apart; replace neurons by combinations of them where that pays."""
        neurons, dimension = problem.weights.shape
        mean_start = problem.weights.mean(0)
        start = problem.weights - mean_start
        r_mean = state.r.mean()
        mean = Rows(
            mean_start[None],
            state.momentum.mean(0)[None],
            (state.weights.mean(0) - mean_start)[None],
            np.array([r_mean - problem.response.bias]),
            np.array([state.r_inh]),
        )
        basis = None
        if state.presentations == 0:  # rates of all neurons are equal, momentum is 0
            # Operations: 10 per row, input and presentation, against a QR and a final product.
            if 10 * stop * dimension * (neurons - dimension) > 6 * neurons * dimension**2:
                basis, start = np.linalg.qr(start)
            deviations = Rows.at_rest(start)
        else:
            deviations = Rows(
                start,
                state.momentum - mean.momentum,
                (state.weights - problem.weights) - mean.change,
                state.r - r_mean,
                np.zeros(neurons),
            )
        return cls(mean, deviations, deviations.tiles(), basis)

    def join(self, problem: Problem, state: State) -> None:
        """Write mean and deviations back into a state of N neurons."""

        def expand(rows: Array) -> Array:
            return rows if self.basis is None else self.basis @ rows

        state.weights = expand(self.deviations.change)
        if self.basis is None:
            state.weights += problem.weights
        else:
            state.weights += expand(self.deviations.start) + self.mean.start
        state.weights += self.mean.change
        state.momentum = expand(self.deviations.momentum) + self.mean.momentum
        rho = expand(self.deviations.rho) + self.mean.rho[0]
        state.r = rho + problem.response.bias
        state.r_inh = (
            float(self.mean.r_inh[0]) if isinstance(problem.response, RateCircuit) else 0.0
        )
