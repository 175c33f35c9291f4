"""What a sweep costs beside the runs themselves.

    python -m experiments.performance.sweep [--runs N] [--points N] [--out FOLDER]

Convergence runs (k = 3, 1,000 presentations, 10 strengths of inhibition x 10 of the pull toward
the start x seeds) over local workers, beside the in-process ensemble on as many threads; points
that do nothing, for what a point costs by itself; and an index as large as asked for.

Claims: 10,000 runs at 90% or more of the ensemble's throughput; less than 5 ms per point; two
workers at least 1.8 times as fast as one; 10^5 points collected in less than 10 s.
"""

from __future__ import annotations

import pickle
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis import collect
from experiments.commands.studies.find import find_study
from experiments.common.convergence_grid import ConvergenceStudy
from experiments.common.result import table
from experiments.performance.parts import command_line, execute, keep
from neurosim.dynamics import simulate_ensemble
from neurosim.errors import require
from neurosim.sweeps import Place, StudyFolder, build_grid, sweep, sweep_study
from neurosim.sweeps.engine import AHEAD
from neurosim.sweeps.index import COMPLETE, IndexWriter, Record, columns, read_records, states

ALPHAS = tuple(np.geomspace(1, 30, 10).round(3).tolist())
GAMMAS = tuple(np.geomspace(1e-3, 1e-1, 10).round(6).tolist())
PRESENTATIONS = 1_000
BATCH = 500  # points of a line in the simulated index


@dataclass(frozen=True)
class Options:
    """How much to measure."""

    runs: int = 10_000
    points: int = 1_000_000
    workers: int = 2
    out: Path | None = None


def nothing(number: int) -> dict[str, float]:
    """A run that costs nothing."""
    return {"number": float(number)}


