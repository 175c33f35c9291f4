"""beta-LASSO: what a step costs, what training S-FC needs, and when sparse weights pay.

    python -m experiments.performance.beta_lasso [--channels N] [--batch N] [--out FOLDER]

Three measurements, the fastest of repeated and interleaved runs each:

1. A step of the optimizer beside torch's fused SGD, on the tensors of S-FC.
2. Training S-FC with 256 million parameters (alpha = 150) in a process of its own: its largest
   memory, and the time of a step beside the least time in which memory could be read and written:
   weights forward, weights behind the first layer backward, gradients written, and the step's two
   reads and a write of every weight, at the bandwidth that a sum of two arrays reaches here.
3. A layer of S-FC by torch and in its compact form (`neurosim.nn.to_sparse`), by density.

Claims: a step costs at most 1.3 times fused SGD; S-FC trains in less than 4 GB; memory of the
compact form is in proportion to its non-zero weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.common.result import table
from experiments.performance.measure import interleaved
from experiments.performance.parts import Target, command_line, keep
from neurosim.errors import InvalidArgument, require
from neurosim.models import shallow
from neurosim.nn import SparseLinear
from neurosim.optim import BetaLasso, lasso_groups

MOMENTUM = 0.9
DENSITIES = (0.5, 0.3, 0.1, 0.03, 0.01)
BATCHES = (1, 8, 64)
GIB = 2**30


@dataclass(frozen=True)
class Options:
    """What to measure."""

    channels: int = 150
    batch: int = 16
    repeats: int = 7
    out: Path | None = None


def optimizer_step(repeats: int, channels: int = 40) -> dict[str, float]:
    """Milliseconds of a step on S-FC's tensors, 41 million weights at 40 channels."""
    torch.manual_seed(0)

    def stepping(make: Callable[[nn.Module], torch.optim.Optimizer]) -> Callable[[], object]:
        network = shallow(connectivity="dense", alpha=channels)
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter) * 1e-4
        return make(network).step

    def lasso(backend: str, momentum: float) -> Callable[[], object]:
        return stepping(
            lambda m: BetaLasso(
                lasso_groups(m, 2e-5, 1e-4), 1e-3, 2e-5, momentum=momentum, backend=backend
            )
        )

    def sgd(momentum: float) -> Callable[[], object]:
        return stepping(
            lambda m: torch.optim.SGD(m.parameters(), 1e-3, momentum=momentum, fused=True)
        )

    works = {
        "fused SGD": sgd(0),
        "beta-LASSO": lasso("auto", 0),
        "fused SGD, momentum": sgd(MOMENTUM),
        "beta-LASSO, momentum": lasso("auto", MOMENTUM),
        "beta-LASSO, foreach": lasso("foreach", 0),
    }
    return dict(zip(works, interleaved([*works.values()], repeats, "cpu"), strict=True))


def bandwidth(elements: int = 2**26, repeats: int = 5) -> float:
    """GB/s of a += b: two reads and a write."""
    a, b = torch.ones(elements), torch.ones(elements)
    best = interleaved([lambda: a.add_(b)], repeats, "cpu")[0]
    return 3 * a.nbytes / best / 1e6


def training(channels: int, batch: int, repeats: int) -> dict[str, Any]:
    """Memory and times of training S-FC, to be called in a process of its own."""
    before = _peak()
    torch.manual_seed(0)
    network = shallow(connectivity="dense", alpha=channels)
    optimizer = BetaLasso(lasso_groups(network, 2e-5, 1e-4), 0.1, 2e-5)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(10, (batch,))
    times: dict[str, list[float]] = {"forward": [], "backward": [], "optimizer": []}
    for _ in range(repeats + 1):
        optimizer.zero_grad(set_to_none=True)
        moments = [time.perf_counter()]
        loss = nn.functional.cross_entropy(network(x), y)
        moments.append(time.perf_counter())
        loss.backward()
        moments.append(time.perf_counter())
        optimizer.step()
        moments.append(time.perf_counter())
        for name, start, end in zip(times, moments, moments[1:], strict=False):
            times[name].append(1e3 * (end - start))
    count = sum(p.numel() for p in network.parameters())
    first = network.get_submodule("conv1").weight.numel()  # type: ignore[union-attr]
    return {
        "parameters": count,
        "first": first,
        "peak": _peak(),
        "imports": before,
        "times": {name: min(values[1:]) for name, values in times.items()},
        "finite": bool(loss.isfinite()),
    }


