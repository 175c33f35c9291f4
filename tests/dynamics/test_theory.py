"""Closed forms against long simulations and against each other."""

from __future__ import annotations

import numpy as np
import pytest

from neurosim.dynamics import (
    Constant,
    Gaussian,
    InstantResponse,
    InverseTime,
    OneHot,
    Plasticity,
    RateCircuit,
    simulate,
    theory,
)


def draw(neurons: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 1, (neurons, dimension))


def correlated(dimension: int) -> np.ndarray:
    root = np.random.default_rng(1).standard_normal((dimension, dimension)) / np.sqrt(dimension)
    return root @ root.T + 0.2 * np.eye(dimension)


def test_eq9_is_where_rates_settle() -> None:
    w, x = draw(12, 5), np.random.default_rng(2).standard_normal((1, 5))
    circuit = RateCircuit(alpha=7, bias=0.4, steps=3000)
    run = simulate(w, x, response=circuit, plasticity=Plasticity(Constant(0.0)))
    rates = run.rates([0])
    np.testing.assert_allclose(
        rates.r[0, -1], theory.fixed_point_rates(w, x[0], 7, 0.4), atol=1e-12
    )
    np.testing.assert_allclose(rates.r_inh[0, -1], (w @ x[0]).mean() / 8, atol=1e-12)


@pytest.mark.parametrize("alpha", [np.inf, 10.0])
@pytest.mark.parametrize("gamma", [0.3, 0.05])
def test_eqs_5_and_24_by_full_batch_descent(alpha: float, gamma: float) -> None:
    """One-hot inputs in a rotated basis average to any C exactly, cycle after cycle."""
    C = correlated(6)
    values, vectors = np.linalg.eigh(C)
    cycle = np.sqrt(6 * values)[:, None] * vectors.T  # mean_t x_t x_t^T = C
    np.testing.assert_allclose(cycle.T @ cycle / 6, C, atol=1e-12)
    w = draw(15, 6)
    run = simulate(
        w,
        np.tile(cycle, (60_000, 1)),
        response=InstantResponse(alpha),
        plasticity=Plasticity(Constant(1e-3), gamma, momentum=0.0),
        record_every=None,
    )
    limit = theory.shared_weights(w, C, gamma)
    if alpha < np.inf:
        limit = theory.biased_weights(w, C, gamma, alpha)
    np.testing.assert_allclose(run.weights, limit, atol=5e-3)


def test_special_forms() -> None:
    """Eqs. 20 and 25 are Eqs. 19 and 24 at C = I, and large alpha gives back Eq. 5."""
    w, gamma, alpha, eye = draw(9, 4), 0.2, 5.0, np.eye(4)
    mean = w.mean(0)
    np.testing.assert_allclose(
        theory.shared_weights(w, eye, gamma), (mean + gamma * w) / (1 + gamma), atol=1e-14
    )
    np.testing.assert_allclose(
        theory.biased_weights(w, eye, gamma, alpha),
        gamma / (1 + gamma) * (alpha / (1 + gamma * (1 + alpha)) * mean + w),
        atol=1e-14,
    )
    C = correlated(4)
    printed = np.linalg.solve(C + gamma * np.eye(4), C @ mean[:, None] + gamma * w.T).T
    np.testing.assert_allclose(theory.shared_weights(w, C, gamma), printed, atol=1e-13)
    inner = np.linalg.inv(C / (1 + alpha) + gamma * np.eye(4)) @ mean
    inner = gamma * alpha / (1 + alpha) * C @ inner
    printed = np.linalg.solve(C + gamma * np.eye(4), inner[:, None] + gamma * w.T).T
    np.testing.assert_allclose(theory.biased_weights(w, C, gamma, alpha), printed, atol=1e-13)
    np.testing.assert_allclose(
        theory.biased_weights(w, C, gamma, 1e12), theory.shared_weights(w, C, gamma), atol=1e-9
    )


