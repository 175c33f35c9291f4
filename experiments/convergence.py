"""Convergence studies: a grid of populations, one run file, one figure.

`neurosim converge` runs any grid; the published figures (`dynamic_sharing`) are grids with
names.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from analysis import figures
from analysis.convergence import figures as convergence_figures
from analysis.convergence.snr import convergence_curves, log_inverse_snr
from experiments.report import Report, RunOptions, table
from neurosim.dynamics import (
    Gaussian,
    Independent,
    InputStream,
    InstantResponse,
    OneHot,
    Plasticity,
    RateCircuit,
    Response,
    Setting,
    check_setting,
    simulate_ensemble,
    theory,
)
from neurosim.dynamics.inputs import distance_covariance
from neurosim.dynamics.rates import Constant, InverseSqrt, InverseTime, Rate
from neurosim.errors import NeurosimError, require, require_choice
from neurosim.progress import track
from neurosim.recording import RunReader, RunWriter

Rule = Literal["circuit", "instant"]
Inputs = Literal[
    "gaussian", "rectified", "laplace", "uniform", "sign", "exponential", "binary",
    "onehot-cyclic", "onehot-random",
]  # fmt: skip
Schedule = Literal["published", "constant", "inverse-sqrt", "inverse-time"]
SolverName = Literal["collapsed", "euler", "continuous", "brian2"]

# The axes of a grid, in the order in which they vary, outermost first.
AXES = {
    "rule": "rules",
    "solver": "solvers",
    "input": "inputs",
    "neurons": "neurons",
    "noise": "noises",
    "tau": "taus",
    "duration": "durations",
    "dt": "dts",
    "alpha": "alphas",
    "kernel": "kernels",
    "gamma": "gammas",
}


@dataclass(frozen=True)
class ConvergenceStudy:
    """Every combination of the listed values is simulated, `trials` times."""

    kernels: tuple[int, ...] = (3, 6, 9)
    """Kernel sizes k; a neuron has channels * k^2 inputs."""
    gammas: tuple[float, ...] = (1e-1, 1e-2, 1e-3)
    """Strength of the pull toward the initial weights."""
    alphas: tuple[float, ...] = (10.0,)
    """Strength of inhibition; inf with rule "instant" is the ideal rule of Eq. 4."""
    neurons: tuple[int, ...] = (100,)
    """Neurons N that share one inhibitory neuron."""
    noises: tuple[float, ...] = (0.0,)
    """Standard deviation of each neuron's own input noise (not with solver collapsed)."""
    rules: tuple[Rule, ...] = ("circuit",)
    """The rate ODE of Eq. 8, or the instantaneous rule of Eqs. 4 and 21."""
    taus: tuple[float, ...] = (30.0,)
    """Time constant of the rates in ms (rule "circuit")."""
    durations: tuple[float, ...] = (150.0,)
    """Milliseconds for which each input is shown (rule "circuit")."""
    dts: tuple[float, ...] = (1.0,)
    """Euler step in ms (rule "circuit")."""
    solvers: tuple[SolverName, ...] = ("collapsed",)
    """How to integrate; "collapsed" is exact and by far the fastest."""
    inputs: tuple[Inputs, ...] = ("gaussian",)
    """Distribution of the inputs; the published code shows N(0, 1)."""
    input_mean: float = 0.0
    """Mean of Gaussian and rectified inputs; the paper's text has 1."""
    correlation: float | None = None
    """Length in pixels of exponential correlations between Gaussian inputs."""
    channels: int = 1
    """Input channels."""
    schedule: Schedule = "published"
    """Rate over time; "published" is inverse-sqrt for circuit, inverse-time for instant."""
    rate: float | None = None
    """Base of the learning rate, if not the published one (3e-4, 0.5, or 1e-5 if constant)."""
    momentum: float = 0.95
    """Momentum of the weight updates."""
    initial: Literal["zero", "rest"] = "zero"
    """Where rates start: zero, as published, or at rest (r = b)."""
    rectified: bool = False
    """Threshold-linear rates (needs solver euler or brian2)."""
    presentations: int = 10_000
    """Inputs shown."""
    record_every: int = 10
    """Record after every so many inputs."""
    trials: int = 10
    """Populations per combination, with weights ~ N(1, 1) and inputs of their own."""

    def check(self) -> None:
        """Refuse values that make no sense (not on construction, where tyro would reword it)."""
        for name in AXES.values():
            values = getattr(self, name)
            require(len(values) > 0, f"--{name}", values, "at least one value")
            require(len(set(values)) == len(values), f"--{name}", values, "without repetitions")
        for kernel in self.kernels:
            require(kernel >= 1, "--kernels", kernel, ">= 1")
        for value in self.rules:
            require_choice("--rules", value, get_args(Rule))
        for value in self.inputs:
            require_choice("--inputs", value, get_args(Inputs))
        require(self.channels >= 1, "--channels", self.channels, ">= 1")
        require(self.presentations >= 1, "--presentations", self.presentations, ">= 1")
        require(
            1 <= self.record_every <= self.presentations,
            "--record-every",
            self.record_every,
            f"from 1 to --presentations = {self.presentations}",
        )
        require(
            self.presentations % self.record_every == 0,
            "--record-every",
            self.record_every,
            f"a divisor of --presentations = {self.presentations}, so that the end is recorded",
        )
        require(self.trials >= 1, "--trials", self.trials, ">= 1")
        require(
            self.input_mean == 0 or set(self.inputs) <= {"gaussian", "rectified"},
            "--input-mean",
            self.input_mean,
            "left out unless --inputs are gaussian or rectified",
        )
        require(
            self.correlation is None or set(self.inputs) <= {"gaussian", "rectified"},
            "--correlation",
            self.correlation,
            "left out unless --inputs are gaussian or rectified",
        )
        length = self.correlation
        require(length is None or 0 < length < math.inf, "--correlation", length, "finite and > 0")

    def points(self) -> list[dict[str, Any]]:
        """The grid: one dictionary of axis values per combination."""
        values = [getattr(self, name) for name in AXES.values()]
        points = []
        for combination in itertools.product(*values):
            point = dict(zip(AXES, combination, strict=True))
            if point["rule"] == "instant":  # which has no rates to give a time scale
                point |= dict.fromkeys(("tau", "duration", "dt"))
            if point not in points:
                points.append(point)
        return points

    def setting(self, point: dict[str, Any], trial: int) -> Setting:
        """The population of one combination and trial."""
        return Setting(
            inputs=self._stream(point),
            response=self._response(point),
            plasticity=Plasticity(self._rate(point["rule"]), point["gamma"], self.momentum),
            neurons=point["neurons"],
            noise=point["noise"],
            solver=point["solver"],
            initial=self.initial,
            trial=trial,
        )

    def _response(self, point: dict[str, Any]) -> Response:
        if point["rule"] == "instant":
            return InstantResponse(point["alpha"])
        circuit = RateCircuit(
            tau=point["tau"], alpha=point["alpha"], steps=1, dt=point["duration"],
            rectified=self.rectified,
        )  # fmt: skip
        return circuit.with_dt(point["dt"])

    def _rate(self, rule: Rule) -> Rate:
        kind = self.schedule
        if kind == "published":
            kind = "inverse-sqrt" if rule == "circuit" else "inverse-time"
        schedule, base = {
            "constant": (Constant, 1e-5),
            "inverse-sqrt": (InverseSqrt, 3e-4),
            "inverse-time": (InverseTime, 0.5),
        }[kind]
        return schedule(base=base if self.rate is None else self.rate)

    def _stream(self, point: dict[str, Any]) -> InputStream:
        kernel, kind = point["kernel"], point["input"]
        shape = (self.channels * kernel**2, self.presentations)
        if kind.startswith("onehot"):
            return OneHot(*shape, order=kind.removeprefix("onehot-"))
        if kind not in ("gaussian", "rectified"):
            return Independent(*shape, kind=kind)
        covariance = None
        if self.correlation is not None:
            covariance = distance_covariance(kernel, self.correlation, self.channels)
        return Gaussian(
            *shape, mean=self.input_mean, covariance=covariance, rectified=kind == "rectified"
        )

    def limits(self, point: dict[str, Any]) -> dict[str, float]:
        """Where theory says that var / mean^2 ends, by name; NaN where a formula does not apply."""
        setting = self.setting(point, 0)
        stream, response, gamma = setting.inputs, setting.response, point["gamma"]
        limits = {"eq5": math.nan, "eq25": math.nan, "circuit": math.nan}
        if self.rectified and isinstance(response, RateCircuit):
            return limits
        C = stream.second_moment()

        def limit(gains: theory.Gains) -> float:
            decay = theory.noise_decay(point["noise"], point["neurons"], gains)
            return float(
                theory.limit_inverse_snr(gamma, gains, C=C, decay=decay, neurons=point["neurons"])
            )

        limits["eq5"] = limit(theory.Gains(1.0, 0.0))
        if math.isfinite(response.alpha):
            limits["eq25"] = limit(theory.Gains(1.0, 1 / (1 + response.alpha)))
        if isinstance(response, RateCircuit) and stream.independent_zero_mean:
            limits["circuit"] = limit(theory.response_gains(response))
        return limits


