"""The circuit of Pogodin et al. 2021 (Sec. 4 and App. A): its parameters, with its equations.

N excitatory neurons receive the same input x (D components); one inhibitory neuron is
connected to all of them. Their weights follow an anti-Hebbian rule with a pull toward the
weights at the start of the sleep. Everything that the solvers beside this file integrate is
stated here, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple, cast, final

import numpy as np

from neurosim.dynamics.arrays import Array
from neurosim.dynamics.rates import InverseSqrt, Rate, as_rate, evaluate
from neurosim.errors import require, require_count, require_number


def _to_floats(settings: object, prefix: str, *names: str) -> None:
    """Turn numbers given as integers into floats, so that arrays made from them are floats too."""
    for name in names:
        value = getattr(settings, name)
        require_number(f"{prefix}.{name}", value)
        object.__setattr__(settings, name, float(value))


class Mode(NamedTuple):
    """How one mode of the population, its mean or a deviation from it, answers z = w.x.

    With rho = r - b (the bias cancels everywhere else), one step is

        rho   <- rho   + leak (-rho + gain z - inhibition r_inh)
        r_inh <- r_inh + leak (-r_inh + rho_old)

    Deviations feel no inhibition at all: b and r_inh are the same for every neuron.
    """

    leak: float
    inhibition: float
    gain: float


def _refuse_subclass(cls: type) -> None:
    """Responses are a closed union, whose equations every solver states in its own way."""
    raise TypeError(
        f"{cls.__name__} cannot derive from a response: solvers follow the equations of "
        "RateCircuit and InstantResponse as they are"
    )


@final
@dataclass(frozen=True)
class RateCircuit:
    """Rate neurons that approach their response while x is shown (Eq. 8).

        tau dr_i/dt   = -r_i + w_i.x - alpha r_inh + b                              (8a)
        tau dr_inh/dt = -r_inh + mean_j(r_j) - b                                    (8b)

    Stepped by forward Euler, every x is shown for `steps` steps of `dt` ms. With
    `rectified=True` both right-hand sides become threshold-linear,
    [w_i.x - alpha r_inh + b]_+ and [mean_j(r_j) - b]_+, which only the step-by-step solvers
    can follow. Solvers know the equations of this class and of `InstantResponse`; a subclass
    could change them for some solvers only, so there can be none.
    """

    tau: float = 30.0
    alpha: float = 10.0
    bias: float = 1.0
    steps: int = 150
    dt: float = 1.0
    rectified: bool = False

    def __init_subclass__(cls) -> None:
        _refuse_subclass(cls)

    def __post_init__(self) -> None:
        _to_floats(self, "response", "tau", "alpha", "bias", "dt")
        require(math.isfinite(self.tau) and self.tau > 0, "response.tau", self.tau, "> 0 ms")
        require(
            math.isfinite(self.alpha) and self.alpha >= 0,
            "response.alpha",
            self.alpha,
            "finite and >= 0",
        )
        require(math.isfinite(self.bias), "response.bias", self.bias, "finite")
        require_count("response.steps", self.steps)
        require(math.isfinite(self.dt) and self.dt > 0, "response.dt", self.dt, "> 0 ms")

    @property
    def duration(self) -> float:
        """Milliseconds for which one input is shown."""
        return self.steps * self.dt

    @property
    def leak(self) -> float:
        """dt / tau, the share of the way to its target that a rate moves in one step."""
        return self.dt / self.tau

    @property
    def deviation_mode(self) -> Mode:
        """The mode of each neuron's deviation from the population's mean."""
        return Mode(self.leak, 0.0, 1.0)

    @property
    def mean_mode(self) -> Mode:
        """The mode of the population's mean, which inhibition holds down."""
        return Mode(self.leak, self.alpha, 1.0)

    def with_dt(self, dt: float) -> RateCircuit:
        """The same presentation in steps of another size; `dt` has to divide its duration."""
        steps = round(self.duration / dt) if dt * 1e9 > self.duration else 0
        divides = steps >= 1 and math.isclose(steps * dt, self.duration, rel_tol=1e-9)
        require(divides, "dt", dt, f"a divisor of the presentation's {self.duration:g} ms")
        return replace(self, steps=steps, dt=dt)


