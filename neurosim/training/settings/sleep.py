"""When and how the network sleeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from neurosim.dynamics import RateCircuit
from neurosim.errors import InvalidArgument, require
from neurosim.sleep import (
    AtSteps,
    BelowSNR,
    Circuit,
    EveryBatches,
    EveryEpochs,
    Hebbian,
    Instant,
    Layerwise,
    Patterns,
    Schedule,
    Sleep,
)
from neurosim.sleep.share import Mechanism
from neurosim.training.settings.values import check_values, refuse_changed

# Settings of a sleep that only some mechanisms know.
MECHANISM = ("presentations", "alpha", "gamma", "rate", "dt", "redraw")


@dataclass(frozen=True)
class SleepSettings:
    """When and how the network sleeps."""

    sleep: Literal["none", "instant", "hebbian", "circuit", "layerwise"] = "none"
    """The grids' means (instant), Eq. 4 (hebbian), the rate circuit of Eq. 8 (circuit), or Eq. 4
    with patterns that every layer makes for the next (layerwise, Sec. 4.1)."""
    every: int = 10
    """The n of ws(n): sleep after the first of every n batches (or after every n epochs)."""
    unit: Literal["batches", "epochs"] = "batches"
    """What --every counts."""
    phase: Literal["epoch", "global"] = "epoch"
    """Count batches within the epoch, as published, or over the whole run."""
    at_steps: tuple[int, ...] = ()
    """Sleep after the steps of these numbers instead, counted from 0."""
    below_snr: float | None = None
    """Sleep when a layer's SNR is below this instead; looked at every --every steps."""
    border: Literal["share", "exclude"] = "share"
    """Whether positions at the image's border sleep too."""
    scaling: Literal["neuron", "grid", "layer"] | None = None
    """Norms that return after a sleep to what they were before it."""
    sleep_noise: float = 0.0
    """Noise of every neuron's own (App. A.3); such sleeps step every neuron."""
    patterns: Literal["gaussian", "rectified", "one-hot"] = "gaussian"
    """What lateral connections show during a sleep."""
    redraw: int | None = None
    """Draw new patterns every so many sleeps (default: the same every time, which is quick, but
    what a sleep of the circuit does unequally to directions of the mean weight then adds up)."""
    presentations: int | None = None
    """Patterns shown by the circuit (default: 4000), or batches of them by hebbian (100) and
    layerwise (1000)."""
    alpha: float | None = None
    """Inhibition of the circuit (default: 100)."""
    gamma: float | None = None
    """Pull toward the weights at the start of the sleep (default: 0.01 circuit, 1e-5 hebbian,
    0.001 layerwise)."""
    rate: float | None = None
    """Rate of plasticity (default: 8e-6 circuit, 0.1 hebbian, 1 layerwise)."""
    dt: float | None = None
    """Step of the circuit's ODE in ms (default: 0.25); strong inhibition needs a small one."""
    moments: Literal["keep", "share"] = "keep"
    """The optimizer's moments at a sleep: kept, as published, or averaged like the weights."""
    batch_norm: Literal["keep", "recalibrate"] = "keep"
    """Running statistics after a sleep: kept, as published, or measured again before evaluation."""

    def build(self, shape: tuple[int, ...] | None = None) -> tuple[Sleep, Schedule] | None:
        """The sleep and its schedule; None for a network that never sleeps.

        `shape` is an image's, (channels, *size), which `Layerwise` makes of tiles; by default it
        is what the first locally connected layer takes.
        """
        check_values(self)
        require(self.every >= 1, "--every", self.every, ">= 1")
        if self.sleep == "none":
            self._refuse(*(field.name for field in fields(self) if field.name != "sleep"))
            return None
        builders: dict[str, Callable[[], Mechanism]] = {
            "instant": self._instant,
            "hebbian": self._hebbian,
            "circuit": self._circuit,
            "layerwise": self._layerwise,
        }
        mechanism = builders[self.sleep]()
        if isinstance(mechanism, Layerwise):
            mechanism = replace(mechanism, input_shape=shape)
        patterns = Patterns(self.patterns)
        sleep = Sleep(mechanism, self.border, patterns, self.sleep_noise, self.scaling)
        return sleep, self._schedule()

    def _schedule(self) -> Schedule:
        if self.at_steps and self.below_snr is not None:
            raise InvalidArgument("--at-steps and --below-snr exclude each other: give one")
        if self.at_steps:
            refuse_changed(self, ("every", "unit", "phase"), "means nothing with --at-steps")
            return AtSteps(self.at_steps)
        if self.below_snr is not None:
            refuse_changed(self, ("unit", "phase"), "means nothing with --below-snr")
            return BelowSNR(self.below_snr, self.every)
        if self.unit == "epochs":
            refuse_changed(self, ("phase",), "means nothing with --unit epochs")
            return EveryEpochs(self.every)
        return EveryBatches(self.every, self.phase)

    def _instant(self) -> Instant:
        self._refuse("patterns", *MECHANISM)
        return Instant()

    def _hebbian(self) -> Hebbian:
        return Hebbian(redraw=self.redraw, **self._of_eq4())

    def _layerwise(self) -> Layerwise:
        return Layerwise(redraw=self.redraw, **self._of_eq4())

    def _of_eq4(self) -> dict[str, Any]:
        """What was given for a sleep without a response of its own."""
        self._refuse("alpha", "dt")
        given = {"steps": self.presentations, "rate": self.rate, "gamma": self.gamma}
        return {name: value for name, value in given.items() if value is not None}

    def _circuit(self) -> Circuit:
        default = Circuit()
        response, plasticity = default.response, default.plasticity
        assert isinstance(response, RateCircuit)
        if self.dt is not None:
            response = response.with_dt(self.dt)
        if self.alpha is not None:
            response = replace(response, alpha=self.alpha)
        if self.rate is not None:
            plasticity = replace(plasticity, rate=self.rate)
        if self.gamma is not None:
            plasticity = replace(plasticity, gamma=self.gamma)
        shown = default.presentations if self.presentations is None else self.presentations
        return Circuit(response, plasticity, shown, self.redraw)

    def _refuse(self, *names: str) -> None:
        refuse_changed(self, names, f"means nothing to --sleep {self.sleep}")
