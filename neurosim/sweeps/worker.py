"""What a worker does with a batch of points. Nothing here knows of Dask."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import threadpoolctl

from neurosim.errors import NeurosimError
from neurosim.sweeps.chunks import Result, as_result, write_chunk
from neurosim.sweeps.gpus import claim_gpus
from neurosim.sweeps.grid import Point
from neurosim.sweeps.index import COMPLETE, FAILED, Record, columns
from neurosim.sweeps.options import Config

Runner = Callable[[Config, Path], Any]
"""Runs a configuration and returns numbers and arrays by name. The path, `runs/HASH` without a
suffix, is the point's own."""

# Torch's generator, BLAS's threads and the like are a process's: one run at a time. Workers that
# are to run several at once are several processes.
_one_run = threading.Lock()


@dataclass(frozen=True)
class Work:
    """What all tasks of a sweep have in common."""

    run: Runner
    study: str
    folder: Path
    alone: bool
    """Every run writes its own run file (or folder), and is a task of its own."""
    threads: int = 1
    gpus: float = 0.0


@dataclass
class Outcome:
    """What became of a batch: lines for the index, and points that may be tried again."""

    records: list[Record] = field(default_factory=list)
    failed: list[tuple[Point, str, bool]] = field(default_factory=list)  # error, worth a retry
    seconds: list[float] = field(default_factory=list)


def run_batch(work: Work, points: Sequence[Point]) -> Outcome:
    """Run points one after the other; one that fails does not keep the others from running."""
    with _one_run:
        runs = work.folder / "runs"
        if not runs.is_dir():
            raise NeurosimError(
                f"the worker on {socket.gethostname()} does not see {runs}: the folder of a study "
                "must be on a file system that all workers share"
            )
        limit_threads(work.threads)
        claim_gpus(work.gpus)
        done: dict[tuple, list[tuple[Point, Result, float]]] = {}
        outcome = Outcome()
        with threadpoolctl.threadpool_limits(work.threads):
            for point in points:
                start = time.perf_counter()
                try:
                    result = as_result(work.run(point.config, runs / point.key))
                except Exception as error:  # whatever it was, the rest goes on
                    outcome.failed.append((point, said(error), _may_pass(error)))
                else:
                    took = time.perf_counter() - start
                    done.setdefault(result.layout, []).append((point, result, took))
                    outcome.seconds.append(took)
        for group in done.values():
            outcome.records.append(_record(work, group))
        return outcome


def _record(work: Work, group: list[tuple[Point, Result, float]]) -> Record:
    """Keep the results of points whose layouts are equal."""
    points, results, seconds = (list(column) for column in zip(*group, strict=True))
    runs = work.folder / "runs"
    if work.alone:
        own = runs / points[0].key
        path = own if own.is_dir() else own.with_suffix(".h5")
    else:
        path = write_chunk(runs, work.study, points, results)
    fixed, varying = columns([point.config for point in points])
    return Record(
        COMPLETE,
        [point.key for point in points],
        fixed,
        varying,
        metrics={name: [r.metrics[name] for r in results] for name in results[0].metrics},
        seconds=[round(value, 6) for value in seconds],
        file=f"runs/{path.name}",
        host=socket.gethostname(),
        finished=round(time.time(), 3),
    )


def failure(failed: Sequence[tuple[Point, str, int]]) -> Record:
    """The line of points that failed for good: their errors, and how often they were tried."""
    points, errors, attempts = (list(column) for column in zip(*failed, strict=True))
    fixed, varying = columns([point.config for point in points])
    return Record(
        FAILED, [point.key for point in points], fixed, varying,
        errors=errors, attempts=attempts, finished=round(time.time(), 3),
    )  # fmt: skip


def said(error: BaseException) -> str:
    """An error in one line, with the place where it was raised if it was not on purpose."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, NeurosimError) or error.__traceback__ is None:
        return text[:2000]
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    return f"{text[:2000]} [{code.co_name}, {Path(code.co_filename).name}:{last.tb_lineno}]"


def _may_pass(error: Exception) -> bool:
    """Whether another try could end differently: not if the settings are what is wrong."""
    return not isinstance(error, NeurosimError)


def limit_threads(threads: int) -> None:
    """Let libraries that are loaded, or will be, compute on so many threads."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
