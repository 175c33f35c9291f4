"""Scores as a table of models and regions: text, CSV, LaTeX and a figure.

A cell is the ceiled score where the region has a ceiling, else the raw one, which is marked.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import matplotlib.style
import numpy as np
from matplotlib.figure import Figure

from analysis.benchmark.scoring import Score, average
from analysis.figures import STYLE, new_figure

RAW = "*"
NOTE = f"{RAW} raw: no repetitions or subjects to take a ceiling from"


def models(scores: Sequence[Score]) -> list[str]:
    """Rows of the table."""
    return list(dict.fromkeys(found.model for found in scores))


def regions(scores: Sequence[Score]) -> list[str]:
    """Columns of the table."""
    return list(dict.fromkeys(found.region for found in scores))


def shown(found: Score) -> tuple[float, float]:
    """What a cell says, and its standard error."""
    if math.isnan(found.score):
        return found.raw, found.error
    return found.score, found.score_error


def cells(scores: Sequence[Score], plus_minus: str = "±") -> list[list[str]]:
    """Header and rows; the average first, as in Brain-Score."""
    means, columns = average(scores), regions(scores)
    whole = all(of_scores for _, of_scores in means.values())
    marks = {region: "" if _ceiled(scores, region) else RAW for region in columns}
    rows = [["model", "average" + ("" if whole else RAW), *(r + marks[r] for r in columns)]]
    held = {(found.model, found.region): found for found in scores}
    for model in models(scores):
        row = [model, _number(means[model][0])]
        for region in columns:
            value, error = (
                shown(held[model, region]) if (model, region) in held else (math.nan,) * 2
            )
            spread = "" if math.isnan(error) else f" {plus_minus} {_number(error)}"
            row.append("-" if math.isnan(value) else _number(value) + spread)
        rows.append(row)
    return rows


def write_csv(path: Path, scores: Sequence[Score]) -> Path:
    """One line for every model and region, with everything that is known."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Score)])
        for found in scores:
            values = asdict(found).values()
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else v for v in values])
    return path


def latex(scores: Sequence[Score]) -> str:
    """A tabular environment."""
    header, *rows = ([_escaped(cell) for cell in row] for row in cells(scores, r"\pm"))
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\hline"]
    lines += [" & ".join(header) + r" \\", r"\hline"]
    for row in rows:
        lines.append(" & ".join([row[0], *(f"${cell}$" for cell in row[1:])]) + r" \\")
    return "\n".join([*lines, r"\hline", r"\end{tabular}", ""])


def figure(scores: Sequence[Score]) -> Figure:
    """A group of bars for every region, with standard errors."""
    rows, columns = models(scores), regions(scores)
    held = {(found.model, found.region): shown(found) for found in scores}
    nothing = (math.nan, math.nan)
    with matplotlib.style.context(STYLE):
        drawn = new_figure(1.6 + 1.2 * len(columns) + 0.15 * len(rows) * len(columns), 2.8)
        ax = drawn.subplots()
        width = 0.8 / len(rows)
        for number, model in enumerate(rows):
            values, errors = np.array([held.get((model, r), nothing) for r in columns]).T
            left = np.arange(len(columns)) + (number - (len(rows) - 1) / 2) * width
            bars = np.where(np.isnan(errors), 0, errors)
            ax.bar(left, values, width, yerr=bars, color=f"C{number % 10}", label=model,
                   error_kw={"lw": 0.8}, hatch="//" if number >= 10 else None)  # fmt: skip
        labels = [r if _ceiled(scores, r) else f"{r}\n(raw)" for r in columns]
        ax.set_xticks(np.arange(len(columns)), labels)
        ax.axhline(0, color="0.3", lw=0.6)
        ax.set_ylabel("score")
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def _ceiled(scores: Sequence[Score], region: str) -> bool:
    return not any(math.isnan(found.score) for found in scores if found.region == region)


def _number(value: float) -> str:
    return f"{value:.3f}"


def _escaped(text: str) -> str:
    for sign in ("_", "%", "&", "#"):
        text = text.replace(sign, "\\" + sign)
    return text
