"""Which steps, inhibitions and rates a circuit survives: checked before every run."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from neurosim.dynamics.circuit import InstantResponse, Mode, Plasticity, RateCircuit, Response
from neurosim.dynamics.maps import presentation_maps
from neurosim.dynamics.rates import Rate, scaled
from neurosim.errors import StabilityError

Array = NDArray[np.float64]


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
    energy: float,
    dimension: int,
    eta: Array,
) -> Array:
    """What a presentation does to the second moments of one mode, averaged over x: (8, 8).

    For inputs of length sqrt(energy) in random directions, a share 1/D of the weights' second
    moment lies along x. The moments are those of (rho, r_inh) and of (m, e), 2 x 2 each:

        S_rates   <- A_rr S_rates A_rr^T + A_rw S_weights A_rw^T / D
        S_weights <- A_wr S_rates A_wr^T + A_ww S_weights A_ww^T / D + (1 - 1/D) P S_weights P^T

    with A the map along x and P the map across it.
    """
    maps = presentation_maps(response, plasticity, mode, np.array([energy]), eta[:, None])
    along, across = maps.along[0, :, :4].copy(), maps.across[0]
    along[:2, 2:] *= np.sqrt(energy)  # from products with x to components along x
    along[2:, :2] /= np.sqrt(energy) if energy > 0 else np.inf
    rr, rw, wr, ww = along[:2, :2], along[:2, 2:], along[2:, :2], along[2:, 2:]
    outside = (1 - 1 / dimension) * np.kron(across, across)
    return np.block(
        [
            [np.kron(rr, rr), np.kron(rw, rw) / dimension],
            [np.kron(wr, wr), np.kron(ww, ww) / dimension + outside],
        ]
    )


def mean_square_radius(
    response: Response,
    plasticity: Plasticity,
    mode: Mode,
    energy: float,
    dimension: int,
    eta: Array,
) -> float:
    """Spectral radius of `mean_square_map`: above 1 a mode grows."""
    with np.errstate(over="ignore", invalid="ignore"):
        matrix = mean_square_map(response, plasticity, mode, energy, dimension, eta)
    if not np.isfinite(matrix).all():
        return np.inf
    return float(np.abs(np.linalg.eigvals(matrix)).max())


def check_stability(
    response: Response,
    plasticity: Plasticity,
    *,
    energy: float,
    dimension: int,
    presentations: int,
    noise: float = 0.0,
) -> None:
    """Raise `StabilityError`, naming the bound and the largest allowed value, if one is broken.

    `energy` is E|x|^2; per-neuron noise adds noise^2 dimension to it. The presentation with
    the largest rates (of up to 64, spaced logarithmically) stands for all.
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
    energy = energy + noise**2 * dimension
    spaced = np.unique(np.geomspace(1, presentations, 64).astype(int)) - 1
    etas = np.stack(
        [plasticity.step_rates(response, int(k), 1, response.steps)[:, 0] for k in spaced], axis=1
    )
    eta = etas[:, etas.sum(0).argmax()]

    def stable(factor: float) -> bool:
        return all(
            mean_square_radius(response, plasticity, mode, energy, dimension, factor * eta)
            <= 1 + 1e-9
            for mode in (response.deviation_mode, response.mean_mode)
        )

    if stable(1.0):
        return
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    bound = largest_rate(response, plasticity.step_momentum(response), energy)
    raise StabilityError(
        f"plasticity.rate must be at most {low:.3g} times what it is, for inputs with "
        f"|x|^2 = {energy:.4g}: its largest value per step is {eta.max():.3g}, and weights grow "
        f"instead of settling (for one lasting x, above {bound:.3g})"
    )


def stable_plasticity(plasticity: Plasticity, energy: float, reference: float = 81.0) -> Plasticity:
    """The published rate is tuned for |x|^2 up to 81: for larger inputs scale it by 81 / |x|^2."""
    factor = min(1.0, reference / energy) if energy > 0 else 1.0
    return replace(plasticity, rate=scaled(cast(Rate, plasticity.rate), factor))
