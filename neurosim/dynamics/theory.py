"""Where the circuit ends and how fast it gets there, in closed form.

Every limit of the paper, and three that it lacks, are one formula. Write g_dev and g_mean for
the share of its input z that a deviation and the mean show on average while x is shown, and
s for the extra decay that per-neuron noise adds. Setting the mean update to zero gives

    mean*      = gamma (g_mean C + (gamma + s) I)^-1 mean_init
    deviation* = gamma (g_dev  C + (gamma + s) I)^-1 deviation_init

with, per rule,

    Eq. 5 / 19     g_dev = 1, g_mean = 0                    (the ideal rule, Eq. 4)
    Eq. 24         g_dev = 1, g_mean = 1 / (1 + alpha)      (its biased form, Eq. 21)
    the circuit    g_dev = 1 - tau/T,
                   g_mean = 1/(1+alpha) + tau (alpha-1) / ((1+alpha)^2 T)   (Eq. 8, T >> tau)

Weights are (..., N, D), the second moment C = E[x x^T] is (D, D).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from neurosim.dynamics.arrays import Array, check_array, check_weights
from neurosim.dynamics.circuit import InstantResponse, Plasticity, RateCircuit, Response
from neurosim.dynamics.maps import presentation_maps
from neurosim.dynamics.rates import Rate, as_rate, evaluate
from neurosim.errors import require, require_count, require_instance, require_number


def _check_positive(name: str, value: ArrayLike) -> Array:
    """One number or an array of them, finite and above 0."""
    numbers = check_array(name, value, copy=False)
    require((numbers > 0).all(), name, value, "> 0")
    return numbers


def _check_at_least_0(**numbers: float) -> None:
    for name, value in numbers.items():
        require_number(name, value)
        require(value >= 0, name, value, ">= 0")


def _check_moment(C: ArrayLike, dimension: int | None = None) -> Array:
    """A second moment: a symmetric matrix, (D, D), without directions of negative energy."""
    moment = check_array("C", C, 2, copy=False)
    size = len(moment) if dimension is None else dimension
    require(moment.shape == (size, size), "C.shape", moment.shape, f"(D, D) with D = {size}")
    rounding = 1e-12 * max(1.0, float(np.abs(moment).max(initial=0)))
    symmetric = np.allclose(moment, moment.T, rtol=1e-8, atol=rounding)
    require(symmetric, "C", "an asymmetric matrix", "symmetric and positive semidefinite")
    smallest = float(np.linalg.eigvalsh(moment)[0])
    require(
        smallest > -1e-8 * max(np.trace(moment), 1e-300),
        "C",
        f"smallest eigenvalue {smallest:g}",
        "symmetric and positive semidefinite",
    )
    return moment


class LeadingEigenvalues(NamedTuple):
    """Of the maps of one presentation, averaged over x."""

    deviation: float
    mean: float


class Gains(NamedTuple):
    """The share of its input that each mode shows on average during a presentation."""

    deviation: float
    mean: float


def fixed_point_rates(weights: ArrayLike, x: ArrayLike, alpha: float, bias: float) -> Array:
    """Eq. 9: r_i = b + w_i.x - mean_j(w_j.x) + mean_j(w_j.x) / (1 + alpha), (..., N)."""
    _check_at_least_0(alpha=alpha)
    x = check_array("x", x, 1, copy=False)
    z = check_weights("weights", weights, len(x)) @ x
    mean = z.mean(-1, keepdims=True)
    return np.asarray(bias + z - mean + mean / (1 + alpha), np.float64)


def response_gains(response: Response) -> Gains:
    """g_dev and g_mean of a response, exactly as it is stepped.

    Rates start a presentation where the last one left them, which is uncorrelated with the
    new x when inputs are independent with zero mean; so the average answer to z = 1 counts,
    from rates at 0, over the steps at which plasticity reads it.
    """
    require_instance("response", response, Response)
    if isinstance(response, InstantResponse):
        return Gains(1.0, 1 / (1 + response.alpha))
    gains = []
    for mode in (response.deviation_mode, response.mean_mode):
        step = np.eye(2) + mode.leak * np.array([[-1, -mode.inhibition], [1, -1]])
        state, total = np.zeros(2), 0.0
        for _ in range(response.steps):
            state = step @ state + [mode.leak, 0.0]
            total += state[0]
        gains.append(total / response.steps)
    return Gains(*gains)


def response_gains_asymptotic(tau: float, alpha: float, duration: float) -> Gains:
    """The same for dt -> 0 and presentations much longer than tau, with T = duration.

    g_dev = 1 - tau/T,   g_mean = 1/(1 + alpha) + tau (alpha - 1) / ((1 + alpha)^2 T)
    """
    _check_positive("tau", tau)
    _check_positive("duration", duration)
    _check_at_least_0(alpha=alpha)
    mean = 1 / (1 + alpha) + tau * (alpha - 1) / ((1 + alpha) ** 2 * duration)
    return Gains(1 - tau / duration, mean)


IDEAL = Gains(1.0, 0.0)
"""Eq. 4: deviations answer in full and the mean not at all."""


def noise_decay(sigma: float, neurons: int, gains: Gains = IDEAL) -> float:
    """s, the decay that per-neuron noise adds: sigma^2 ((1 - 1/N) g_dev + g_mean / N).

    A neuron's own noise enters its deviation with weight 1 - 1/N and the mean with 1/N. For
    Eq. 4 this is sigma^2 (1 - 1/N).
    """
    require_count("neurons", neurons)
    _check_at_least_0(sigma=sigma)
    return sigma**2 * ((1 - 1 / neurons) * gains.deviation + gains.mean / neurons)


def limit_weights(
    w_init: ArrayLike, C: ArrayLike, gamma: float, gains: Gains, decay: float = 0.0
) -> Array:
    """The formula at the top of this module: where weights (..., N, D) end."""
    w_init = check_weights("w_init", w_init)
    C = _check_moment(C, w_init.shape[-1])
    require_number("gamma", gamma)
    _check_positive("gamma", gamma)
    _check_at_least_0(decay=decay)
    require_instance("gains", gains, Gains)
    mean = w_init.mean(-2, keepdims=True)
    pull = (gamma + decay) * np.eye(C.shape[0])

    def relax(w: Array, gain: float) -> Array:
        columns = w.reshape(-1, w.shape[-1]).T
        relaxed = gamma * np.linalg.solve(gain * C + pull, columns).T
        return relaxed.reshape(w.shape).astype(np.float64)

    return relax(mean, gains.mean) + relax(w_init - mean, gains.deviation)


def shared_weights(w_init: ArrayLike, C: ArrayLike, gamma: float) -> Array:
    """Eqs. 5 and 19, and Eq. 20 for C = I: w_i = (C + gamma I)^-1 (C mean + gamma w_i_init)."""
    return limit_weights(w_init, C, gamma, IDEAL)


def biased_weights(w_init: ArrayLike, C: ArrayLike, gamma: float, alpha: float) -> Array:
    """Eq. 24, and Eq. 25 for C = I: the limit of Eq. 21 with finite inhibition."""
    _check_at_least_0(alpha=alpha)
    return limit_weights(w_init, C, gamma, Gains(1.0, 1 / (1 + alpha)))


def circuit_weights(w_init: ArrayLike, C: ArrayLike, gamma: float, circuit: RateCircuit) -> Array:
    """Where Eq. 8 really ends: r lags each new x, so it is neither Eq. 5 nor Eq. 24."""
    require_instance("circuit", circuit, RateCircuit)
    return limit_weights(w_init, C, gamma, response_gains(circuit))


def noisy_weights(w_init: ArrayLike, C: ArrayLike, gamma: float, sigma: float) -> Array:
    """The limit of Eq. 4 with per-neuron noise.

    w_i = (C + (gamma + s) I)^-1 (C mean + gamma w_i_init)  with
    mean = gamma / (gamma + s) mean_init and s = sigma^2 (1 - 1/N).
    """
    neurons = check_weights("w_init", w_init).shape[-2]
    return limit_weights(w_init, C, gamma, IDEAL, noise_decay(sigma, neurons))


def noise_floor(w_init: ArrayLike, C: ArrayLike, gamma: float, sigma: float) -> Array:
    """|W_sigma - W*|_F^2, the error that noise leaves in Theorem 1's setting.

    Proportional to sigma^4 while sigma^2 << gamma, then saturating; the theorem's sigma^2 is an
    upper bound.
    """
    difference = noisy_weights(w_init, C, gamma, sigma) - shared_weights(w_init, C, gamma)
    return (difference**2).sum((-2, -1))


def snr_floor(gamma: ArrayLike) -> Array:
    """-log SNR of Eq. 20 for w_init ~ N(1, 1) and C = I: 2 log(gamma / (1 + gamma))."""
    gamma = _check_positive("gamma", gamma)
    return 2 * np.log(gamma / (1 + gamma))


def limit_inverse_snr(
    gamma: ArrayLike,
    gains: Gains,
    *,
    C: ArrayLike | None = None,
    decay: float = 0.0,
    mean: float = 1.0,
    std: float = 1.0,
    neurons: float = np.inf,
) -> Array:
    """mean_j(var_j / mean_j^2) of `limit_weights` for w_init ~ N(mean, std^2) and many neurons.

    Of few `neurons` the variance is smaller by 1 - 1/N; that their mean fluctuates is left out.

    For C = I (the default) this is (std / mean)^2 [(g_mean + gamma + s) / (g_dev + gamma + s)]^2:
    the gammas in front cancel.
    """
    C = np.eye(1) if C is None else _check_moment(C)
    require_instance("gains", gains, Gains)
    _check_at_least_0(decay=decay)
    pull = (_check_positive("gamma", gamma)[..., None, None] + decay) * np.eye(len(C))
    mean_map = np.linalg.inv(gains.mean * C + pull)
    deviation_map = np.linalg.inv(gains.deviation * C + pull)
    variance = std**2 * (1 - 1 / neurons) * (deviation_map**2).sum(-1)
    return (variance / (mean * mean_map.sum(-1)) ** 2).mean(-1)


def convergence_rates(
    response: Response, plasticity: Plasticity, C: ArrayLike, presentation: int = 0
) -> tuple[Array, Array]:
    """Decay per presentation of each eigenvector of C, for deviations and for the mean: (D,) each.

    Averaged over x, presentation number `presentation` moves a component of eigenvalue c by
    eta_sum / (1 - momentum) (g c + gamma) of its distance from the limit, where eta_sum adds
    the rates of its steps. The smallest entry sets the time to converge, in presentations. This
    is the limit of small rates, eta_sum |x|^2 / (1 - momentum) << 1; `leading_eigenvalues` is not
    bound to it.
    """
    require_instance("plasticity", plasticity, Plasticity)
    values = np.linalg.eigvalsh(_check_moment(C))
    gains = response_gains(response)
    etas = plasticity.step_rates(response, presentation, 1, response.steps)
    speed = etas.sum() / (1 - plasticity.step_momentum(response))
    return (
        speed * (gains.deviation * values + plasticity.gamma),
        speed * (gains.mean * values + plasticity.gamma),
    )


def theorem1_bound(
    rate: Rate | float,
    steps: int,
    *,
    gamma: float,
    sigma: float,
    fourth_moment: float,
    start_error: float,
    w_star: float,
    w_init: float,
) -> Array:
    """Theorem 1's bound on E|W^k - W*|_F^2, the recursion of Eqs. 53-54: (steps + 1,).

        B_k+1 = (1 - gamma eta_k + 8 (2 c + gamma^2) eta_k^2) B_k
                + eta_k sigma^2 |W*|^2
                + eta_k^2 (8 (2 c + gamma^2) |W*|^2 + 4 gamma^2 |W_init|^2)

    with c = `fourth_moment` >= E|x + noise|^4 (Eq. 29), B_0 = `start_error`, and `w_star`,
    `w_init` the squared Frobenius norms. (The first norm of the printed Eq. 30 lacks a square,
    and the product in Eq. 57 should run from t + 1; the recursion needs neither.)
    """
    require_count("steps", steps, least=0)
    _check_positive("gamma", gamma)
    _check_at_least_0(
        sigma=sigma,
        fourth_moment=fourth_moment,
        start_error=start_error,
        w_star=w_star,
        w_init=w_init,
    )
    etas = evaluate(as_rate("rate", rate), np.arange(steps, dtype=float))
    growth = 8 * (2 * fourth_moment + gamma**2)
    factors = 1 - gamma * etas + growth * etas**2
    added = etas * sigma**2 * w_star + etas**2 * (growth * w_star + 4 * gamma**2 * w_init)
    bound = np.empty(steps + 1)
    bound[0] = start_error
    for k in range(steps):
        bound[k + 1] = factors[k] * bound[k] + added[k]
    return bound


def gaussian_fourth_moment(dimension: int, sigma: float) -> float:
    """E|x + noise|^4 = (1 + sigma^2)^2 D (D + 2) for x ~ N(0, I): c of Eq. 29."""
    require_count("dimension", dimension)
    _check_at_least_0(sigma=sigma)
    return (1 + sigma**2) ** 2 * dimension * (dimension + 2)


def leading_eigenvalues(
    response: Response, plasticity: Plasticity, energies: ArrayLike, dimension: int,
    presentation: int = 0,
) -> LeadingEigenvalues:  # fmt: skip
    """What is left of a deviation, and of the mean, after a presentation with a random x.

    The leading eigenvalue of the map of (m, e) averaged over the direction of x and over
    `energies`, a sample of |x|^2, for any rate:  (1 - 1/D) P + A_ww / D  with A the map along x
    and P the map across it. Its logarithm sets the time to converge, in presentations.
    """
    require_instance("response", response, Response)
    require_instance("plasticity", plasticity, Plasticity)
    energy = np.atleast_1d(np.asarray(energies, np.float64))
    eta = plasticity.step_rates(response, presentation, 1, response.steps)
    etas = np.repeat(eta, len(energy), axis=1)
    leading = []
    for mode in (response.deviation_mode, response.mean_mode):
        maps = presentation_maps(response, plasticity, mode, energy, etas)
        average = (1 - 1 / dimension) * maps.across + maps.along[:, 2:, 2:4] / dimension
        leading.append(float(np.abs(np.linalg.eigvals(average.mean(0))).max()))
    return LeadingEigenvalues(*leading)
