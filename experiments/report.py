"""What every experiment takes and gives: where results go, and what came out."""

from __future__ import annotations

import atexit
import itertools
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.figures import figure_paths
from neurosim.errors import InvalidArgument, require


@dataclass(frozen=True)
class RunOptions:
    """Where results go and how much is said on the way."""

    out: Path | None = None
    """Folder for the run file and figures (default: runs/NAME, or the next free runs/NAME-2)."""
    seed: int = 0
    """Seed of everything that is drawn."""
    threads: int | None = None
    """Populations simulated at once (default: all cores); results do not depend on it."""
    overwrite: bool = False
    """Replace results that are already in the folder."""
    quiet: bool = False
    """No progress and no table, only errors."""
    json: bool = False
    """Print the results as JSON on standard output instead of a table."""

    def check(self) -> None:
        """Refuse values that make no sense (not on construction, where tyro would reword it)."""
        require(0 <= self.seed < 2**63, "--seed", self.seed, ">= 0 and below 2^63")
        require(self.threads is None or self.threads >= 1, "--threads", self.threads, ">= 1")

    def run_file(self, name: str) -> Path:
        """NAME.h5 in the folder of results, which is made if need be; refuses to overwrite."""
        self.check()
        path = results_folder(self.out, name) / f"{name}.h5"
        drawn = figure_paths(path.with_suffix(""))
        taken = [p for p in (path, *drawn) if p.exists()]
        if taken and not self.overwrite:
            raise InvalidArgument(
                f"{taken[0]} exists already: choose another --out, or pass --overwrite"
            )
        for figure in drawn:  # a run that is cut short must not keep the old one's
            figure.unlink(missing_ok=True)
        return path


def results_folder(out: Path | None, name: str) -> Path:
    """The folder for results, made if need be: `out`, or the first free runs/NAME.

    One that was made and got no results is gone when the program ends.
    """
    folder, problem = out or Path("runs") / name, None
    try:
        if out is None:
            folder = _make_numbered(folder)
        elif not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)  # maybe by another process meanwhile
            atexit.register(_remove_empty, folder)
        elif not folder.is_dir():
            problem = "it is a file"
    except OSError as error:
        problem = error.strerror
    if problem is None and not os.access(folder, os.W_OK):
        problem = "permission denied"
    if problem:
        raise InvalidArgument(
            f"--out must be a folder that can be written to, got {str(folder)!r}: {problem}"
        )
    return folder


def _make_numbered(path: Path) -> Path:
    """Make the first of NAME, NAME-2, NAME-3 ... that is free; nobody else gets the same."""
    for number in itertools.count(1):
        folder = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            atexit.register(_remove_empty, folder)
            return folder
    raise AssertionError("numbers do not end")


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


@dataclass
class Report:
    """What an experiment found, for people (`lines`) and for programs (`values`)."""

    name: str
    run_file: Path  # or the folder of many
    figures: list[Path]
    lines: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    table: Path | None = None  # as CSV
    exit_code: int = 0  # of the command: not 0 where a part of it failed

    def text(self) -> str:
        """The table, and where everything is."""
        places = [f"{'folder   ' if self.run_file.is_dir() else 'run file '} {self.run_file}"]
        places += [f"table     {self.table}"] if self.table else []
        places += [f"figure    {path}" for path in self.figures]
        return "\n".join([*self.lines, "", *places])

    def as_json(self) -> str:
        """The same for programs."""
        places = {"run_file": str(self.run_file), "figures": [str(path) for path in self.figures]}
        if self.table:
            places["table"] = str(self.table)
        return as_json({"name": self.name, **places, **self.values})


def as_json(values: Any) -> str:
    """JSON of anything made of dictionaries, sequences, numpy arrays and scalars."""
    return json.dumps(_plain(values), indent=2)


def _plain(value: Any) -> Any:
    """The same value in JSON's types: no numpy, and null where there is no finite number."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines with columns aligned to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in [header, *rows]
    ]
