"""Routes to shared weights, in one figure: data, sleep, low rank. (A study of ours.)

Claim: translated images make a free network's filters alike and its answers invariant to
translation, slowly and without any mechanism; sleep makes filters alike at once, within grids, and
raises accuracy where convolution would, but invariance only as far as convolution has it.

The protocol is that of Table 1. The routes: "data", free networks trained on images translated
ever farther; "sleep", free networks trained on images as they are that share weights every n
batches (ws(n), the mean over each grid) or after every epoch through ten minutes of the rate
circuit, whose scaling returns to each layer its norm; "both", sleep and translated images; "low
rank", layers whose filters are mixtures of few, which start as convolutions; and the convolutional
network. Networks that sleep keep a bias per position, which no sleep shares.
None of the papers compares the two.

Filters are compared twice. Distances to neighbours are the published measure, which sees little of
sleep: a sleep's grids have a period of three positions, and neighbours are never in one. The
share of weights that is not the grid's mean, relative to what it was at first, is what a sleep
takes away; it falls only as far as translated images make distant filters alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from analysis.statistics import t_interval
from analysis.training import TrainingCurves, figures
from experiments.common.result import Report, table
from experiments.free_conv.protocol import Cell, FreeOptions, Result, run_cells
from experiments.free_conv.results import over_epochs, report
from neurosim.errors import require
from neurosim.training import SleepSettings, TrainSettings

CIRCUIT = SleepSettings(sleep="circuit", every=1, unit="epochs", scaling="layer")
AXES = {
    "val_acc": "accuracy",
    "translation": "translated 25%",
    "cos_1": "distance at radius 1",
    "unshared": "unshared within grids",
}


@dataclass(frozen=True)
class Routes:
    """Which routes are taken, and how far."""

    intervals: tuple[int, ...] = (1, 10, 100)
    """The n of ws(n): batches between sleeps, counted within the epoch."""
    circuit: bool = True
    """Also sleep by the rate circuit itself, after every epoch."""
    ranks: tuple[int, ...] = (1, 2, 4)
    """Filter banks of low-rank layers, trained on images as they are."""
    both: float = 0.2
    """Translation of the images on the route that takes both."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        for n in self.intervals:
            require(n >= 1, "--intervals", n, ">= 1")
        for rank in self.ranks:
            require(rank >= 1, "--ranks", rank, ">= 1")
        require(0 <= self.both < 1, "--both", self.both, "at least 0 and below 1")

    @property
    def sleeps(self) -> dict[str, SleepSettings]:
        """How networks sleep, by what they are called."""
        instant = {f"fcn-ws{n}": SleepSettings(sleep="instant", every=n) for n in self.intervals}
        return instant | ({"fcn-circuit": CIRCUIT} if self.circuit else {})

    @property
    def mixtures(self) -> dict[str, int]:
        """Ranks, by what the networks are called."""
        return {f"rank{rank}": rank for rank in self.ranks}

    def change(self, cell: Cell, settings: TrainSettings) -> TrainSettings:
        """What a network's route makes of its settings."""
        if (sleep := self.sleeps.get(cell.model)) is not None:
            return replace(settings, sleep=sleep)
        if (rank := self.mixtures.get(cell.model)) is not None:
            network = replace(settings.network, connectivity="low-rank", rank=rank)
            return replace(settings, network=network)
        return settings


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
    found += [Stop("low rank", name, cell(name, 0.0)) for name in routes.mixtures]
    return list({stop.cell: stop for stop in found}.values())


def run(routes: Routes, options: FreeOptions) -> Report:
    """Data, sleep, low rank as routes to shared weights: accuracy, invariance, filter distances.

    A small version for a CPU:
        neurosim reproduce free-routes --subset 8000 --test-subset 2000 --epochs 8 --held-out 0

    Args:
        routes: Which routes are taken, and how far.
        options: What to train on, how long, and where results go.
    """
    routes.check()
    planned = stops(routes, options)
    wanted = [stop.cell for stop in planned]
    folder, results = run_cells("free-routes", wanted, options, routes.change)
    values = measured(planned, results, options)
    points = [(v["route"], v["label"], {n: v[q][0] for q, n in AXES.items()}) for v in values]
    figure = figures.routes(points, AXES["translation"])
    found = report("free-routes", folder, results, (), options, {"free-routes": figure})
    header = ["route", "network", "runs", *AXES.values()]
    rows = [
        [*(str(v[name]) for name in ("route", "label", "runs")), *(v[q].text() for q in AXES)]
        for v in values
    ]
    found.lines, found.values["routes"] = table(header, rows), values
    return found


def measured(
    planned: Sequence[Stop], results: Sequence[Result], options: FreeOptions
) -> list[dict]:
    """What every network ends with: mean and 95% interval over its runs.

    Filters are those of the first layer; a convolution's have no distance.
    """
    by_cell = {result.cell: result for result in results}
    found = []
    for stop in planned:
        if stop.cell not in by_cell:
            continue
        row: dict = {"route": stop.route, "label": stop.label}
        result = by_cell[stop.cell]
        for quantity in ("val_acc", "translation", "cos_1"):
            runs = over_epochs(result, quantity, options)
            row[quantity] = t_interval(np.array([run[-1] for run in runs] or [0.0]))
        left = [unshared(run.curves) for run in result.runs]
        row["unshared"] = t_interval(np.array(left if stop.cell.model != "cnn" else [0.0]))
        found.append({**row, "runs": len(result.runs)})
    return found


def unshared(run: TrainingCurves) -> float:
    """Deviation from the grids' means over the norm of the first layer: the last, by the first.

    Records are of weights before a sleep; after one by the mean there is no deviation. NaN for
    low-rank layers, which have none at first.
    """
    if not run.layers:
        return np.nan
    share = run.statistics["spread"][:, 0] / run.statistics["norm"][:, 0]
    return float(share[-1] / share[0])
