"""Files that a reader finds whole, or as they were before."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neurosim.errors import require


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` for a file or folder, which takes its place if nothing goes wrong."""
    require(path.parent.is_dir(), "folder", str(path.parent), "there")
    new = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield new
        new.replace(path)
    except BaseException:
        if new.is_dir():
            shutil.rmtree(new, ignore_errors=True)
        else:
            new.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> Path:
    """Text in UTF-8."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")
    return path


def write_json(path: Path, values: Mapping[str, Any]) -> Path:
    """Plain values as JSON."""
    return write_text(path, json.dumps(values, indent=1) + "\n")


def write_csv(path: Path, header: Sequence[object], rows: Iterable[Sequence[object]]) -> Path:
    """A table: a line for the header and one for every row, which have as many cells."""
    with replacing(path) as new, new.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
