"""The index of a study: what became of every point, appended and never changed.

Every sweep of a folder writes a segment of its own, `index/00000.jsonl`, `00001.jsonl`, ..., and
is its only writer. A line is what became of a batch of points, by columns. It is written at once
and a reader takes whole lines only, so a kill costs at most the line that was being written. Of
several lines about a point the last one counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurosim.errors import RunFileError
from neurosim.sweeps.options import Config

COMPLETE, FAILED = "complete", "failed"


@dataclass(frozen=True)
class Record:
    """What became of points that ran together: one line of the index."""

    status: str
    points: list[str]
    fixed: Config
    """Options that are the same for all of them."""
    varying: dict[str, list[Any]]
    """The other options, by column."""
    metrics: dict[str, list[Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    file: str | None = None
    """Where their arrays are, below the study's folder."""
    host: str = ""
    finished: float = 0.0
    """Seconds since 1970."""

    def config(self, number: int) -> Config:
        """The configuration of one of the points, as it was given."""
        return self.fixed | {name: column[number] for name, column in self.varying.items()}


def columns(configs: Sequence[Mapping[str, Any]]) -> tuple[Config, dict[str, list[Any]]]:
    """Options that are the same everywhere, and the columns of the others."""
    first = configs[0]
    fixed = {n: v for n, v in first.items() if all(config[n] == v for config in configs)}
    return fixed, {n: [config[n] for config in configs] for n in first if n not in fixed}


class IndexWriter:
    """The one writer of a new segment, which is made with its first line."""

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        numbers = [int(path.stem) for path in segments(folder)]
        self.path = folder / f"{max(numbers, default=-1) + 1:05d}.jsonl"
        self._file = None

    def append(self, record: Record) -> None:
        """Add a line, for good; one that did not fit on the disk is taken back."""
        if self._file is None:
            self._file = self.path.open("xb", buffering=0)
        values = {name: value for name, value in vars(record).items() if value not in ([], {})}
        line = json.dumps(values, separators=(",", ":")).encode() + b"\n"
        begin, problem = self._file.tell(), "the disk is full"
        try:
            whole = self._file.write(line) == len(line)
            os.fsync(self._file.fileno())
        except OSError as error:
            whole, problem = False, error.strerror or str(error)
        if not whole:
            self._file.truncate(begin)
            self._file.seek(begin)
            raise RunFileError(
                f"{self.path}: could not be written ({problem}); what was finished is kept: make "
                "room, and the same command goes on"
            )

    def close(self) -> None:
        """No more lines."""
        if self._file is not None:
            self._file.close()


def segments(folder: Path) -> list[Path]:
    """The segments of an index, oldest first."""
    return sorted(path for path in folder.glob("*.jsonl") if path.stem.isdigit())


def read_records(folder: Path) -> Iterator[Record]:
    """All lines of an index, oldest first; a line that is still being written is left out."""
    for path in segments(folder):
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    yield Record(**{"fixed": {}, "varying": {}} | json.loads(line))
                except (ValueError, TypeError) as error:
                    raise RunFileError(f"{path}: line {number} is damaged: {error}") from error


def states(folder: Path) -> dict[str, str]:
    """How every point stands that the index knows of."""
    found: dict[str, str] = {}
    for record in read_records(folder):
        found |= dict.fromkeys(record.points, record.status)
    return found
