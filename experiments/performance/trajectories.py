"""How fast weight trajectories are, and how much memory they need.

    python -m experiments.performance.trajectories [--size GIB] [--out FOLDER]

First the distances between filters of ResNet-20's layers at all radii, in turn with the loop
over all pairs of filters: both must agree within 1e-6, or no speed is printed. Then a run file of
random ResNet-20 snapshots of the given size is written into a temporary folder and analysed by a
process of its own, whose peak memory counts.

Claims: the distances take at most 1/100 of the loop's time, and a file of 5 GiB is analysed in
less than 1 GiB of memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cosine

from analysis.trajectories.filters import all_radii, filter_distances
from analysis.trajectories.series import weight_trajectories
from experiments.performance.machine import machine
from experiments.report import as_json, table
from neurosim.errors import InvalidArgument, require
from neurosim.recording import RunReader, RunWriter

# Positions along an axis, channels out and in, kernel size, and how many such layers there are.
LAYERS = ((32, 16, 3, 3, 1), (32, 16, 16, 3, 6), (16, 32, 16, 3, 1), (16, 32, 32, 3, 5),
          (16, 32, 16, 1, 1), (8, 64, 32, 3, 1), (8, 64, 64, 3, 5), (8, 64, 32, 1, 1))  # fmt: skip
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Options:
    """What to measure."""

    size: float = 0.5
    repeats: int = 5
    out: Path | None = None


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


def distances(repeats: int) -> list[Timing]:
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
    before, start = _peak_memory(), time.perf_counter()
    with RunReader(path) as run:
        for _ in weight_trajectories(run):
            pass
    return time.perf_counter() - start, before, _peak_memory()


def _peak_memory() -> float:
    """MiB that the process has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def main(options: Options) -> None:
    """Measure, print, keep."""
    require(options.size > 0, "--size", options.size, "> 0")
    require(options.repeats >= 1, "--repeats", options.repeats, ">= 1")
    timings = distances(options.repeats)
    worst = max(timing.difference for timing in timings)
    if worst > TOLERANCE:
        raise SystemExit(f"the two differ by {worst:.1e}: no speed is printed")
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
        "",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        snapshots = write_run(path, options.size)
        size = path.stat().st_size / 2**30
        seconds, before, peak = analysed(path)
    lines.append(
        f"run file of {size:.2f} GiB, {snapshots} snapshots: {seconds:.1f} s, "
        f"peak memory {peak:.0f} MiB ({before:.0f} MiB before)"
    )
    print("\n".join(lines))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        results = {
            "machine": machine(),
            "distances": [vars(timing) for timing in timings],
            "ratio": loop / fast,
            "file": {"gib": size, "seconds": seconds, "peak_mib": peak, "before_mib": before},
        }
        (options.out / "trajectories.txt").write_text("\n".join(lines) + "\n")
        (options.out / "trajectories.json").write_text(as_json(results) + "\n")


if __name__ == "__main__":
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=float, default=0.5, help="of the run file in GiB (0.5)")
    parser.add_argument(
        "--repeats", type=int, default=5, help="before and after the loop; the median counts (5)"
    )
    parser.add_argument("--out", type=Path, help="folder for text and JSON")
    try:
        main(Options(**vars(parser.parse_args())))
    except InvalidArgument as error:
        parser.error(str(error))
