"""Sec. 4.1: layers may sleep one after the other or all at once, and end in the same weights.

Claims, for three locally connected layers with batch norm and ReLU between them, of which only
the first is shown tiles from outside:
- a layer that is shown the patterns that the layers below make of them becomes equal within its
  grids, down to about gamma / (gamma + lambda) of its deviations along an eigenvector of C with
  eigenvalue lambda, so to at most gamma / lambda_min;
- in turn or together, the weights end the same up to O(gamma / lambda_min(C)) and what is not
  converged: deviations that are left, and a memory of the unequal patterns that deep layers saw
  at first, which displaced their means and which only gamma takes back, exp(-rate gamma steps /
  ((1 - momentum) D)) of it being left. A short sleep has the memory and a long one has not.
Differences and deviations are relative to the deviations at the start. 6 x 6 images that wrap
around, so that patterns are periodic everywhere; 4 channels, gamma 0.03, momentum 0.9.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from experiments.common.options import RunOptions
from experiments.common.result import Report, table
from neurosim.nn import LocallyConnected2d
from neurosim.progress import track
from neurosim.recording import RunReader, RunWriter
from neurosim.sleep import Agreement, Layerwise, Patterns, compare_orders

STEPS = (100, 400)
LAYERS, SIZE, CHANNELS = 3, 6, 4
SLEEP = Layerwise(batch=16, rate=1.0, gamma=0.03, momentum=0.9)


def network() -> nn.Sequential:
    """Filters are one filter for all plus noise of a third of its size."""
    modules: list[nn.Module] = []
    for _ in range(LAYERS):
        modules += [
            LocallyConnected2d(
                CHANNELS, CHANNELS, 3, SIZE,
                padding=1, padding_mode="circular", bias=False, init=0.3,
            ),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
        ]  # fmt: skip
    return nn.Sequential(*modules)


def run(options: RunOptions) -> Report:
    """Sleep in both orders, for a short and a long time, and compare."""
    path = options.run_file("layerwise")
    config = {"study": "layerwise", "steps": STEPS, "sleep": repr(SLEEP), "layers": LAYERS}
    writer = RunWriter(
        path, kind="convergence", config=config, seed=options.seed, overwrite=options.overwrite
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = network()
    with writer as file:
        file.scale("steps", np.array(STEPS), description="batches of tiles in a sleep")
        file.scale("layer", np.arange(1, LAYERS + 1), description="counted from the image")
        file.scale("measure", np.array(Agreement._fields), description="see neurosim.sleep")
        dims = ("steps", "layer", "measure")
        file.dataset("agreement", dims=dims, dtype="f8", description="of the two orders")
        file.start()
        for index, steps in track(
            enumerate(STEPS), total=len(STEPS), title="layerwise", quiet=options.quiet
        ):
            sleep = Layerwise(steps, SLEEP.batch, SLEEP.rate, SLEEP.gamma, SLEEP.momentum)
            found = compare_orders(model, sleep, patterns=Patterns(seed=options.seed))
            file.write("agreement", np.array(list(found.values())), index=(index,))
            file.flush()
    with RunReader(path) as file:
        agreement = np.asarray(file["agreement"])
    header = [
        "steps", "layer", "difference", "lambda_min", "gamma / lambda_min",
        "left, together", "left, in turn", "memory",
    ]  # fmt: skip
    rows, values = [], []
    for steps, by_layer in zip(STEPS, agreement, strict=True):
        for layer, measures in enumerate(by_layer, start=1):
            rows.append([str(steps), str(layer), *(f"{v:.3g}" for v in measures)])
            named = dict(zip(Agreement._fields, measures.tolist(), strict=True))
            values.append({"steps": steps, "layer": layer, **named})
    lines = [
        "Weights after a sleep of all layers together and in turn",
        *table(header, rows),
    ]
    return Report("layerwise", path, [], lines, {"layers": values})
