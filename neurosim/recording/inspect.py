"""A run file in words, for people who want to know what is in it before they load it."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from neurosim.recording.reader import RunReader
from neurosim.recording.schema import Status

_WORDS = {
    Status.RUNNING: "running: the file grows while it is read",
    Status.COMPLETE: "complete",
    Status.FAILED: "failed",
    Status.INTERRUPTED: "interrupted: stopped on request; what was recorded is readable",
    Status.KILLED: "killed: the writing process is gone; what was recorded is readable",
}
_SLAB = 2**20


def describe_lines(run: RunReader) -> list[str]:
    """Status, origin, configuration and datasets of a run, one line each."""
    about = run.attributes
    lines = [
        f"{run.path}: {run.kind}, seed {run.seed}, on {about['device']}",
        f"status: {_WORDS[run.status]}" + (f" ({run.message})" if run.message else ""),
        f"last written {run.age:.0f} s ago by process {about['pid']} on {about['host']}",
        f"created: {run.created}" + (f", {n} segments" if (n := len(run.segments)) > 1 else ""),
        f"code: neurosim {about.get('code_version', 'unknown')}{_commit(run)}",
        "versions: " + ", ".join(f"{name} {v}" for name, v in run.libraries.items()),
        "config:",
        *(f"  {key}: {_setting(value)}" for key, value in run.config.items()),
        *(f"{name}: {value}" for name, value in run.notes.items()),
        "datasets:",
    ]
    return lines + [f"  {_dataset(run, name)}" for name in run.names()]


def _setting(value: Any) -> str:
    """One entry of the configuration, a group of them as option=value."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return ", ".join(f"{key}={json.dumps(inner)}" for key, inner in value.items())


def describe_values(run: RunReader) -> dict[str, Any]:
    """The same for programs, in JSON's types."""
    datasets = []
    for name in run.names():
        about = run.describe(name)
        filled = None if run.grows(name) else _filled(run, name)
        datasets.append(
            {
                "name": name,
                "dims": list(about.dims),
                "shape": list(about.shape),
                "dtype": str(about.dtype),
                "units": about.units,
                "description": about.description,
                "filled": filled,
            }
        )
    return {
        "path": str(run.path),
        "kind": run.kind,
        "status": str(run.status),
        "message": run.message,
        "seconds_since_written": run.age,
        "created": run.created,
        "seed": run.seed,
        "code_version": run.attributes.get("code_version"),
        "git_commit": run.attributes.get("git_commit"),
        "libraries": run.libraries,
        "config": run.config,
        "notes": {name: np.asarray(value).tolist() for name, value in run.notes.items()},
        "datasets": datasets,
    }


def _commit(run: RunReader) -> str:
    if not (commit := run.attributes.get("git_commit")):
        return ""
    return f", commit {commit[:12]}" + (" with changes" if run.attributes.get("git_dirty") else "")


def _dataset(run: RunReader, name: str) -> str:
    about = run.describe(name)
    axes = ", ".join(f"{dim} {n}" for dim, n in zip(about.dims, about.shape, strict=True))
    kind = "text" if about.dtype.kind == "U" else str(about.dtype)
    line = f"{name} ({axes}) {kind}" + (f" [{about.units}]" if about.units else "")
    if about.description:
        line += f": {about.description}"
    if run.grows(name):
        return f"{line}; {about.shape[0]} rows"
    if (filled := _filled(run, name)) is not None:
        return f"{line}; {filled:.0%} filled"
    return line


def _filled(run: RunReader, name: str) -> float | None:
    """Fraction written so far of a dataset prefilled with NaN, read slab by slab."""
    shape, fill = run.describe(name).shape, run.fill(name)
    if fill is None or fill == fill or 0 in shape:
        return None
    length, *row = shape or (1,)
    rows = max(1, _SLAB // math.prod(row))
    slabs = [slice(i, i + rows) for i in range(0, length, rows)] if shape else [()]
    written = sum(np.count_nonzero(~np.isnan(run.read(name, slab))) for slab in slabs)
    return float(written / math.prod(shape))
