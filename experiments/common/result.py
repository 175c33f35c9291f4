"""What commands and experiments give: a folder of results, and what came out."""

from __future__ import annotations

import atexit
import itertools
import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import InvalidArgument


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


def refuse_existing(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Refuse to replace results unasked."""
    taken = next((path for path in paths if path.exists()), None)
    if taken is not None and not overwrite:
        raise InvalidArgument(f"{taken} exists already: choose another --out, or pass --overwrite")


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
