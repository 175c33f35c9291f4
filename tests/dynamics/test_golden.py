"""Golden traces: the published settings, seed 0, must not move by more than 1e-8.

The numbers in golden.json come from the plain numpy stepping below, not from neurosim's
solvers: `python -m tests.dynamics.test_golden` writes them again. They pin the update order, the
defaults, the schedules and the draws that belong to a seed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neurosim.dynamics import (
    Gaussian,
    InstantResponse,
    InverseTime,
    Plasticity,
    RateCircuit,
    Setting,
    simulate_ensemble,
)

FILE = Path(__file__).with_name("golden.json")
SETTINGS = {
    "fig4b k=3": Setting(Gaussian(9, 40), RateCircuit(), Plasticity(gamma=1e-2)),
    "fig4b k=6 gamma=0.1": Setting(Gaussian(36, 40), RateCircuit(), Plasticity(gamma=1e-1)),
    "fig4a k=3": Setting(Gaussian(9, 200), InstantResponse(), Plasticity(InverseTime(), 1e-2)),
    "fig5a k=3": Setting(Gaussian(9, 200), InstantResponse(10), Plasticity(InverseTime(), 1e-2)),
}


def summary(weights: np.ndarray) -> dict[str, list[float]]:
    mean, variance = weights.mean(0), weights.var(0)
    return {
        "minus_log_snr": [float(np.log((variance / mean**2).mean()))],
        "first_neuron": weights[0, :9].tolist(),
        "last_neuron": weights[-1, :9].tolist(),
    }


def step_circuit(w: np.ndarray, inputs: np.ndarray, gamma: float) -> np.ndarray:
    """Eq. 8 as published: tau 30, alpha 10, b 1, 150 steps of 1 ms, momentum 0.95."""
    w_init, m, r, r_inh, t = w, 0 * w, np.zeros(len(w)), 0.0, 0
    for x in inputs:
        for _ in range(150):
            dr_inh = -r_inh - 1 + r.mean()
            r = r + (-r + w @ x - 10 * r_inh + 1) / 30
            r_inh = r_inh + dr_inh / 30
            eta = 0.0003 / np.sqrt(1 + t / 2) if t > 50 else 0.0
            m = 0.95 * m + eta * (-np.outer(r - 1, x) - gamma * (w - w_init))
            w = w + m
            t += 1
    return w


def step_instant(w: np.ndarray, inputs: np.ndarray, gamma: float, alpha: float) -> np.ndarray:
    """Eq. 21 (Eq. 4 for alpha = inf) with eta = 0.5 / (1000 + k), momentum 0.95."""
    w_init, m = w, 0 * w
    kept = 1.0 if np.isinf(alpha) else alpha / (1 + alpha)
    for k, x in enumerate(inputs):
        z = w @ x
        m = 0.95 * m + 0.5 / (1000 + k) * (-np.outer(z - kept * z.mean(), x) - gamma * (w - w_init))
        w = w + m
    return w


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("solver", ["collapsed", "euler"])
def test_golden(name: str, solver: str) -> None:
    setting = SETTINGS[name]
    setting = Setting(setting.inputs, setting.response, setting.plasticity, solver=solver)
    ((_, run),) = simulate_ensemble([setting], seed=0)
    golden = json.loads(FILE.read_text())[name]
    for key, values in summary(run.weights).items():
        np.testing.assert_allclose(values, golden[key], rtol=0, atol=1e-8)


def write() -> None:
    """Compute the traces by plain stepping from the draws that belong to seed 0."""
    golden = {}
    for name, setting in SETTINGS.items():
        ((_, run),) = simulate_ensemble([setting], seed=0)
        w, inputs = run.problem.weights, run.problem.inputs.array()
        gamma = setting.plasticity.gamma
        if isinstance(setting.response, RateCircuit):
            golden[name] = summary(step_circuit(w, inputs, gamma))
        else:
            golden[name] = summary(step_instant(w, inputs, gamma, setting.response.alpha))
    FILE.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    write()
