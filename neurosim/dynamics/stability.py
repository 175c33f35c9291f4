"""Which steps, inhibitions and rates a circuit survives: checked before every run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from neurosim.dynamics.arrays import Array
from neurosim.dynamics.circuit import InstantResponse, Mode, Plasticity, RateCircuit, Response
from neurosim.dynamics.maps import presentation_maps
from neurosim.dynamics.rates import Rate, scaled
from neurosim.errors import StabilityError


def largest_dt(tau: float, alpha: float) -> float:
    """2 tau / (1 + alpha): Euler steps of the mean mode (r, r_inh) are stable below it.

    Without plasticity the mean mode's eigenvalues are 1 - dt/tau (1 -+ i sqrt(alpha)), of
    squared modulus (1 - dt/tau)^2 + alpha (dt/tau)^2.
    """
    return 2 * tau / (1 + alpha)


def largest_alpha(tau: float, dt: float) -> float:
    """2 tau / dt - 1: the same bound, solved for the inhibition."""
    return 2 * tau / dt - 1


def largest_rate(response: Response, momentum: float, energy: float) -> float:
    """The rate per step above which a deviation along one lasting x grows, |x|^2 = energy.

    RateCircuit:      eta |x|^2 < (1 - momentum) (1 - q) / q  with q = momentum (1 - dt/tau),
                      about (1 - momentum) (dt/tau + 1 - momentum) for momentum near 1,
                      and eta |x|^2 < 2 (1 + momentum) (2 - dt/tau) / (dt/tau)
    InstantResponse:  eta |x|^2 < 2 (1 + momentum)

    These are the Jury conditions of the characteristic polynomials of one step,
    (z - 1)(z - momentum)(z - 1 + dt/tau) + eta |x|^2 (dt/tau) z^2 and
    (z - 1)(z - momentum) + eta |x|^2 z, for small gamma. `momentum` is the one per step. A new
    x every presentation can ask for less: `mean_square_radius` decides.
    """
    if energy == 0:
        return math.inf
    if isinstance(response, InstantResponse):
        return 2 * (1 + momentum) / energy
    a = response.leak
    q = momentum * (1 - a)
    slow = (1 - momentum) * (1 - q) / q if q > 0 else math.inf
    return min(slow, 2 * (1 + momentum) * (2 - a) / a) / energy


def mean_square_map(
    response: Response,
    plasticity: Plasticity,
    mode: Mode,
    energies: ArrayLike,
    dimension: int,
    eta: Array,
) -> Array:
    """What a presentation does to the second moments of one mode, averaged over x: (8, 8).

    For inputs in random directions, a share 1/D of the weights' second moment lies along x.
    The moments are those of (rho, r_inh) and of (m, e), 2 x 2 each:

        S_rates   <- A_rr S_rates A_rr^T + A_rw S_weights A_rw^T / D
        S_weights <- A_wr S_rates A_wr^T + A_ww S_weights A_ww^T / D + (1 - 1/D) P S_weights P^T

    with A the map along x and P the map across it, and the mean of the right-hand sides over
    `energies`, a sample of |x|^2: long inputs count for more than their number.
    """
    energy = np.atleast_1d(np.asarray(energies, np.float64))
    etas = np.repeat(eta[:, None], len(energy), axis=1)
    maps = presentation_maps(response, plasticity, mode, energy, etas)
    along, across = maps.along[:, :, :4].copy(), maps.across
    length = np.sqrt(energy)[:, None, None]
    along[:, :2, 2:] *= length  # from products with x to components along x
    along[:, 2:, :2] /= np.where(length > 0, length, np.inf)

    def kron(matrix: Array) -> Array:
        return np.einsum("tij,tkl->ikjl", matrix, matrix).reshape(4, 4) / len(energy)

    return np.block(
        [
            [kron(along[:, :2, :2]), kron(along[:, :2, 2:]) / dimension],
            [
                kron(along[:, 2:, :2]),
                kron(along[:, 2:, 2:]) / dimension + (1 - 1 / dimension) * kron(across),
            ],
        ]
    )


def mean_square_radius(
    response: Response,
    plasticity: Plasticity,
    mode: Mode,
    energies: ArrayLike,
    dimension: int,
    eta: Array,
) -> float:
    """Spectral radius of `mean_square_map`: above 1 a mode grows."""
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = mean_square_map(response, plasticity, mode, energies, dimension, eta)
    if not np.isfinite(matrix).all():
        return math.inf
    return float(np.abs(np.linalg.eigvals(matrix)).max())


LARGEST_GROWTH = 10.0
"""A decaying rate may start too large: weights may grow this much before they settle."""


def check_stability(
    response: Response,
    plasticity: Plasticity,
    *,
    energy: ArrayLike,
    dimension: int,
    presentations: int,
    noise: float = 0.0,
) -> None:
    """Raise `StabilityError`, naming the bound and the largest allowed value, if one is broken.

    `energy` is |x|^2, better a sample of it than its mean; per-neuron noise adds
    noise^2 dimension. Weights may grow by `LARGEST_GROWTH` over the whole schedule, which is
    followed at up to 24 presentations, spaced logarithmically.
    """
    if isinstance(response, RateCircuit) and response.dt >= largest_dt(
        response.tau, response.alpha
    ):
        dt = largest_dt(response.tau, response.alpha)
        alpha = largest_alpha(response.tau, response.dt)
        raise StabilityError(
            f"response.dt must be < 2 tau / (1 + alpha) = {dt:.4g} ms at tau = {response.tau:g} "
            f"and alpha = {response.alpha:g}, got {response.dt:g} "
            f"(or, at this dt, response.alpha < 2 tau / dt - 1 = {alpha:.4g})"
        )
    if presentations < 1:
        return
    energies = np.atleast_1d(np.asarray(energy, np.float64)) + noise**2 * dimension
    spaced = np.unique(np.geomspace(1, presentations, 24).astype(int)) - 1
    lasting = np.diff(np.append(spaced, presentations))
    etas = [plasticity.step_rates(response, int(k), 1, response.steps)[:, 0] for k in spaced]

    def growth(factor: float) -> float:
        """The logarithm by which the faster growing mode grows over the schedule."""
        total = dict.fromkeys((response.deviation_mode, response.mean_mode), 0.0)
        for mode in total:
            for eta, count in zip(etas, lasting, strict=True):
                radius = mean_square_radius(
                    response, plasticity, mode, energies, dimension, factor * eta
                )
                total[mode] += count * max(0.0, math.log(max(radius, 1e-300)) / 2 - 1e-9)
                if total[mode] > math.log(LARGEST_GROWTH):
                    return math.inf
        return max(total.values())

    if growth(1.0) <= math.log(LARGEST_GROWTH):
        return
    low, high = 1e-12, 1.0
    for _ in range(24):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if growth(middle) < math.inf else (low, middle)
    largest = max(float(eta.max()) for eta in etas)
    bound = largest_rate(response, plasticity.step_momentum(response), float(energies.mean()))
    raise StabilityError(
        f"plasticity.rate must be at most {low:.3g} times what it is, {low * largest:.3g} per step "
        f"at its largest, got {largest:.3g}: for inputs with |x|^2 about {energies.mean():.4g} "
        f"weights would grow more than {LARGEST_GROWTH:g}-fold "
        f"(one lasting x is unstable above {bound:.3g})"
    )


def stable_plasticity(plasticity: Plasticity, energy: float, reference: float = 81.0) -> Plasticity:
    """The published rate is tuned for |x|^2 up to 81: for larger inputs scale it by 81 / |x|^2."""
    factor = min(1.0, reference / energy) if energy > 0 else 1.0
    return replace(plasticity, rate=scaled(cast(Rate, plasticity.rate), factor))
