"""One table of a study: configurations, metrics, and what became of every point."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.errors import InvalidArgument, require_choice
from neurosim.sweeps import StudyFolder, read_arrays, read_records

if TYPE_CHECKING:
    import pandas as pd

# Columns that every table has, after options and metrics, and those of means over seeds.
STATE = ("status", "error", "seconds", "attempts", "host", "finished", "file")
SUMMARY = ("mean", "low", "high", "runs")


def collect(folder: str | Path) -> pd.DataFrame:
    """One row for every point of a study, also of one that is being swept.

    The index is the point's name, the hash of its configuration. Then come its options (those at
    their default are filled in where any point differs; lists are tuples), its metrics, and STATE.
    A metric that has the name of an option, either that of a column of STATE, or an option that of
    SUMMARY, has a dot behind it. `attrs` says which are which.
    """
    import pandas as pd

    home = StudyFolder.open(folder)
    usual = home.about()["defaults"]
    options: dict[str, list[Any]] = {}
    metrics: dict[str, list[Any]] = {}
    state: dict[str, list[Any]] = {name: [] for name in STATE}
    points: list[str] = []
    for record in read_records(home.index):
        before, count = len(points), len(record.points)
        points += record.points
        spread = {name: [value] * count for name, value in record.fixed.items()} | record.varying
        _extend(options, spread, before, count, usual)
        _extend(metrics, record.metrics, before, count, {})
        same = {"status": record.status, "host": record.host, "finished": record.finished,
                "file": record.file}  # fmt: skip
        columns = {"error": record.errors, "seconds": record.seconds, "attempts": record.attempts}
        missing = {"error": "", "seconds": np.nan, "attempts": 1}
        for name, value in same.items():
            state[name] += [value] * count
        for name, values in columns.items():
            state[name] += values or [missing[name]] * count
    options = {name: [_frozen(v) for v in values] for name, values in options.items()}
    options = _renamed(options, {*STATE, *SUMMARY})
    metrics = _renamed(metrics, {*options, *STATE})
    table = pd.DataFrame({**options, **metrics, **state}, index=pd.Index(points, name="point"))
    table = table.loc[~table.index.duplicated(keep="last")]  # the last word about a point
    table["finished"] = pd.to_datetime(table["finished"], unit="s", utc=True)
    table.attrs = {"study": home.about()["study"], "options": [*options], "metrics": [*metrics]}
    return table


def collect_array(
    folder: str | Path, name: str, points: Iterable[str] | None = None
) -> dict[str, np.ndarray]:
    """An array of every finished point, or of those given, by the point's name.

    Of runs that have files of their own it is a dataset of theirs, such as "top1".
    """
    home, found, wanted = StudyFolder.open(folder), {}, None if points is None else set(points)
    files: dict[str, list[str]] = {}
    for record in read_records(home.index):
        if record.file is not None:
            files.setdefault(record.file, []).extend(record.points)
    for file, keys in files.items():
        chosen = [key for key in keys if wanted is None or key in wanted]
        if chosen:
            if not file.endswith(".h5"):
                raise InvalidArgument(f"{home.path / file}: holds the run files of an experiment")
            arrays = read_arrays(home.path / file, name)
            found |= {key: arrays[key] for key in chosen}
    for key in wanted or ():
        require_choice("point", key, found)
    return found


def _frozen(value: Any) -> Any:
    """Lists as tuples, by which points can be grouped."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _renamed(columns: dict[str, list[Any]], taken: Collection[str]) -> dict[str, list[Any]]:
    return {f"{name}." if name in taken else name: values for name, values in columns.items()}


def _extend(
    table: dict[str, list[Any]],
    columns: dict[str, list[Any]],
    before: int,
    count: int,
    missing: dict[str, Any],
) -> None:
    """Add rows to a table of columns, some of which may be new and others be left out."""
    for name in columns:
        if name not in table:
            table[name] = [missing.get(name, np.nan)] * before
    for name, values in table.items():
        values += columns.get(name) or [missing.get(name, np.nan)] * count
