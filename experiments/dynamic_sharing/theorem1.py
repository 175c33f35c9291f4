"""Theorem 1: noise on every neuron's input leaves an error that does not go away.

Claims, for Eq. 4 with eta_k = c / (k0 + k), c gamma >= 1 and momentum 0:
- the distance to where the noisy rule really ends, |W^k - W_sigma|^2, decays as 1/k;
- the distance to the noiseless solution, |W^k - W*|^2, levels off at |W_sigma - W*|^2, which
  grows as sigma^4 while sigma^2 << gamma and then saturates;
- the theorem's bound (the recursion of Eqs. 53-54, proportional to sigma^2) lies above it.
20 neurons, kernel 2, gamma 0.5, c = 8, k0 = 4,000 (small enough rates for the bound's factors
to stay finite), 200,000 inputs ~ N(0, 1), mean over 10 populations.
"""

from __future__ import annotations

import numpy as np

from analysis import figures
from analysis.convergence import figures as convergence_figures
from analysis.convergence.noise import noise_curves
from experiments.common.options import RunOptions
from experiments.common.result import Report, table
from neurosim.dynamics import (
    Gaussian,
    InstantResponse,
    InverseTime,
    Plasticity,
    Setting,
    simulate_ensemble,
    theory,
)
from neurosim.progress import track
from neurosim.recording import RunReader, RunWriter

SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
NEURONS, DIMENSION, GAMMA = 20, 4, 0.5
RATE = InverseTime(base=8.0, offset=4000.0)
PRESENTATIONS, TRIALS = 200_000, 10
POINTS = np.unique(np.geomspace(10, PRESENTATIONS, 73).astype(int))


def _settings() -> list[Setting]:
    return [
        Setting(
            inputs=Gaussian(DIMENSION, PRESENTATIONS),
            response=InstantResponse(),
            plasticity=Plasticity(RATE, GAMMA, momentum=0.0),
            neurons=NEURONS,
            noise=sigma,
            solver="euler",
            trial=trial,
        )
        for sigma in SIGMAS
        for trial in range(TRIALS)
    ]


def _bound(w_init: np.ndarray, sigma: float) -> np.ndarray:
    w_star = theory.shared_weights(w_init, np.eye(DIMENSION), GAMMA)
    bound = theory.theorem1_bound(
        RATE,
        PRESENTATIONS,
        gamma=GAMMA,
        sigma=sigma,
        fourth_moment=theory.gaussian_fourth_moment(DIMENSION, sigma),
        start_error=float(((w_init - w_star) ** 2).sum()),
        w_star=float((w_star**2).sum()),
        w_init=float((w_init**2).sum()),
    )
    return bound[POINTS]


def run(options: RunOptions) -> Report:
    """Simulate, fit the decay and draw the figure."""
    path = options.run_file("theorem1")
    config = {
        "study": "theorem1", "neurons": NEURONS, "dimension": DIMENSION, "gamma": GAMMA,
        "rate": repr(RATE), "presentations": PRESENTATIONS, "trials": TRIALS,
    }  # fmt: skip
    writer = RunWriter(
        path, kind="convergence", config=config, seed=options.seed, overwrite=options.overwrite
    )
    with writer as file:
        file.scale("sigma", np.array(SIGMAS), description="standard deviation of neurons' noise")
        file.scale("trial", np.arange(TRIALS), description="population")
        file.scale("presentation", POINTS, description="inputs shown so far, k")
        dims = ("sigma", "trial", "presentation")
        file.dataset("error", dims=dims, dtype="f8", description="|W^k - W*|_F^2, W* of Eq. 5")
        file.dataset("residual", dims=dims, dtype="f8", description="|W^k - W_sigma|_F^2")
        file.dataset("bound", dims=dims, dtype="f8", description="Theorem 1's bound on error")
        file.dataset("floor", dims=dims[:2], dtype="f8", description="|W_sigma - W*|_F^2")
        file.start()
        settings = _settings()
        results = simulate_ensemble(
            settings, seed=options.seed, snapshots=POINTS.tolist(), threads=options.threads
        )
        for index, trajectory in track(
            results, total=len(settings), title="theorem1", quiet=options.quiet
        ):
            where, sigma = divmod(index, TRIALS), settings[index].noise
            w_init, C = trajectory.problem.weights, np.eye(DIMENSION)
            for name, goal in {
                "error": theory.shared_weights(w_init, C, GAMMA),
                "residual": theory.noisy_weights(w_init, C, GAMMA, sigma),
            }.items():
                distance = ((trajectory.snapshots - goal) ** 2).sum((1, 2))
                file.write(name, distance, index=where)
            file.write("bound", _bound(w_init, sigma), index=where)
            file.write("floor", np.array(theory.noise_floor(w_init, C, GAMMA, sigma)), index=where)
            file.flush()
    with RunReader(path) as file:
        curves = noise_curves(file, offset=RATE.offset)
    drawn = figures.save(convergence_figures.noise(curves), path.with_suffix(""))
    header = ["sigma", "slope of residual", "error", "error - residual", "exact floor", "bound"]
    columns = (
        curves.sigma, curves.slope, curves.error[:, -1],
        curves.error[:, -1] - curves.residual[:, -1], curves.floor, curves.bound[:, -1],
    )  # fmt: skip
    rows = [[f"{v:.4g}" for v in row] for row in zip(*columns, strict=True)]
    exponents = curves.floor_exponents
    steps = zip(curves.sigma[1:-1], curves.sigma[2:], exponents, strict=True)
    grows = ", ".join(f"{a:g}-{b:g}: {e:.2f}" for a, b, e in steps)
    lines = [
        "Slopes are of log |W^k - W_sigma|^2 against log(k0 + k), fitted to the last decade of k",
        *table(header, rows),
        f"the floor grows as sigma to the power of  {grows}",
    ]
    names = ("sigma", "slope", "error", "error_minus_residual", "floor", "bound")
    values = dict(zip(names, columns, strict=True)) | {"floor_exponents": exponents}
    return Report("theorem1", path, drawn, lines, values)