def ensemble_seconds(runs: int, threads: int) -> float:
    """The in-process ensemble, seconds per run."""
    study = ConvergenceStudy(
        kernels=(3,), gammas=GAMMAS, alphas=ALPHAS, presentations=PRESENTATIONS,
        trials=max(1, runs // 100),
    )  # fmt: skip
    settings = [study.setting(p, trial) for p in study.points() for trial in range(study.trials)]
    start = time.perf_counter()
    for _ in simulate_ensemble(
        settings, record_every=study.record_every, threads=threads, check=False
    ):
        pass
    return (time.perf_counter() - start) / len(settings)


def sweep_seconds(runs: int, workers: int) -> dict[str, float]:
    """The same runs over local workers, seconds per run: under way, with imports, all in all."""
    study = find_study(["converge"])
    given = {"kernels": 3, "gammas": GAMMAS, "alphas": ALPHAS, "trials": 1,
             "presentations": PRESENTATIONS}  # fmt: skip
    grid = build_grid("converge", study.options, given, max(1, runs // 100))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        swept = sweep_study(
            study, grid, Path(folder) / "s", Place(workers=workers, threads=1), quiet=True
        )
        whole = time.perf_counter() - start
        require(swept.completed == len(grid), "completed points", swept.completed, str(len(grid)))
        records = list(read_records(Path(folder) / "s/index"))
        inside = sum(sum(record.seconds) for record in records)
        # Under way: from when every worker has loaded what it runs and ended a batch.
        ends = sorted((record.finished, len(record.points)) for record in records)
        later = ends[workers:]
        steady = (later[-1][0] - ends[workers - 1][0]) / sum(count for _, count in later)
        files = len(list((Path(folder) / "s/runs").iterdir()))
    return {
        "under way": steady,
        "per run": swept.seconds / len(grid),
        "with start and checks": whole / len(grid),
        "of workers' time in runs": inside / (swept.seconds * workers),
        "files": files,
        "tasks": len(records),
    }


def overhead_seconds(points: int, workers: int) -> float:
    """What a point costs that does nothing, hashed, batched, sent, written and entered."""
    with tempfile.TemporaryDirectory() as folder:
        swept = sweep(
            nothing, {"number": range(points)}, Path(folder) / "s", workers=workers, quiet=True
        )
    return swept.seconds / points


def large_index(points: int) -> dict[str, float]:
    """An index of so many points: writing, going on, and reading it; and the grid itself."""
    study = find_study(["converge"])
    given = {"kernels": [3, 6, 9, 12], "gammas": np.geomspace(1e-3, 1e-1, 50).tolist(),
             "alphas": np.geomspace(1, 30, 50).tolist()}  # fmt: skip
    grid = build_grid("converge", study.options, given, max(1, points // 10_000))
    measured: dict[str, float] = {"points": len(grid)}
    start = time.perf_counter()
    every = list(grid)
    measured["s to spread and hash the grid"] = time.perf_counter() - start
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        home = StudyFolder.create(Path(place) / "s", "converge", grid.defaults)
        index = IndexWriter(home.index)
        start = time.perf_counter()
        for first in range(0, len(every), BATCH):
            batch = every[first : first + BATCH]
            fixed, varying = columns([point.config for point in batch])
            values = generator.normal(size=(4, len(batch))).tolist()
            names = ("log_inverse_snr", "limit.eq5", "limit.eq25", "limit.circuit")
            index.append(
                Record(
                    COMPLETE, [point.key for point in batch], fixed, varying,
                    metrics=dict(zip(names, values, strict=True)),
                    seconds=generator.uniform(0, 1, len(batch)).round(6).tolist(),
                    file=f"runs/chunk-{first}.h5", host="node", finished=time.time(),
                )
            )  # fmt: skip
        index.close()
        measured["s to write the index"] = time.perf_counter() - start
        size = sum(path.stat().st_size for path in home.index.iterdir())
        measured["bytes per point"] = size / len(every)
        start = time.perf_counter()
        found = states(home.index)
        measured["s to see what is finished"] = time.perf_counter() - start
        require(len(found) == len(every), "points found", len(found), str(len(every)))
        start = time.perf_counter()
        rows = len(collect(home.path))
        measured["s to collect"] = time.perf_counter() - start
        require(rows == len(every), "rows", rows, str(len(every)))
    handed_out = len(pickle.dumps(every[:BATCH])) * AHEAD * 1_000
    measured["MiB that a scheduler holds for 1,000 workers"] = handed_out / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured["MiB, peak of this process"] = peak / 1024
    return measured


def measure(options: Options) -> dict[str, Any]:
    """Everything, the ensemble before and after the sweep, because machines are noisy."""
    workers = options.workers
    ensemble_seconds(100, workers)  # compiles
    ensemble = [ensemble_seconds(options.runs // 2, workers)]
    many = sweep_seconds(options.runs, workers)
    ensemble.append(ensemble_seconds(options.runs // 2, workers))
    one = sweep_seconds(max(100, options.runs // 2), 1)
    half = sweep_seconds(max(100, options.runs // 2), workers)
    rate = float(np.mean(ensemble))
    return {
        "ensemble, runs/s": [1 / seconds for seconds in ensemble],
        f"sweep, {workers} workers, under way, runs/s": 1 / many["under way"],
        "the same from the first task, runs/s": 1 / many["per run"],
        "the same with start and checks, runs/s": 1 / many["with start and checks"],
        "share of the ensemble's throughput, under way": rate / many["under way"],
        "the same from the first task": rate / many["per run"],
        "the same with start and checks": rate / many["with start and checks"],
        "workers' time in runs": many["of workers' time in runs"],
        "tasks": many["tasks"],
        "run files": many["files"],
        f"{workers} workers over 1, {options.runs // 2} runs, under way": one["under way"]
        / half["under way"],
        "the same with start and checks, times": one["with start and checks"]
        / half["with start and checks"],
        "ms per point that does nothing": 1e3 * overhead_seconds(20_000, workers),
        "10^5 points": large_index(100_000),
        "all points": large_index(options.points),
    }


def main(options: Options) -> None:
    """Measure, print, keep."""
    for name, least in {"runs": 400, "points": 10_000, "workers": 1}.items():
        require(getattr(options, name) >= least, f"--{name}", getattr(options, name), f">= {least}")
    found = measure(options)
    lines = [f"{options.runs} convergence runs, k = 3, {PRESENTATIONS} presentations"]
    for name, value in found.items():
        if isinstance(value, dict):
            rows = [[key, f"{number:.4g}"] for key, number in value.items()]
            lines += ["", f"an index: {name}", *table(["", ""], rows)[1:]]
        else:
            values = value if isinstance(value, list) else [value]
            lines.append(f"{name}: {', '.join(f'{v:.4g}' for v in values)}")
    print("\n".join(lines))
    keep(options.out, "sweep-cpu", lines, {"measured": found})


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="convergence runs (10,000)")
    parser.add_argument("--points", type=int, default=1_000_000, help="of the index (1,000,000)")
    parser.add_argument("--workers", type=int, default=2, help="local processes (2)")
    execute(parser, Options, main)
