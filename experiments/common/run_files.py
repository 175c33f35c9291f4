"""Run files that commands are given, and what sorts of runs they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from neurosim.errors import require
from neurosim.recording import RunReader
from neurosim.recording.schema import later_segments

Sort = Literal["training", "convergence", "other"]


def sort_of(run: RunReader) -> Sort:
    """What can be made of a run: curves of training or of convergence, or nothing in common."""
    if run.kind == "training":
        return "training"
    curves = run.kind == "convergence" and "inverse_snr" in run.names()
    return "convergence" if curves else "other"


def why_not(run: RunReader) -> str:
    """What is said of a run of another sort."""
    if run.kind == "convergence":
        return f"{run.path}: {run.config.get('study', 'a study')} has a figure of its own"
    return f"{run.path}: holds {run.kind}, neither training nor a convergence study"


def run_files(runs: Sequence[Path]) -> dict[str, Path]:
    """Run files by a short name each; a folder stands for all of its run files."""
    require(len(runs) > 0, "runs", tuple(map(str, runs)), "one run file or more")
    paths: list[Path] = []
    for path in runs:
        if not path.is_dir():
            paths.append(path)
            continue
        found = sorted(set(path.glob("*.h5")) - _segments(path))
        require(len(found) > 0, "runs", str(path), "run files or folders with some (*.h5)")
        paths += found
    unique = list(dict.fromkeys(paths))
    labels = [path.stem for path in unique]
    if len(set(labels)) < len(labels):
        labels = [f"{path.absolute().parent.name}/{path.stem}" for path in unique]
    if len(set(labels)) < len(labels):
        labels = [str(path) for path in unique]
    return dict(zip(labels, unique, strict=True))


def _segments(folder: Path) -> set[Path]:
    """Files of a folder that continue others."""
    names = [path.name for path in folder.glob("*.seg*.h5")]
    begun = {folder / f"{name.rpartition('.seg')[0]}.h5" for name in names}
    return {path for first in begun for path in later_segments(first)}
