"""Tables, figures and a CSV file of a study: what `neurosim analyze` does with its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis import collect, figures
from analysis.sweeps import figures as sweep_figures
from analysis.sweeps.summary import best_points, choose_metric, over_seeds, rises
from experiments.common.result import Report, refuse_existing, results_folder, table
from neurosim.files import replacing

if TYPE_CHECKING:
    import pandas as pd

ROWS = 20  # of a printed table; all of them are in the CSV file


def analyze_study(
    study: Path, metric: str | None, name: str, out: Path | None, *, overwrite: bool
) -> Report:
    """Heat maps, lines with intervals over seeds, and the best point of every network."""
    points = collect(study)
    metric = choose_metric(points, metric)
    folder = results_folder(out, name)
    stem = folder / name
    targets = {kind: stem.with_name(f"{name}-{kind}") for kind in ("map", "lines")}
    path = stem.with_name(f"{name}.csv")
    taken = [p for t in targets.values() for p in figures.figure_paths(t)]
    refuse_existing([path, *taken], overwrite=overwrite)
    with replacing(path) as new:
        points.to_csv(new, lineterminator="\n")
    drawn = []
    for kind, draw in (("map", sweep_figures.heat_maps), ("lines", sweep_figures.lines)):
        if (figure := draw(points, metric)) is not None:
            drawn += figures.save(figure, targets[kind])
    means, best = over_seeds(points, metric), best_points(points, metric)
    counts = points["status"].value_counts().to_dict()
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    lines = [f"{study}: a study of {points.attrs['study']}, {said}", ""]
    lines += [f"{metric}, mean over seeds with 95% intervals:", *shown(means)]
    which = "highest" if rises(metric) else "lowest"
    where = " on validation" if _validated(points) else ""
    lines += ["", f"best{where}, by the {which} {metric}", *shown(best)]
    values = {"metric": metric, "points": counts, "means": means.to_dict("records"),
              "best": best.to_dict("records")}  # fmt: skip
    return Report(name, folder, drawn, lines, values, table=path)


def _validated(points: pd.DataFrame) -> bool:
    """Whether metrics are of images held out of training, not of the test set."""
    return "validation" in points.columns and bool((points["validation"] > 0).all())


def shown(found: pd.DataFrame) -> list[str]:
    """The first rows of a table as text."""
    rows = [
        [f"{v:.6g}" if isinstance(v, float) else str(v) for v in row]
        for row in found.head(ROWS).itertuples(index=False)
    ]
    more = [f"... and {len(found) - ROWS} more in the CSV file"] if len(found) > ROWS else []
    return [*table(list(found.columns), rows), *more]
