"""Which sleeps does a network survive, and which does it profit from? (A study of ours.)

Claim: a network can sleep by the circuit itself, and learn as well as by the mean, if inhibition
is strong, the sleep lasts minutes and synaptic scaling returns what inhibition takes.

The papers replace the sleep of their networks by the grids' means. The circuit does two things
that the mean does not: it leaves part of the deviations, exp(-l) of them after a sleep of length
l, and with finite inhibition it also shrinks the mean weights, by about exp(-l g_mean / g_dev)
(`dynamics.theory.response_gains`). This study trains the translated digits' network with the real
circuit as its sleep, over inhibition, length, pull toward the start, per-neuron noise and
synaptic scaling, beside the instant mean and no sleep at all. For each it also prints what one
sleep does to deviations and to the mean, averaged over the layers' operators.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from experiments.common.options import TrainingOptions
from experiments.common.result import Report, table
from experiments.common.variants import Outcome, Variant, report, run_variants
from experiments.dynamic_sharing.digits import variants as digits_variants
from neurosim.errors import require
from neurosim.models import simple
from neurosim.sleep import Circuit, Patterns, local_layers
from neurosim.sleep.patterns import TileShape
from neurosim.training import SleepSettings

Scaling = Literal["none", "neuron", "grid", "layer"]


@dataclass(frozen=True)
class SleepStudy:
    """A grid of circuits: every combination of the listed values is one row."""

    alphas: tuple[float, ...] = (10.0, 30.0, 100.0)
    """Strengths of inhibition."""
    presentations: tuple[int, ...] = (1000, 4000)
    """Lengths of a sleep in patterns of 150 ms each: 400 are a minute."""
    gammas: tuple[float, ...] = (1e-2,)
    """Pulls toward the weights at the start of the sleep."""
    noises: tuple[float, ...] = (0.0,)
    """Standard deviations of per-neuron noise; such sleeps are stepped, neuron by neuron."""
    scalings: tuple[Scaling, ...] = ("none", "layer")
    """Homeostatic scaling after a sleep."""
    every: int = 1
    """Epochs (of 10 batches) between sleeps."""
    dt: float = 0.25
    """Step of the circuit's ODE in ms."""

    def check(self) -> None:
        """Refuse an empty axis."""
        for name in ("alphas", "presentations", "gammas", "noises", "scalings"):
            require(getattr(self, name), f"--{name}", getattr(self, name), "one or more values")


def variants(study: SleepStudy, options: TrainingOptions) -> list[Variant]:
    """No sleep, the instant mean, then the grid."""
    rows = {variant.name: variant for variant in digits_variants(options)}
    instant = replace(rows["ws10"].settings.sleep, every=study.every)
    base = rows["ws10"].settings
    found = [
        Variant("none", replace(base, sleep=SleepSettings())),
        Variant("instant", replace(base, sleep=instant)),
    ]
    axes = (study.alphas, study.presentations, study.gammas, study.noises, study.scalings)
    for alpha, length, gamma, noise, scaling in itertools.product(*axes):
        name = f"alpha{alpha:g}-{length}"
        name += f"-gamma{gamma:g}" if len(study.gammas) > 1 else ""
        name += f"-noise{noise:g}" if len(study.noises) > 1 else ""
        name += f"-scale_{scaling}" if scaling != "none" else ""
        sleep = SleepSettings(
            sleep="circuit",
            every=study.every,
            unit="epochs",
            alpha=alpha,
            presentations=length,
            gamma=gamma,
            sleep_noise=noise,
            dt=study.dt,
            scaling=None if scaling == "none" else scaling,
        )
        found.append(Variant(name, replace(base, sleep=sleep)))
    return found


def run(study: SleepStudy, options: TrainingOptions) -> Report:
    """Train with the real circuit as the sleep: which sleeps does a network profit from?

    Args:
        study: The circuits.
        options: What to train on, how long, and where results go.
    """
    study.check()
    folder, outcomes = run_variants("sleep", variants(study, options), options, (0, 1, 2))
    found = report("sleep", folder, outcomes, {})
    header = ["variant", "sleep, min", "deviations left", "mean left", "top-1", "max-min"]
    rows, values = [], []
    for outcome in outcomes:
        top1 = 100 * outcome.last("top1")
        minutes, deviation, mean = one_sleep(outcome)
        shown = ["-" if np.isnan(v) else f"{v:.3g}" for v in (minutes, deviation, mean)]
        rows.append([outcome.variant.name, *shown, f"{top1.mean():.1f}", f"{np.ptp(top1):.1f}"])
        values.append({"variant": outcome.variant.name, "deviation": deviation, "mean": mean})
    found.lines = table(header, rows)
    found.values["sleeps"] = values
    return found


def one_sleep(outcome: Outcome) -> tuple[float, float, float]:
    """Minutes of a sleep, and the root mean square factors on deviations and on means.

    Factors are averaged over layers: |T|_F / sqrt(D) for each operator T, which is what is left
    of weights in random directions.
    """
    built = outcome.variant.settings.sleep.build()
    if built is None or not isinstance(circuit := built[0].mechanism, Circuit):
        return np.nan, np.nan, np.nan
    deviations, means = [], []
    for layer in local_layers(simple(connectivity="local")).values():
        shape = TileShape(layer.groups, layer.in_channels // layer.groups, layer.kernel_size)
        operator = circuit.operator(Patterns(), shape)
        size = shape.dimension**0.5
        deviations.append(float(torch.linalg.matrix_norm(operator.deviation).mean()) / size)
        means.append(float(torch.linalg.matrix_norm(operator.mean).mean()) / size)
    return circuit.minutes, float(np.mean(deviations)), float(np.mean(means))