def run_study(study: ConvergenceStudy, name: str, options: RunOptions) -> Report:
    """Simulate the grid, write NAME.h5 while it runs, and draw NAME.png and NAME.pdf from it."""
    study.check()
    options.check()
    points = study.points()
    settings = [study.setting(point, trial) for point in points for trial in range(study.trials)]
    for point, setting in zip(points, settings[:: study.trials], strict=True):
        try:
            check_setting(setting)
        except NeurosimError as error:
            varying = {k: v for k, v in point.items() if len(getattr(study, AXES[k])) > 1}
            where = ", ".join(f"{key} = {value}" for key, value in varying.items())
            raise type(error)(f"{error} [{where}]" if where else str(error)) from error
    path = options.run_file(name)
    with _writer(study, name, path, options, points) as run:
        results = simulate_ensemble(
            settings,
            seed=options.seed,
            record_every=study.record_every,
            threads=options.threads,
            check=False,
        )
        for index, trajectory in track(
            results, total=len(settings), title=name, quiet=options.quiet
        ):
            where = divmod(index, study.trials)
            run.write("inverse_snr", trajectory.inverse_snr, index=where)
            run.write("snr", trajectory.snr, index=where)
            run.write("alignment", trajectory.alignment, index=where)
            run.write("norm", np.linalg.norm(trajectory.mean, axis=1), index=where)
            run.flush()
    return report(name, path)