def test_snr_floor_is_the_limit_of_many_neurons() -> None:
    gains = theory.Gains(1.0, 0.0)
    for gamma in (0.1, 0.01):
        assert np.log(theory.limit_inverse_snr(gamma, gains)) == pytest.approx(
            float(theory.snr_floor(gamma))
        )
    w, C = draw(200_000, 4), correlated(4)
    limit = theory.biased_weights(w, C, 0.3, 4.0)
    measured = (limit.var(0) / limit.mean(0) ** 2).mean()
    gains = theory.Gains(1.0, 0.2)
    assert theory.limit_inverse_snr(0.3, gains, C=C) == pytest.approx(measured, rel=0.02)


def test_gains_against_a_presentation_and_their_asymptotic_form() -> None:
    """The average answer to a unit input, read off the simulated rates."""
    circuit = RateCircuit(alpha=6, bias=0.0)
    w = np.array([[2.0], [0.0]])  # z = 2 and 0: mean 1, deviations +1 and -1
    run = simulate(w, [[1.0]], response=circuit, plasticity=Plasticity(Constant(0.0)))
    r = run.rates([0]).r[0]
    gains = theory.response_gains(circuit)
    assert gains.mean == pytest.approx(r.mean())
    assert gains.deviation == pytest.approx((r[:, 0] - r[:, 1]).mean() / 2)
    fine = theory.response_gains(RateCircuit(alpha=6, dt=0.01, steps=150_000))
    np.testing.assert_allclose(fine, theory.response_gains_asymptotic(30, 6, 1500), rtol=3e-4)


