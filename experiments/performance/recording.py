"""What sleeping and recording cost beside training: shares of a training step.

    python -m experiments.performance.recording [--device cpu|cuda] [--batch N] [--out FOLDER]

ResNet-20 with every convolution local, in one process and interleaved, because machines are noisy:
a full AdamW step (on a GPU in bfloat16, compiled, replayed as CUDA graphs: as fast as it goes), an
`Instant` sleep, a `Circuit` sleep whose operators are known, statistics of every layer, and a
snapshot of all weights with their filter distances: until training may go on, and until it is in
the file. Of each the fastest counts; on a GPU, what they add to a step that they follow.

Claims: a `Circuit` sleep costs at most a step (30% of one of batch 512 on a GPU), an `Instant`
sleep at most 10% of one, and recording statistics every 10 steps and snapshots every 500 slows
training by less than 3%.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from experiments.common.result import table
from experiments.performance.measure import interleaved
from experiments.performance.parts import OnDevice, device_command_line, execute, keep
from neurosim.models import resnet20
from neurosim.optim import AdamW
from neurosim.sleep import Circuit, Instant, Sleep
from neurosim.training import RecordSettings, TrainSettings
from neurosim.training.compiling import compile_network
from neurosim.training.recorder import Recorder

STATISTICS_EVERY, SNAPSHOT_EVERY = 10, 500
SNAPSHOTS = 3  # they fill the disk


def timed(options: OnDevice, folder: Path) -> dict[str, float]:
    """Milliseconds of everything."""
    torch.manual_seed(0)
    model = resnet20(connectivity="local").to(options.device)
    optimizer = AdamW(model.parameters(), lr=1e-4, fused=True)
    x = torch.randn(options.batch, 3, 32, 32, device=options.device)
    x = x.contiguous(memory_format=torch.channels_last)
    target = torch.randint(10, (options.batch,), device=options.device)
    instant, circuit = Sleep(Instant()), Sleep(Circuit())
    record = RecordSettings(STATISTICS_EVERY, SNAPSHOT_EVERY)
    device = torch.device(options.device)
    recorder = Recorder(folder / "run.h5", TrainSettings(record=record), model, device)

    forward: Callable[[Tensor], Tensor] = model
    if options.device != "cpu":
        forward = compile_network(model, cuda_graphs=True)

    def step() -> None:
        if options.device != "cpu":
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(options.device, torch.bfloat16, enabled=options.device != "cpu"):
            loss = functional.cross_entropy(forward(x), target)
        loss.backward()
        optimizer.step()

    beside = {
        "Instant sleep": lambda: instant(model),
        "Circuit sleep": lambda: circuit(model),
        "statistics": recorder.statistics,
    }
    works = [step, *beside.values()]
    if options.device != "cpu":  # a GPU may still be busy with the step while others are started
        works[1:] = [lambda work=work: (step(), work()) for work in beside.values()]
    alone, *measured = interleaved(works, options.repeats, options.device)
    if options.device != "cpu":
        measured = [together - alone for together in measured]
    times = {"training step": alone} | dict(zip(beside, measured, strict=True))
    waits, totals = [], []
    for number in range(SNAPSHOTS):
        start = time.perf_counter()
        recorder.snapshot(number)
        waits.append(1e3 * (time.perf_counter() - start))
        recorder.flush()
        totals.append(1e3 * (time.perf_counter() - start))
    recorder.close()
    return times | {"snapshot": min(waits), "snapshot, in the file": min(totals)}


def main(options: OnDevice) -> None:
    """Measure, print, keep."""
    options.check()
    with tempfile.TemporaryDirectory() as folder:
        times = timed(options, Path(folder))
    step = times["training step"]
    statistics = times["statistics"] / STATISTICS_EVERY / step
    shares = {
        "Circuit sleep / step": times["Circuit sleep"] / step,
        "Instant sleep / step": times["Instant sleep"] / step,
        "recording, slows training by": statistics + times["snapshot"] / SNAPSHOT_EVERY / step,
        "the same, if writing takes turns": statistics
        + times["snapshot, in the file"] / SNAPSHOT_EVERY / step,
    }
    rows = [[name, f"{value:.1f}"] for name, value in times.items()]
    lines = [
        f"ResNet-20, local, batch {options.batch}, {options.device}",
        *table(["", "ms"], rows),
        "",
        *(f"{name}: {100 * share:.1f}%" for name, share in shares.items()),
    ]
    print("\n".join(lines))
    stem = f"recording-{options.device}-{options.batch}"
    keep(options.out, stem, lines, {"milliseconds": times, "shares": shares})


if __name__ == "__main__":
    execute(device_command_line(__doc__, repeats=10), OnDevice.given, main)
