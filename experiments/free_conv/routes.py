"""Two routes to shared weights, in one figure: data and sleep. (A study of ours.)

Claim: translated images make a free network's filters alike and its answers invariant to
translation, slowly and without any mechanism; sleep makes filters alike at once, within grids, and
raises accuracy where convolution would, but invariance only as far as convolution has it.

The protocol is that of Table 1. The routes: "data", free networks trained on images translated
ever farther; "sleep", free networks trained on images as they are that share weights every n
batches (ws(n), the mean over each grid) or after every epoch through ten minutes of the rate
circuit, whose scaling returns to each layer its norm; "both", sleep and translated images; and
the convolutional network. Networks that sleep keep a bias per position, which no sleep shares.
None of the papers compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from analysis.training import figures
from experiments.free_conv.drift import t_interval
from experiments.free_conv.protocol import Cell, FreeOptions, Result, run_cells
from experiments.free_conv.results import over_epochs, report
from experiments.report import Report, table
from neurosim.errors import require
from neurosim.training import SleepSettings, TrainSettings

CIRCUIT = SleepSettings(sleep="circuit", every=1, unit="epochs", scaling="layer")
AXES = {"val_acc": "accuracy", "translation": "accuracy, translated 25%", "cos_1": "distance"}


@dataclass(frozen=True)
class Routes:
    """Which routes are taken, and how far."""

    intervals: tuple[int, ...] = (1, 10, 100)
    """The n of ws(n): batches between sleeps, counted within the epoch."""
    circuit: bool = True
    """Also sleep by the rate circuit itself, after every epoch."""
    both: float = 0.2
    """Translation of the images on the route that takes both."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        for n in self.intervals:
            require(n >= 1, "--intervals", n, ">= 1")
        require(0 <= self.both < 1, "--both", self.both, "at least 0 and below 1")

    @property
    def sleeps(self) -> dict[str, SleepSettings]:
        """How networks sleep, by what they are called."""
        instant = {f"fcn-ws{n}": SleepSettings(sleep="instant", every=n) for n in self.intervals}
        return instant | ({"fcn-circuit": CIRCUIT} if self.circuit else {})


class Stop(NamedTuple):
    """A network on a route."""

    route: str
    label: str
    cell: Cell


def stops(routes: Routes, options: FreeOptions) -> list[Stop]:
    """All networks, in the order of their routes."""
    dataset, strengths = options.dataset or "mnist", options.strengths or (0.0, 0.1, 0.2, 0.4)

    def cell(model: str, aug: float) -> Cell:
        return Cell(dataset, model, "translation", aug)

    found = [Stop("convolution", f"CNN {aug:g}", cell("cnn", aug)) for aug in (0.0, routes.both)]
    found += [Stop("data", f"{aug:g}", cell("fcn", aug)) for aug in strengths]
    for route, aug in (("sleep", 0.0), ("both", routes.both)):
        found += [Stop(route, name.removeprefix("fcn-"), cell(name, aug)) for name in routes.sleeps]
    return list({stop.cell: stop for stop in found}.values())


def run(routes: Routes, options: FreeOptions) -> Report:
    """Data, sleep or both as routes to shared weights: accuracy, invariance, filter distances.

    A small version for a CPU:
        neurosim reproduce free-routes --subset 8000 --test-subset 2000 --epochs 8 --held-out 0

    Args:
        routes: Which routes are taken, and how far.
        options: What to train on, how long, and where results go.
    """
    routes.check()
    planned = stops(routes, options)

    def asleep(cell: Cell, settings: TrainSettings) -> TrainSettings:
        sleep = routes.sleeps.get(cell.model)
        return settings if sleep is None else replace(settings, sleep=sleep)

    wanted = [stop.cell for stop in planned]
    folder, results = run_cells("free-routes", wanted, options, asleep)
    values = measured(planned, results, options)
    figure = figures.routes([(v["route"], v["label"], *_ends(v)) for v in values])
    found = report("free-routes", folder, results, (), options, {"free-routes": figure})
    header = ["route", "network", "runs", *AXES.values()]
    rows = [[str(v["route"]), str(v["label"]), str(v["runs"]), *_cells(v)] for v in values]
    found.lines, found.values["routes"] = table(header, rows), values
    return found


def measured(
    planned: Sequence[Stop], results: Sequence[Result], options: FreeOptions
) -> list[dict]:
    """What every network ends with: mean and 95% interval over its runs.

    The distance is the cosine distance at radius 1 of the first layer, before the last epoch; that
    of a convolution is 0.
    """
    by_cell = {result.cell: result for result in results}
    found = []
    for stop in planned:
        if stop.cell not in by_cell:
            continue
        row: dict = {"route": stop.route, "label": stop.label}
        for quantity in AXES:
            runs = over_epochs(by_cell[stop.cell], quantity, options)
            ends = np.array([run[-1] for run in runs]) if runs else np.zeros(1)
            row[quantity] = t_interval(ends)
        found.append({**row, "runs": len(by_cell[stop.cell].runs)})
    return found


def _ends(values: dict) -> tuple[float, float, float]:
    accuracy, invariance, distance = (values[quantity][0] for quantity in AXES)
    return accuracy, invariance, distance


def _cells(values: dict) -> list[str]:
    shown = []
    for quantity in AXES:
        mean, low, high = values[quantity]
        shown.append(f"{mean:.3f}" + ("" if np.isnan(low) else f" ({low:.3f} to {high:.3f})"))
    return shown
