"""A study of many runs, spread over what is there: what `neurosim sweep` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.commands.studies.converge import spread_axes
from experiments.commands.studies.find import find_study
from experiments.common.result import Report, table
from neurosim.errors import InvalidArgument, require
from neurosim.progress import duration
from neurosim.sweeps import (
    Job,
    Place,
    StudyFolder,
    Swept,
    build_grid,
    read_words,
    status_lines,
    sweep_study,
)


@dataclass(frozen=True)
class SweepOptions:
    """What is varied, and where results go."""

    grid: tuple[str, ...] = ()
    """Values by option, such as alpha=1,3,10 gamma=0.1,0.01; an option with one value is fixed."""
    seeds: int | None = None
    """Run every combination with the seeds 0 to n - 1 (default: the study's own seed)."""
    retries: int = 2
    """Times that a point is tried again whose worker died or that raised an error."""
    out: Path | None = None
    """The study's folder (default: runs/sweep-STUDY); what it has finished is not run again."""
    status: Path | None = None
    """Only say how far the sweep of this folder is."""
    quiet: bool = False
    """No progress and no table, only errors."""
    json: bool = False
    """Print the results as JSON on standard output instead of a table."""


def run(study: tuple[str, ...], options: SweepOptions, place: Place, job: Job) -> Report | str:
    """Run a study for every combination of values, on all cores, on many machines or on Slurm.

    Points that are finished are skipped: the same command goes on with an interrupted sweep.
        neurosim sweep converge --grid alpha=1,3,10 gamma=0.1,0.01 kernel=3 --seeds 10
        neurosim sweep train --grid lr=1e-2,1e-3 sleep=none,instant epochs=30 --seeds 3
        neurosim sweep table1 --grid variants=conv,lc,ws1 padding=0,4 --gpus-per-run 0.5
        neurosim sweep converge --grid gamma=0.1 --where slurm --workers 20 --queue cpu --cores 16
        neurosim sweep --status runs/sweep-converge

    Args:
        study: converge, train or the name of an experiment that `neurosim reproduce` knows.
        options: What is varied, and where results go.
        place: Where runs happen.
        job: What a job of Slurm asks for.
    """
    if options.status is not None:
        return "\n".join(status_lines(StudyFolder.open(options.status)))
    require(len(study) > 0, "STUDY", "", "converge, train or the name of an experiment")
    chosen = find_study(study)
    if not options.grid and options.seeds is None:
        raise InvalidArgument("--grid or --seeds must say what is varied, such as alpha=1,3,10")
    given: Mapping[str, Any] = read_words(options.grid)
    if chosen.name == "converge":
        given = spread_axes(given)
    grid = build_grid(chosen.name, chosen.options, given, options.seeds)
    folder = options.out or Path("runs") / f"sweep-{chosen.name}"
    swept = sweep_study(
        chosen, grid, folder, place, job, retries=options.retries, quiet=options.quiet
    )
    return report(chosen.name, swept)


def report(name: str, swept: Swept) -> Report:
    """How a sweep ended; the exit code is 1 if any point failed."""
    lines = [
        f"{swept.total} points: {swept.completed} done in {duration(swept.seconds)}, "
        f"{swept.skipped} were finished before, {len(swept.failed)} failed"
    ]
    if swept.failed:
        errors: dict[str, list[str]] = {}
        for key, error in swept.failed.items():
            errors.setdefault(error, []).append(key)
        rows = [[str(len(keys)), keys[0], error] for error, keys in errors.items()]
        lines += ["", *table(["failed", "such as", "error"], rows[:20])]
    lines += ["", f"neurosim analyze {swept.folder} draws it"]
    values = {
        "total": swept.total, "completed": swept.completed, "skipped": swept.skipped,
        "failed": swept.failed, "seconds": swept.seconds,
    }  # fmt: skip
    return Report(
        f"sweep {name}", swept.folder, [], lines, values, exit_code=int(bool(swept.failed))
    )