@pytest.mark.parametrize("alpha", [3.0, 10.0])
def test_the_circuits_own_limit(alpha: float) -> None:
    """Neither Eq. 5 nor Eq. 24: Eq. 8 ends where g_dev and g_mean say."""
    gamma, w, circuit = 0.1, draw(100, 4), RateCircuit(alpha=alpha)
    run = simulate(
        w,
        Gaussian(4, 400_000, seed=3),
        response=circuit,
        plasticity=Plasticity(Constant(1e-5), gamma, momentum=0.0),
        record_every=100,
    )
    late = slice(len(run.mean) // 2, None)  # the slow mean mode takes some 10^4 presentations
    mean, variance = run.mean[late].mean(0), run.variance[late].mean(0)
    measured = np.log((variance / mean**2).mean())
    limit = theory.circuit_weights(w, np.eye(4), gamma, circuit)
    own = np.log((limit.var(0) / limit.mean(0) ** 2).mean())
    eq24 = theory.biased_weights(w, np.eye(4), gamma, alpha)
    paper = np.log((eq24.var(0) / eq24.mean(0) ** 2).mean())
    assert measured == pytest.approx(own, abs=0.06)
    assert abs(measured - paper) > 0.3


@pytest.mark.parametrize("sigma", [0.2, 0.7])
@pytest.mark.parametrize("alpha", [np.inf, 4.0])
def test_the_noise_floor(sigma: float, alpha: float) -> None:
    w, gamma = draw(8, 3), 0.4
    run = simulate(
        w,
        Gaussian(3, 60_000, seed=4),
        response=InstantResponse(alpha),
        plasticity=Plasticity(InverseTime(5.0, 1000.0), gamma, momentum=0.0),
        noise=sigma,
        seed=5,
        solver="euler",
        record_every=None,
    )
    gains = theory.Gains(1.0, 1 / (1 + alpha))
    decay = theory.noise_decay(sigma, 8, gains)
    limit = theory.limit_weights(w, np.eye(3), gamma, gains, decay)
    np.testing.assert_allclose(run.weights, limit, atol=0.06)
    noiseless = theory.limit_weights(w, np.eye(3), gamma, gains)
    if sigma > 0.5:
        assert np.abs(run.weights - noiseless).max() > 0.2
    if alpha == np.inf:
        np.testing.assert_allclose(limit, theory.noisy_weights(w, np.eye(3), gamma, sigma))


def test_noise_floor_grows_as_sigma_to_the_fourth_then_saturates() -> None:
    w, eye = draw(50, 9), np.eye(9)
    floor = [theory.noise_floor(w, eye, 1.0, sigma) for sigma in (0.01, 0.02, 100.0, 200.0)]
    assert floor[1] / floor[0] == pytest.approx(16, rel=0.01)
    assert floor[3] / floor[2] == pytest.approx(1, rel=0.01)


def test_theorem1_bounds_a_simulation() -> None:
    w, gamma, sigma, rate = draw(10, 2), 0.5, 0.3, InverseTime(4.0, 3000.0)
    steps = 3000
    goal = theory.shared_weights(w, np.eye(2), gamma)
    bound = theory.theorem1_bound(
        rate,
        steps,
        gamma=gamma,
        sigma=sigma,
        fourth_moment=theory.gaussian_fourth_moment(2, sigma),
        start_error=float(((w - goal) ** 2).sum()),
        w_star=float((goal**2).sum()),
        w_init=float((w**2).sum()),
    )
    errors = []
    for seed in range(8):
        run = simulate(
            w,
            Gaussian(2, steps, seed=seed),
            response=InstantResponse(),
            plasticity=Plasticity(rate, gamma, momentum=0.0),
            noise=sigma,
            seed=seed,
            solver="euler",
            record_every=None,
            snapshots=[0, 100, 1000, steps],
        )
        errors.append(((run.snapshots - goal) ** 2).sum((1, 2)))
    assert (np.mean(errors, 0) <= bound[[0, 100, 1000, steps]] * (1 + 1e-12)).all()
    assert np.mean(errors, 0)[0] == pytest.approx(bound[0])


def test_gaussian_fourth_moment() -> None:
    x = 1.3**0.5 * np.random.default_rng(0).standard_normal((400_000, 5))
    assert theory.gaussian_fourth_moment(5, 0.3**0.5) == pytest.approx(
        ((x**2).sum(1) ** 2).mean(), rel=0.01
    )


def test_convergence_rates_set_the_speed() -> None:
    """One-hot inputs decouple the components: deviations decay by the predicted factor."""
    w, gamma, eta, circuit = draw(20, 5), 0.05, 2e-6, RateCircuit(steps=600)
    plasticity = Plasticity(Constant(eta), gamma, momentum=0.5)
    run = simulate(
        w, OneHot(5, 2000, order="random"), response=circuit, plasticity=plasticity,
        snapshots=[0, 2000],
    )  # fmt: skip
    deviation, mean = theory.convergence_rates(circuit, plasticity, np.eye(5))
    limit = theory.circuit_weights(w, np.eye(5), gamma, circuit)
    goal = limit - limit.mean(0)
    start, end = (snapshot - snapshot.mean(0) - goal for snapshot in run.snapshots)
    measured = -np.log(np.linalg.norm(end) / np.linalg.norm(start)) / 2000
    assert measured == pytest.approx(float(deviation[0]), rel=0.03)
    leading = theory.leading_eigenvalues(circuit, plasticity, 5.0, 5)
    assert -np.log(leading.deviation) == pytest.approx(deviation.min(), rel=0.05)
    assert -np.log(leading.mean) == pytest.approx(mean.min(), rel=0.2)


def test_leading_eigenvalues_at_the_published_rates() -> None:
    """At rates where x is forgotten within a presentation, the average of many sleeps."""
    circuit, plasticity = RateCircuit(), Plasticity(Constant(3.5e-5), 1e-6)
    first, last = 10, 60
    ratios = []
    for seed in range(20):
        run = simulate(
            draw(60, 81, seed), Gaussian(81, last, seed=seed), response=circuit,
            plasticity=plasticity, record_every=None, snapshots=[0, first, last], initial="rest",
        )  # fmt: skip
        deviation = run.snapshots - run.snapshots.mean(1, keepdims=True)
        start = deviation[0].ravel()
        ratios.append([start @ deviation[k].ravel() / (start @ start) for k in (1, 2)])
    early, late = np.mean(ratios, 0)
    measured = (late / early) ** (1 / (last - first))
    energies = (np.random.default_rng(0).standard_normal((500, 81)) ** 2).sum(1)
    leading = theory.leading_eigenvalues(circuit, plasticity, energies, 81)
    assert measured == pytest.approx(leading.deviation, abs=5e-4)