@final
@dataclass(frozen=True)
class InstantResponse:
    """Neurons that answer at once: one step of plasticity per input (Eqs. 4 and 21).

        r_i - b = w_i.x - alpha / (1 + alpha) mean_j(w_j.x)                         (21)

    alpha = inf is the ideal rule of Eq. 4, which subtracts the whole mean. Time is counted
    in presentations, also by the learning rate: the published one (`InverseSqrt`, the default
    of `Plasticity`) starts after the 51st, where that of Figs. 4A and 5A (`InverseTime`) does not
    wait.
    """

    alpha: float = math.inf

    def __init_subclass__(cls) -> None:
        _refuse_subclass(cls)

    def __post_init__(self) -> None:
        _to_floats(self, "response", "alpha")
        require(self.alpha >= 0, "response.alpha", self.alpha, ">= 0 (inf is Eq. 4)")

    steps = 1
    dt = 1.0
    bias = 0.0
    rectified = False

    @property
    def subtracted(self) -> float:
        """alpha / (1 + alpha), the share of the mean that inhibition takes away."""
        return 1.0 - 1.0 / (1.0 + self.alpha)

    @property
    def deviation_mode(self) -> Mode:
        """The mode of each neuron's deviation from the population's mean."""
        return Mode(1.0, 0.0, 1.0)

    @property
    def mean_mode(self) -> Mode:
        """The mode of the population's mean, of which 1 / (1 + alpha) is left."""
        return Mode(1.0, 0.0, 1.0 / (1.0 + self.alpha))


Response = RateCircuit | InstantResponse


@dataclass(frozen=True)
class Plasticity:
    """Anti-Hebbian plasticity with a pull toward the start of the sleep, at every step.

        m_i <- momentum m_i + eta(t) [-(r_i - b) x - gamma (w_i - w_i_init)]
        w_i <- w_i + m_i

    `rate` is eta: one of `neurosim.dynamics.rates`, any callable of an array of times, or a
    number. It is given per step of 1 ms (per presentation for `InstantResponse`), and t
    counts milliseconds (presentations) from 0. Steps of another size keep the speed
    eta / (1 - momentum) at which weights move in the long run: momentum becomes
    momentum^dt, and eta becomes eta dt (1 - momentum^dt) / (1 - momentum).
    """

    rate: Rate | float = field(default_factory=InverseSqrt)
    gamma: float = 1e-2
    momentum: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", as_rate("plasticity.rate", self.rate))
        _to_floats(self, "plasticity", "gamma", "momentum")
        require(
            math.isfinite(self.gamma) and self.gamma > 0,
            "plasticity.gamma",
            self.gamma,
            "finite and > 0",
        )
        require(
            0 <= self.momentum < 1, "plasticity.momentum", self.momentum, "at least 0 and below 1"
        )

    def step_momentum(self, response: Response) -> float:
        """The factor that momentum keeps in one step of `response.dt`."""
        return float(self.momentum**response.dt)

    def at(self, t: Array) -> Array:
        """eta at an array of times."""
        return evaluate(cast(Rate, self.rate), t)

    def step_rates(self, response: Response, first: int, count: int, steps: int) -> Array:
        """eta of each step of presentations first, ..., first + count - 1: (steps, count)."""
        presentations = np.arange(first, first + count, dtype=float)
        t = np.arange(steps)[:, None] * response.dt + presentations * (response.steps * response.dt)
        etas = self.at(t)
        if response.dt == 1:
            return etas
        return etas * (response.dt * (1 - self.step_momentum(response)) / (1 - self.momentum))
