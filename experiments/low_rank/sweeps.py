"""Accuracies against one quantity, a line for every kind of network; and their figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from analysis import figures
from analysis.training.figures import Point, against
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, table
from experiments.common.variants import Variant
from experiments.low_rank.study import SPLITS, Found, train_all, write_csv


def run_sweep(
    name: str,
    variants: Sequence[Variant],
    options: TrainingOptions,
    *,
    label: Callable[[Found], str],
    at: Callable[[Found], float],
    axis: str,
) -> Report:
    """Train all, and draw test accuracy (mean and SE over seeds) at `at`, one line per `label`.

    Networks without a rank, at NaN, are drawn as lines over the whole width.
    """
    folder, found = train_all(name, variants, options)
    lines: dict[str, list[Point]] = {}
    for one in found:
        lines.setdefault(label(one), []).append(Point(at(one), one.mean("test"), one.error("test")))
    path = write_csv(folder / f"{name}.csv", found)
    drawn = figures.save(against(lines, axis), folder / name)
    header = [axis, "network", "runs", *SPLITS, "paper test, best rank"]
    rows = []
    for one in found:
        paper = one.outcome.variant.published.get("test")
        cells = [f"{at(one):g}", label(one), str(len(one.outcome.runs))]
        cells += [one.text(split) for split in SPLITS]
        rows.append([*cells, "-" if paper is None else f"{paper:.2f}"])
    values: Mapping[str, object] = {
        one.name: {"at": at(one), **{split: one.top1(split) for split in SPLITS}} for one in found
    }
    return Report(name, folder, drawn, table(header, rows), {"networks": values}, table=path)


def by_rank(found: Found) -> float:
    """The rank; a convolution with a spatial bias has rank 1, and other networks none."""
    if found.rank is not None:
        return found.rank
    return 1 if found.row.startswith("bias") else float("nan")


def line_of(found: Found) -> str:
    """Rank 1 begins the line of its low-rank layers."""
    return found.row.replace("bias", "low-rank")