def _writer(
    study: ConvergenceStudy,
    name: str,
    path: Path,
    options: RunOptions,
    points: list[dict[str, Any]],
) -> RunWriter:
    """A started run file with everything declared."""
    run = RunWriter(
        path,
        kind="convergence",
        config={"study": name, **asdict(study)},
        seed=options.seed,
        overwrite=options.overwrite,
    )
    run.scale("setting", np.arange(len(points)), description="combination of the grid")
    run.scale("trial", np.arange(study.trials), description="population of a combination")
    recorded = np.arange(study.record_every, study.presentations + 1, study.record_every)
    run.scale("presentation", recorded, description="inputs shown so far")
    for axis in AXES:
        column = [math.nan if point[axis] is None else point[axis] for point in points]
        values = np.array(column)
        run.constant(f"grid/{axis}", values, dims=("setting",), description=f"{axis} of a setting")
    limits = [study.limits(point) for point in points]
    for limit in limits[0]:
        run.constant(
            f"limit/{limit}",
            np.array([row[limit] for row in limits]),
            dims=("setting",),
            description=f"where theory says that inverse_snr ends ({limit})",
        )
    for quantity, description in {
        "inverse_snr": "mean over weights of var / mean^2, as the published figures plot it",
        "snr": "mean over weights of mean^2 / var, Eq. 6",
        "alignment": "cosine of the mean weight with its start",
        "norm": "Euclidean norm of the mean weight",
    }.items():
        dims = ("setting", "trial", "presentation")
        run.dataset(quantity, dims=dims, dtype="f8", description=description)
    run.start()
    return run


def report(name: str, path: Path) -> Report:
    """Table and figures of a study, from its run file alone."""
    with RunReader(path) as run:
        curves = convergence_curves(run)
        drawn = figures.save(convergence_figures.convergence(curves), path.with_suffix(""))
    limits = {k: log_inverse_snr(v) for k, v in curves.limits.items() if np.isfinite(v).any()}
    header = [
        *curves.varying,
        "-log SNR",
        "std",
        *(convergence_figures.LIMIT_NAMES[key] for key in limits),
    ]
    rows, values = [], []
    for index, (mean, high) in enumerate(zip(curves.mean[:, -1], curves.high[:, -1], strict=True)):
        point = {key: column[index] for key, column in curves.varying.items()}
        theirs = {key: float(limit[index]) for key, limit in limits.items()}
        values.append({**point, "minus_log_snr": mean, "std": high - mean, "limits": theirs})
        shown = [f"{v:g}" if isinstance(v, float) else str(v) for v in point.values()]
        numbers = (mean, high - mean, *theirs.values())
        rows.append([*shown, *("-" if np.isnan(v) else f"{v:.3f}" for v in numbers)])
    lines = table(header, rows)
    if curves.floored.any():
        lines.append("Values at the floor of double precision are shown as that floor.")
    return Report(name, path, drawn, lines, {"settings": values})
