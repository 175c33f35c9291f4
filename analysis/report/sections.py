"""What the page says of a run: charts, pictures, statistics of sleeps, where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.convergence.names import setting_name
from analysis.convergence.snr import ConvergenceCurves, log_inverse_snr
from analysis.report.charts import COLOURS, MOST_LINES, Chart, Line, chart
from analysis.report.markup import Markup, element, joined, listed, table
from analysis.report.pictures import filter_pictures, is_shown, middle
from analysis.training import SleepDecay, TrainingCurves, recorded_series, sleep_decay
from analysis.trajectories.filters import RADII, all_radii, filter_distances
from analysis.trajectories.series import (
    Trajectory,
    Wanted,
    evenly,
    title,
    trajectory,
)
from analysis.trajectories.weights import (
    RecordedLayer,
    chosen_layers,
    has_weights,
    read_weight,
)
from neurosim.recording import RunReader

STEPS = "optimizer steps"
NO_WEIGHTS = "The run holds no weights: record them with neurosim train --snapshot-every N."
# Measures besides distances between filters, and what their axes say.
AXES = {
    "convolution_distance": "distance / norm",
    "explained_by_grids": "share of variance",
    "effective_rank": "rank",
    "drift": "distance / norm",
}


@dataclass(frozen=True)
class PageSettings:
    """What is shown of a run; of more there would be too much to load and to see."""

    layers: tuple[str, ...] | None = None  # patterns; all without any, up to seven
    radii: tuple[int, ...] = RADII
    snapshots: int = 12
    pictured: int = 4  # layers with pictures of filters
    channels: int = 4  # output channels of each


def training_section(run: RunReader, curves: TrainingCurves, settings: PageSettings) -> Markup:
    """All about a training run."""
    local = some(curves.layers, COLOURS)
    parts = [
        element("h3", "Learning"),
        _charts(*_learning(curves)),
        *_equality(curves, local),
        *_weights(run, curves, settings),
        *_sleeps(curves, local),
        provenance(run),
    ]
    return joined(parts)


def study_section(run: RunReader, study: ConvergenceCurves) -> Markup:
    """All about a convergence study."""
    names = [setting_name(study, number) for number in range(len(study.mean))]
    chosen = evenly(len(names), COLOURS)
    shown = chart(
        Chart(
            "−log SNR", "presentations", "−log SNR",
            [Line(names[g], study.presentations, study.mean[g]) for g in chosen],
        )
    )  # fmt: skip
    rows = [
        [names[g], f"{study.mean[g, -1]:.3f}",
         *(f"{float(log_inverse_snr(limit[g])):.3f}" for limit in study.limits.values())]
        for g in evenly(len(names), 200)
    ]  # fmt: skip
    header = ["setting", "final −log SNR", *(f"limit {name}" for name in study.limits)]
    ends = table(header, rows, "Where settings end")
    return joined([element("div", shown, class_="charts"), ends, provenance(run)])


def overview(runs: Mapping[str, TrainingCurves]) -> Markup:
    """Training runs side by side; nothing where there is none."""
    if not runs:
        return Markup("")
    rows = []
    for name, curves in runs.items():
        cells: list[object] = [name, curves.status, curves.seed, len(curves.sleeps)]
        last = [curves.epochs[-1], 100 * curves.top1[-1]] if len(curves.epochs) else []
        rows.append([*cells, *(f"{value:.4g}" for value in last or [])])
    found = table(
        ["run", "status", "seed", "sleeps", "epochs", "top-1 in %"], rows, "Training runs"
    )
    if len(runs) == 1:
        return found
    chosen = some(list(runs), MOST_LINES)
    accuracy = [Line(name, runs[name].epochs, runs[name].top1) for name in chosen]
    spread = [
        Line(name, *recorded_series(runs[name], runs[name].layers[0], "spread"))
        for name in chosen
        if runs[name].layers
    ]
    return joined(
        [
            found,
            _shown_of(chosen, list(runs), "runs"),
            _charts(
                Chart("Accuracy", "epochs", "top-1 accuracy", accuracy),
                Chart("Spread within grids, first local layer", STEPS, "spread", spread),
            ),
        ]
    )


def provenance(run: RunReader) -> Markup:
    """Configuration and environment."""
    about = run.attributes
    environment = {
        "file": run.path.name,
        "status": f"{run.status}{f': {run.message}' if run.message else ''}",
        "created": run.created,
        "seed": run.seed,
        "host": about.get("host", ""),
        "device": about.get("device", ""),
        "python": about.get("python", "unknown"),
        "neurosim": about.get("code_version", "unknown"),
        "commit": about.get("git_commit") or "unknown",
        "libraries": run.libraries,
    }
    config = run.config if isinstance(run.config, Mapping) else {"config": run.config}
    return joined(
        [
            element("details", element("summary", "Configuration"), listed(config)),
            element("details", element("summary", "Environment"), listed(environment)),
        ]
    )


def some(names: Sequence[str], most: int) -> list[str]:
    """At most so many of the names, evenly spaced."""
    return [names[i] for i in evenly(len(names), most)]


def _charts(*drawn: Chart) -> Markup:
    return element("div", *map(chart, drawn), class_="charts")


def _learning(curves: TrainingCurves) -> list[Chart]:
    epochs = curves.epochs
    accuracy = [Line("top-1", epochs, curves.top1), Line("top-5", epochs, curves.top5)]
    return [
        Chart("Accuracy", "epochs", "accuracy on held-out images", accuracy),
        Chart("Training loss", STEPS, "loss", [Line("training", curves.steps, curves.loss)]),
        Chart("Held-out loss", "epochs", "loss", [Line("held out", epochs, curves.test_loss)]),
    ]


def _equality(curves: TrainingCurves, layers: Sequence[str]) -> list[Markup]:
    """SNR and spread of every layer with the sleeps marked."""
    if not layers:
        return []
    snr, spread = [], []
    for name in layers:
        steps, values = recorded_series(curves, name, "inverse_snr")
        snr.append(Line(name, steps, log_inverse_snr(values)))
        spread.append(Line(name, *recorded_series(curves, name, "spread")))
    heading = element("h3", "How equal filters are")
    return [
        heading,
        _shown_of(layers, curves.layers),
        _charts(
            Chart("−log SNR over interior positions", STEPS, "−log SNR", snr, curves.sleeps),
            Chart("Spread within grids", STEPS, "spread", spread, curves.sleeps),
        ),
    ]


def _shown_of(shown: Sequence[str], known: Sequence[str], what: str = "layers") -> Markup:
    if len(shown) == len(known):
        return Markup("")
    return element("p", f"{len(shown)} of {len(known)} {what} are shown.", class_="quiet")


def _weights(run: RunReader, curves: TrainingCurves, settings: PageSettings) -> list[Markup]:
    """What snapshots tell: distances, measures, pictures."""
    heading = element("h3", "Filters")
    if not has_weights(run):
        return [heading, element("p", NO_WEIGHTS, class_="quiet")]
    known = [layer for layer in chosen_layers(run, settings.layers).values() if layer.is_local]
    if not known or not len(run["snapshot"]):
        return [heading, element("p", "No weights of locally connected layers.", class_="quiet")]
    layers = [known[i] for i in evenly(len(known), COLOURS)]
    wanted = Wanted(radii=settings.radii, at_most=settings.snapshots)
    found = [trajectory(run, layer, wanted) for layer in layers]
    distances = [f"{kind}_{r}" for r in settings.radii for kind in ("euclidean", "cosine")]
    return [
        heading,
        _shown_of([layer.name for layer in layers], [layer.name for layer in known]),
        _pictures(run, layers, settings),
        element("h3", "Distances between filters"),
        _charts(
            *(_over_steps(name, found, curves) for name in distances),
            *(c for c in [_over_radii(run, layers[0])] if c),
        ),
        element("h3", "What weights did"),
        _charts(*(_over_steps(name, found, curves) for name in AXES)),
    ]


def _pictures(run: RunReader, layers: Sequence[RecordedLayer], settings: PageSettings) -> Markup:
    """Pictures of some layers and the slider that moves them through time."""
    pictured = [layer for layer in layers if is_shown(layer)]
    pictured = [pictured[i] for i in evenly(len(pictured), settings.pictured)]
    if not pictured:
        return Markup("")
    steps = run["snapshot"]
    chosen = evenly(len(steps), settings.snapshots)
    times = [int(steps[number]) for number in chosen]
    last = len(times) - 1
    bar = element("input", type="range", min=0, max=last, step=1, value=last, data_steps=str(times))
    slider = element(
        "div",
        element("label", "Time", bar),
        element("output", f"after step {times[-1]}"),
        class_="slider",
    )
    shown = [
        element(
            "div",
            element("h4", layer.name),
            element("p", _described(layer), class_="quiet"),
            filter_pictures(run, layer, chosen, settings.channels),
        )
        for layer in pictured
    ]
    return element("div", slider, *shown)


def _described(layer: RecordedLayer) -> str:
    rows, columns = map(middle, layer.size)
    part = "Every tile is the filter of a position"
    if (rows.stop - rows.start, columns.stop - columns.start) != layer.size:
        part += f", of those in rows {rows.start} to {rows.stop - 1}"
        part += f" and columns {columns.start} to {columns.stop - 1}"
    if layer.inputs == 3:
        return f"{part}; its three inputs are red, green and blue."
    of = " on the first input" if layer.inputs > 1 else ""
    return f"{part}{of}; red is positive, blue negative."


def _over_steps(measure: str, found: Sequence[Trajectory], curves: TrainingCurves) -> Chart:
    lines = [Line(each.layer, each.steps, each.values[measure]) for each in found]
    name = title(measure)
    return Chart(
        name[0].upper() + name[1:], STEPS, AXES.get(measure, "distance"), lines, curves.sleeps
    )


def _over_radii(run: RunReader, layer: RecordedLayer) -> Chart | None:
    """Distance over the radius, at the first, a middle and the last snapshot."""
    radii = all_radii(layer.size)
    if len(radii) < 2:
        return None
    steps, lines = run["snapshot"], []
    for number in evenly(len(steps), 3):
        filters = read_weight(run, layer, number).reshape(*layer.size, -1)
        found = filter_distances(filters, radii)
        lines.append(Line(f"step {steps[number]}", radii, found.euclidean))
    name = f"Euclidean distance over radius, {layer.name}"
    return Chart(name, "radius in positions", "Euclidean distance", lines)


def _sleeps(curves: TrainingCurves, layers: Sequence[str]) -> list[Markup]:
    """What every sleep left of the spread, and how it grew again."""
    heading, found = element("h3", "Sleeps"), sleep_decay(curves)
    if not len(curves.sleeps):
        return [heading, element("p", "The network did not sleep.", class_="quiet")]
    if not len(found.steps):
        text = f"{len(curves.sleeps)} sleeps, without statistics around them."
        return [heading, element("p", text, class_="quiet")]
    numbers = [curves.layers.index(name) for name in layers]
    names = dict(zip(numbers, layers, strict=True))
    charts = [
        Chart(
            name, STEPS, "ratio",
            [Line(layer, found.steps, values[:, n]) for n, layer in names.items()],
            logarithmic=True,
        )
        for name, values in (
            ("Spread after a sleep / before it", found.decay),
            ("Spread before a sleep / after the last", found.regrowth),
        )
    ]  # fmt: skip
    return [heading, _charts(*charts), _sleep_table(curves, found)]


def _sleep_table(curves: TrainingCurves, found: SleepDecay) -> Markup:
    rows = []
    for number, name in enumerate(found.layers):
        cells = [
            _median(found.decay[:, number]),
            _median(found.regrowth[:, number]),
            _median(found.log_snr_gain[:, number]),
        ]
        rows.append([name, *cells])
    header = ["layer", "after / before", "before / after the last", "−log SNR reduced by"]
    caption = f"Medians over {len(found.steps)} of {len(curves.sleeps)} sleeps"
    return table(header, rows, caption)


def _median(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{np.median(known):.3g}" if len(known) else "-"
