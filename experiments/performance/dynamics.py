"""How fast the circuit level is, beside a plain reference in the same run.

    python -m experiments.performance.dynamics [--out FOLDER] [--quick]

First, fast and plain must agree; no speed is printed while they do not. Then:
- one population of Fig. 4B at k = 9 (N = 100, 1.5 million steps of 1 ms): the collapsed solver
  on one core against vectorised numpy stepping that records nothing (timed over the first
  `--plain-presentations`, its cost being the same for all), and against the compiled `euler`;
- the whole Fig. 4B grid, 90 populations, with its run file and figure;
- how the cost grows with N, D and presentations, rates scaled to D;
- the operator of a sleep (`transfer`) at D = 576;
- observed orders of Euler and RK4, and the agreement of Brian2 with Euler.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.common.options import RunOptions
from experiments.common.result import table
from experiments.dynamic_sharing import fig4b, integrators
from experiments.performance.parts import command_line, execute, keep
from neurosim.dynamics import (
    Gaussian,
    InverseSqrt,
    Plasticity,
    RateCircuit,
    simulate,
    transfer,
)
from neurosim.errors import require

CIRCUIT, GAMMA = RateCircuit(), 1e-2


@dataclass(frozen=True)
class Options:
    """What to measure."""

    out: Path | None = None
    quick: bool = False
    plain_presentations: int = 500
    repeats: int = 3


def numpy_stepping(weights: np.ndarray, inputs: np.ndarray, circuit: RateCircuit) -> np.ndarray:
    """Eq. 8 with plasticity at every step, vectorised over neurons and weights; records nothing."""
    w, m, w_init = weights.copy(), np.zeros_like(weights), weights
    r, r_inh, step = np.zeros(len(w)), 0.0, 0
    rate, leak = InverseSqrt(), circuit.dt / circuit.tau
    for x in inputs:
        for _ in range(circuit.steps):
            change_r = -r + w @ x - circuit.alpha * r_inh + circuit.bias
            change_inh = -r_inh + r.mean() - circuit.bias
            r = r + leak * change_r
            r_inh = r_inh + leak * change_inh
            if step > rate.start:
                eta = rate.base / np.sqrt(1 + step / rate.scale)
                m = 0.95 * m - eta * ((r - circuit.bias)[:, None] * x + GAMMA * (w - w_init))
                w = w + m
            step += 1
    return w


def fastest(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def agreement() -> float:
    """Largest difference between fast and plain, relative to the largest weight; must be tiny."""
    generator = np.random.default_rng(0)
    worst = 0.0
    for neurons, dimension in ((100, 81), (100, 9), (20, 36)):
        w = generator.normal(1, 1, (neurons, dimension))
        x = generator.standard_normal((40, dimension))
        plain = numpy_stepping(w, x, CIRCUIT)
        for solver in ("collapsed", "euler"):
            fast = simulate(
                w, x, response=CIRCUIT, plasticity=Plasticity(gamma=GAMMA), solver=solver
            )
            worst = max(worst, np.abs(fast.weights - plain).max() / np.abs(w).max())
    return float(worst)


def single_run(options: Options) -> dict[str, float]:
    """One population of Fig. 4B at k = 9."""
    generator = np.random.default_rng(1)
    w = generator.normal(1, 1, (100, 81))
    inputs = Gaussian(81, 10_000, seed=2)
    shown = inputs.array()[: options.plain_presentations]
    plasticity = Plasticity(gamma=GAMMA)

    def run(solver: str, x: Any, every: int | None) -> Callable[[], Any]:
        return lambda: simulate(
            w, x, response=CIRCUIT, plasticity=plasticity, solver=solver, record_every=every
        )

    share = len(shown) / inputs.presentations
    plain = fastest(lambda: numpy_stepping(w, shown, CIRCUIT), options.repeats) / share
    euler = fastest(run("euler", shown, None), options.repeats) / share
    result = {"numpy stepping, s": plain, "euler, s": euler}
    for every in (None, 10, 1):
        seconds = fastest(run("collapsed", inputs, every), max(5, options.repeats))
        name = "collapsed" if every is None else f"collapsed, recording every {every}"
        result |= {f"{name}, s": seconds, f"{name}, times faster than numpy": plain / seconds}
    return result


def whole_grid() -> dict[str, float]:
    """The Fig. 4B grid from nothing to run file and figure."""
    with tempfile.TemporaryDirectory() as folder:
        options = RunOptions(out=Path(folder), quiet=True)
        return {"90 runs, run file and figure, s": fastest(lambda: fig4b.run(options), 1)}


def growth(options: Options) -> list[dict[str, float]]:
    """Seconds over N, D and presentations T, with rates scaled to D; nothing is recorded."""
    base = (100, 81, 2000)
    many = (100, 1000, 10_000) if options.quick else (100, 1000, 10_000, 100_000)
    wide = (9, 81, 576) if options.quick else (9, 81, 576, 2304)
    sizes = [(n, 81, 200) for n in many]
    sizes += [(100, d, 2000) for d in wide]
    sizes += [(100, 81, t) for t in (2000, 20_000, 200_000)]
    if not options.quick:
        sizes += [(100_000, 9, 2000), (10_000, 2304, 50)]
    rows = []
    for n, d, t in dict.fromkeys([base, *sizes]):
        w = np.random.default_rng(3).normal(1, 1, (n, d))
        plasticity = Plasticity(InverseSqrt(base=3e-4 * min(1, 81 / d)), GAMMA)
        inputs = Gaussian(d, t, seed=4)
        seconds = fastest(
            lambda w=w, x=inputs, p=plasticity: simulate(
                w, x, response=CIRCUIT, plasticity=p, record_every=None
            ),
            2 if n * d * t < 1e9 else 1,
        )
        rows.append(
            {"N": n, "D": d, "T": t, "s": seconds, "ns per N D T": seconds / (n * d * t) * 1e9}
        )
    return rows


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from neurosim.dynamics import Gaussian, Plasticity, RateCircuit, simulate
w = np.random.default_rng(5).normal(1, 1, (100, 81))
simulate(w, Gaussian(81, int(sys.argv[1])), response=RateCircuit(), plasticity=Plasticity(),
         record_every=None)
status = Path("/proc/self/status").read_text()  # its own peak; ru_maxrss remembers the parent's
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


def memory() -> dict[str, float]:
    """Peak memory of a process that shows so many inputs and records none (Linux only)."""
    if not Path("/proc/self/status").exists():
        return {}
    peaks = {}
    for presentations in (1000, 20_000, 200_000):
        command = [sys.executable, "-c", MEMORY, str(presentations)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[f"peak of a process, {presentations:,} presentations, MiB"] = float(done.stdout)
    return peaks


def operators(options: Options) -> dict[str, float]:
    """The operator of a sleep of 2,000 presentations."""
    result = {}
    for d in (144, 576):
        plasticity = Plasticity(InverseSqrt(base=3e-4 * min(1, 81 / d)), GAMMA)
        seconds = fastest(
            lambda d=d, p=plasticity: transfer(Gaussian(d, 2000), response=CIRCUIT, plasticity=p),
            options.repeats,
        )
        result[f"transfer, D = {d}, s"] = seconds
    return result


def orders() -> dict[str, float]:
    """Observed orders, from the `integrators` experiment."""
    with tempfile.TemporaryDirectory() as folder:
        report = integrators.run(RunOptions(out=Path(folder), quiet=True))
    return {f"order of {name}": report.values["orders"][name] for name in ("Euler", "RK4")}


def brian2_agreement() -> dict[str, float]:
    """Largest difference between rates in Brian2 and in Euler stepping."""
    generator = np.random.default_rng(6)
    w, x = generator.normal(1, 1, (20, 9)), generator.standard_normal((5, 9))
    rates = [
        simulate(w, x, response=CIRCUIT, plasticity=Plasticity(), solver=s).rates([0, 4])
        for s in ("euler", "brian2")
    ]
    return {
        "Brian2 and euler, largest difference of a rate": float(
            np.abs(rates[0].r - rates[1].r).max()
        )
    }


def main(options: Options) -> int:
    """Measure everything, print it and keep it."""
    require(options.repeats >= 1, "--repeats", options.repeats, ">= 1")
    shown = options.plain_presentations
    require(1 <= shown <= 10_000, "--plain-presentations", shown, "from 1 to 10,000")
    worst = agreement()
    lines = [f"fast and plain agree within {worst:.1e} of the largest weight"]
    print(lines[0], flush=True)
    if not worst < 1e-11:
        print("they must agree within 1e-11: no speed is measured")
        return 1
    results: dict[str, Any] = {"agreement": worst}
    for name, part in {
        "one run of Fig. 4B, k = 9": lambda: single_run(options),
        "the grid of Fig. 4B": whole_grid,
        "operator of a sleep": lambda: operators(options),
        "orders": orders,
        "Brian2": brian2_agreement,
        "memory": memory,
        "growth": lambda: growth(options),
    }.items():
        results[name] = found = part()
        if isinstance(found, list):
            rows = [[f"{value:.4g}" for value in row.values()] for row in found]
            text = table([*found[0]], rows)
        else:
            width = max(map(len, found), default=0)
            text = [f"{key.ljust(width)}  {value:.4g}" for key, value in found.items()]
        text = ["", name, *(f"  {line}" for line in text)]
        print("\n".join(text), flush=True)
        lines += text
    print()
    print(json.dumps(results, indent=2))
    keep(options.out, "dynamics", lines, results)
    return 0


if __name__ == "__main__":  # argparse: machines that only measure may lack tyro
    parser = command_line(__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, half a minute")
    parser.add_argument("--plain-presentations", type=int, default=500, metavar="N",
                        help="presentations over which numpy stepping is timed (500)")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=3, metavar="N",
                        help="repetitions of which the fastest counts (3)")  # fmt: skip
    execute(parser, Options, main)
