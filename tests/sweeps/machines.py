"""Runs for sweeps, and a scheduler with workers, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.sweeps import read_records

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    "OMP_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION": "1.0",
}


def draw(scale: float, seed: int = 0, pause: float = 0.0) -> dict[str, Any]:
    """Numbers, text and arrays that follow from the configuration."""
    time.sleep(pause)
    values = scale * np.random.default_rng(seed).normal(size=(3, 4))
    return {"mean": values.mean(), "sign": "+" if values.sum() > 0 else "-", "values": values}


def fail_at_three(scale: int, seed: int = 0) -> dict[str, Any]:
    """Raise for one value, each time."""
    if scale == 3:
        raise RuntimeError("three is too many")
    return {"scale": scale}


def die_at_three(scale: int) -> dict[str, Any]:
    """Take the process along for one value, each time."""
    if scale == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"scale": scale}


ODD = {
    "complex": {"x": 1j},
    "large": {"x": 2**70},
    "below": {"loss": 1.0, "loss/train": 2.0},
    "nameless": {"": 1.0},
    "twice": {"a": {"b": 1.0}, "a.b": 2.0},
}


def odd(kind: str) -> dict[str, Any]:
    """Results that have no place in a file."""
    return ODD.get(kind, {"x": 1.0, "loss/train": 2})


def fail_once(scale: int, marks: str) -> dict[str, Any]:
    """Raise at the first try only."""
    mark = Path(marks) / str(scale)
    if not mark.exists():
        mark.touch()
        raise OSError("the disk was busy")
    return {"scale": scale}


@dataclass
class Machines:
    """A scheduler and its workers."""

    address: str
    workers: list[subprocess.Popen] = field(default_factory=list)

    def add(self) -> None:
        """Start one more worker, without anyone to start it again."""
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--no-nanny",
                   "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]  # fmt: skip
        self.workers.append(_start(command))


@contextmanager
def machines(folder: Path, count: int = 2) -> Iterator[Machines]:
    """A scheduler and workers on the loopback interface."""
    place = folder / "scheduler.json"
    scheduler = _start(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
         "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]
    )  # fmt: skip
    found = Machines("")
    try:
        wait_for(place.exists)
        import json

        found.address = json.loads(place.read_text())["address"]
        for _ in range(count):
            found.add()
        yield found
    finally:
        for process in (*found.workers, scheduler):
            process.kill()
            process.wait()


def _start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    """Return once the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def entered(folder: Path, status: str = "complete") -> Counter[str]:
    """How often every point is in the index."""
    records = [record for record in read_records(folder / "index") if record.status == status]
    return Counter(key for record in records for key in record.points)
