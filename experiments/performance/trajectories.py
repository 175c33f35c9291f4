"""Distances and long run files: two parts of `python -m experiments.performance.analysis`.

- distances: between filters of ResNet-20's layers at all radii, in turn with the loop over all
  pairs of filters; both must agree within 1e-6.
- file: a run file of random ResNet-20 snapshots, 5 GB of them, is written into a temporary folder
  and analysed by a process of its own, whose peak memory counts.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cosine

from analysis.trajectories.filters import all_radii, filter_distances
from analysis.trajectories.series import weight_trajectories
from experiments.common.result import table
from experiments.performance.parts import Disagreement, Findings, listed, own_peak
from neurosim.recording import RunReader, RunWriter

# Positions along an axis, channels out and in, kernel size, and how many such layers there are.
LAYERS = ((32, 16, 3, 3, 1), (32, 16, 16, 3, 6), (16, 32, 16, 3, 1), (16, 32, 32, 3, 5),
          (16, 32, 16, 1, 1), (8, 64, 32, 3, 1), (8, 64, 64, 3, 5), (8, 64, 32, 1, 1))  # fmt: skip
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Timing:
    """One shape of layers."""

    shape: tuple[int, ...]
    layers: int
    fast: float  # milliseconds of one layer
    loop: float
    difference: float


def pair_by_pair(
    banks: NDArray[np.floating], radii: tuple[int, ...]
) -> tuple[list[float], list[float]]:
    """Mean distances of banks (rows, columns, outputs, rest), one pair after the other.

    As published, but in double precision: in single, angles are off by more than the tolerance.
    """
    weights = banks / np.linalg.norm(banks.astype(np.float64))
    height, width = weights.shape[:2]
    found: tuple[list[float], list[float]] = ([], [])
    for radius in radii:
        sums, count = [0.0, 0.0], 0
        steps = range(-radius, radius + 1)
        ring = [(i, j) for i in steps for j in steps if max(abs(i), abs(j)) == radius]
        for row in range(radius, height - radius):
            for column in range(radius, width - radius):
                centre = weights[row, column]
                for down, right in ring:
                    other = weights[row + down, column + right]
                    sums[0] += float(np.linalg.norm(centre - other))
                    sums[1] += float(cosine(centre.flatten(), other.flatten()))
                    count += 1
        for means, total in zip(found, sums, strict=True):
            means.append(total / count)
    return found


def timings_of(repeats: int) -> list[Timing]:
    """Every shape by both, in turn."""
    rng, timings = np.random.default_rng(0), []
    for size, outputs, inputs, kernel, count in LAYERS:
        shape = (size, size, outputs, inputs * kernel**2)
        banks = rng.standard_normal(shape, np.float32)
        filters, radii = banks.reshape(size, size, -1), all_radii((size, size))
        found = filter_distances(filters, radii)  # warms up
        fast = [_timed(filters, radii) for _ in range(repeats)]
        start = time.perf_counter()
        wanted = pair_by_pair(banks, radii)
        loop = 1e3 * (time.perf_counter() - start)
        fast += [_timed(filters, radii) for _ in range(repeats)]
        difference = float(np.abs(np.subtract((found.euclidean, found.cosine), wanted)).max())
        timings.append(Timing(shape, count, float(np.median(fast)), loop, difference))
    return timings


def _timed(filters: NDArray[np.floating], radii: tuple[int, ...]) -> float:
    start = time.perf_counter()
    filter_distances(filters, radii)
    return 1e3 * (time.perf_counter() - start)


def write_run(path: Path, size: float) -> int:
    """A run file of about `size` GiB with snapshots of random ResNet-20s; how many there are."""
    rng = np.random.default_rng(0)
    shapes = {
        f"layer{number}": (size, size, outputs, inputs, kernel, kernel)
        for number, (size, outputs, inputs, kernel) in enumerate(
            layer[:4] for layer in LAYERS for _ in range(layer[4])
        )
    }
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    snapshots = max(2, round(size * 2**30 / sum(w.nbytes for w in weights.values())))
    with RunWriter(path, "training", {"study": "performance"}) as run:
        run.scale("snapshot", dtype="i8")
        run.scale("layer", list(shapes))
        for name, shape in shapes.items():
            axes = [f"weights/{name}/axis{number}" for number in range(len(shape))]
            for axis, length in zip(axes, shape, strict=True):
                run.scale(axis, np.arange(length))
            run.dataset(f"weights/{name}/weight", ("snapshot", *axes), "f4")
        run.start()
        for step in range(snapshots):
            row = {f"weights/{name}/weight": weight for name, weight in weights.items()}
            run.append("snapshot", {"snapshot": step, **row})
            for weight in weights.values():
                weight[: len(weight) // 2] *= 0.9
    return snapshots


def analysed(path: Path) -> tuple[float, float, float]:
    """Seconds, and MiB of memory before and at the worst moment; in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_analyse, (path,))


def _analyse(path: Path) -> tuple[float, float, float]:
    before, start = own_peak(), time.perf_counter()
    with RunReader(path) as run:
        for _ in weight_trajectories(run):
            pass
    return time.perf_counter() - start, before, own_peak()


def distances(quick: bool) -> Findings:
    """All layers of ResNet-20; the ratio is that of the sums over its layers."""
    timings = timings_of(repeats=1 if quick else 5)
    worst = max(timing.difference for timing in timings)
    if not worst <= TOLERANCE:
        raise Disagreement(f"the two differ by {worst:.1e}")
    rows = [
        [" x ".join(map(str, t.shape)), str(t.layers), f"{t.fast:.1f}", f"{t.loop:.0f}",
         f"{t.loop / t.fast:.0f}"]
        for t in timings
    ]  # fmt: skip
    fast, loop = (sum(t.layers * getattr(t, name) for t in timings) for name in ("fast", "loop"))
    rows.append(["ResNet-20", "", f"{fast:.0f}", f"{loop:.0f}", f"{loop / fast:.0f}"])
    lines = [
        "distances between filters, all radii",
        *table(["layer", "layers", "ms", "pair by pair, ms", "ratio"], rows),
        f"largest difference {worst:.1e}",
    ]
    return Findings(lines, {"layers": [vars(t) for t in timings], "ratio": loop / fast})


def file(quick: bool) -> Findings:
    """A run file of 5 GB, or a small one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        snapshots = write_run(path, 0.3 if quick else 5e9 / 2**30)
        size = path.stat().st_size / 1e9
        seconds, before, peak = analysed(path)
    values = {
        "GB": size,
        "snapshots": snapshots,
        "seconds": seconds,
        "peak memory, MiB": peak,
        "of it before the file was opened, MiB": before,
    }
    return listed("analysing a run file", values)
