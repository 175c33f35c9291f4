"""Scores of models on benchmarks: where they go, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from analysis import figures
from analysis.benchmark import table as score_table
from analysis.benchmark.scoring import Score, average
from experiments.common.result import Report, refuse_existing, results_folder, table
from neurosim.files import replacing, write_text


def scores_folder(name: str, out: Path | None, *, overwrite: bool) -> Path:
    """The folder for activations and tables; tables that are there are not replaced unasked."""
    folder = results_folder(out, name)
    stem = folder / name
    tables = [stem.with_suffix(suffix) for suffix in (".csv", ".tex")]
    refuse_existing([*tables, *figures.figure_paths(stem)], overwrite=overwrite)
    return folder


def report(name: str, folder: Path, scores: Sequence[Score]) -> Report:
    """A table of models and regions, as text, CSV, LaTeX and figure."""
    stem = folder / name
    path, latex = stem.with_suffix(".csv"), stem.with_suffix(".tex")
    with replacing(path) as new:
        score_table.write_csv(new, scores)
    write_text(latex, score_table.latex(scores))
    drawn = figures.save(score_table.figure(scores), stem)
    header, *rows = score_table.cells(scores)
    lines = table(header, rows)
    if any(score_table.RAW in cell for cell in header):
        lines.append(score_table.NOTE)
    detail = [
        [s.model, s.region, s.layer, s.metric, f"{s.raw:.3f}", f"{s.low:.3f} to {s.high:.3f}",
         f"{s.ceiling:.3f}", str(s.stimuli)]
        for s in scores
    ]  # fmt: skip
    header = ["model", "region", "layer", "metric", "raw", "95% interval", "ceiling", "stimuli"]
    lines += ["", *table(header, detail), "", f"LaTeX     {latex}"]
    values = {
        "scores": [asdict(found) for found in scores],
        "average": {model: mean for model, (mean, _) in average(scores).items()},
    }
    return Report(name, folder, drawn, lines, values, table=path)
