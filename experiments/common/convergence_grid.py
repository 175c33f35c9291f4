"""Grids of populations that equalise their weights: the axes, and what a combination is."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

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
    theory,
)
from neurosim.dynamics.inputs import distance_covariance
from neurosim.dynamics.rates import Constant, InverseSqrt, InverseTime, Rate
from neurosim.errors import require, require_choice

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


# What errors of `neurosim.dynamics` call its options.
OPTIONS = {
    "response.tau": "--taus", "response.dt": "--dts", "response.alpha": "--alphas",
    "response.steps": "--durations over --dts", "plasticity.rate": "--rate",
    "plasticity.gamma": "--gammas", "plasticity.momentum": "--momentum", "rate.base": "--rate",
    "noise": "--noises", "neurons": "--neurons", "length": "--correlation",
}  # fmt: skip


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
        points: dict[tuple[Any, ...], dict[str, Any]] = {}
        for combination in itertools.product(*values):
            point = dict(zip(AXES, combination, strict=True))
            if point["rule"] == "instant":  # which has no rates to give a time scale
                point |= dict.fromkeys(("tau", "duration", "dt"))
            points[tuple(point.values())] = point
        return list(points.values())

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

        limits["eq5"] = limit(theory.IDEAL)
        if math.isfinite(response.alpha):
            limits["eq25"] = limit(theory.Gains(1.0, 1 / (1 + response.alpha)))
        if isinstance(response, RateCircuit) and stream.independent_zero_mean:
            limits["circuit"] = limit(theory.response_gains(response))
        return limits