def _peak() -> float:
    """Largest memory of this process so far, in GiB; not that of the one it was started by."""
    status = Path("/proc/self/status").read_text()  # getrusage would count the parent's
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / GIB


def in_a_process(options: Options) -> dict[str, Any]:
    """`training`, where nothing else has used memory."""
    words = ["--child", "--channels", str(options.channels), "--batch", str(options.batch)]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.performance.beta_lasso", *words],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def floor(found: dict[str, Any], rate: float) -> float:
    """Milliseconds in which a step's memory could be read and written at best."""
    count, first = found["parameters"], found["first"]
    touched = count + (count - first) + count + 3 * count
    return 4 * touched / rate / 1e6


def compact(repeats: int, inputs: int = 3072, units: int = 6400) -> list[dict[str, float]]:
    """Milliseconds and memory of a layer, dense and compact, for every density and batch."""
    rows = []
    for density in DENSITIES:
        torch.manual_seed(0)
        layer = nn.Linear(inputs, units, bias=False)
        with torch.no_grad():
            layer.weight.mul_(torch.rand(units, inputs) < density)
        sparse = SparseLinear(layer)
        share = sparse.nbytes / layer.weight.nbytes
        for batch in BATCHES:
            x = torch.randn(batch, inputs)
            with torch.no_grad():
                torch.testing.assert_close(sparse(x), layer(x), rtol=1e-4, atol=1e-4)
                times = interleaved(
                    [lambda m=m, x=x: m(x) for m in (layer, sparse)], repeats, "cpu"
                )
            row = {"density": density, "batch": batch, "memory": share}
            rows.append(row | {"dense": times[0], "compact": times[1]})
    return rows


def main(options: Options) -> None:
    """Measure, print, keep."""
    for name in ("channels", "batch", "repeats"):
        require(getattr(options, name) >= 1, f"--{name}", getattr(options, name), ">= 1")
    steps = optimizer_step(options.repeats)
    rate = bandwidth()
    trained = in_a_process(options)
    layers = compact(options.repeats)
    total, least = sum(trained["times"].values()), floor(trained, rate)
    targets = [
        Target("step / fused SGD", steps["beta-LASSO"] / steps["fused SGD"], 1.3, False),
        Target(
            "with momentum",
            steps["beta-LASSO, momentum"] / steps["fused SGD, momentum"], 1.3, False,
        ),
        Target("peak memory of training S-FC, GB", trained["peak"] * GIB / 1e9, 4.0, False),
    ]  # fmt: skip
    lines = [
        f"optimizer step on S-FC's tensors, alpha = 40, {torch.get_num_threads()} threads",
        *table(["", "ms"], [[name, f"{ms:.1f}"] for name, ms in steps.items()]),
        "",
        f"S-FC, alpha = {options.channels}, {trained['parameters'] / 1e6:.1f} million parameters, "
        f"batch {options.batch}",
        *table(["", "ms"], [[name, f"{ms:.0f}"] for name, ms in trained["times"].items()]),
        f"a step takes {total:.0f} ms, {total / least:.2f} times the {least:.0f} ms of reading and "
        f"writing memory at {rate:.1f} GB/s",
        f"peak memory {trained['peak']:.2f} GiB, of which {trained['imports']:.2f} before the "
        f"network; parameters and gradients are {8 * trained['parameters'] / GIB:.2f} GiB",
        "",
        "a layer of 3,072 inputs and 6,400 units",
        *table(
            ["density", "memory", "batch", "dense, ms", "compact, ms", "speed-up"],
            [
                [
                    f"{row['density']:g}", f"{row['memory']:.3f}", f"{row['batch']:g}",
                    f"{row['dense']:.2f}", f"{row['compact']:.2f}",
                    f"{row['dense'] / row['compact']:.1f}",
                ]
                for row in layers
            ],
        ),
        "",
        *(target.line() for target in targets),
    ]  # fmt: skip
    print("\n".join(lines))
    results = {"step": steps, "bandwidth": rate, "training": trained}
    results |= {"floor": least, "compact": layers}
    keep(options.out, "beta-lasso-cpu", lines, results)


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--channels", type=int, default=150, help="alpha of S-FC in memory (150)")
    parser.add_argument("--batch", type=int, default=16, help="images per batch (16)")
    parser.add_argument("--repeats", type=int, default=7, help="of which the fastest counts (7)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = vars(parser.parse_args())
    try:
        if given.pop("child"):
            print(json.dumps(training(given["channels"], given["batch"], repeats=3)))
        else:
            main(Options(**given))
    except InvalidArgument as error:
        parser.error(str(error))
