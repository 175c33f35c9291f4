"""What a training run leaves in its run file.

    step      loss, learning rate, images/s; SNR, spread and norm of every local layer
    sleep     one row per sleep: its step, and statistics of every layer before and after
    epoch     loss and accuracies on the test (or validation) images
    snapshot  weights of chosen layers and distances between their filters

Statistics before and after a sleep cost as much as a short sleep itself: they are taken at the
sleeps that fall on a recorded step, the rows of others hold NaN.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument
from neurosim.nn import LocallyConnected2d
from neurosim.nn.local import LocallyConnected
from neurosim.recording import BackgroundWriter, RunWriter, Status
from neurosim.sleep import LayerStatistics
from neurosim.sleep.statistics import measure
from neurosim.training.evaluation import Evaluation
from neurosim.training.filters import RADII, filter_distance
from neurosim.training.settings import RecordSettings, TrainSettings

# What the axes of a weight are called, by its number of axes.
AXES = {
    2: ("output", "input"),
    3: ("output", "input", "tap"),
    4: ("output", "input", "tap_row", "tap_column"),
    5: ("row", "output", "input", "tap"),
    6: ("row", "column", "output", "input", "tap_row", "tap_column"),
}


class Recorder:
    """Writes a training run to its file, beside the training."""

    def __init__(
        self,
        path: Path,
        settings: TrainSettings,
        model: nn.Module,
        device: torch.device,
        *,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.settings: RecordSettings = settings.record
        self.local = {
            name: module
            for name, module in model.named_modules()
            if isinstance(module, LocallyConnected)
        }
        self.kept = _chosen(model, self.settings)
        config, seed, on = settings.as_json(), settings.seed, str(device)
        if resume:
            run = RunWriter.resume(path, "training", config, seed, on)
        else:
            run = RunWriter(path, "training", config, seed, overwrite, on)
        try:
            self._declare(run)
            run.start()
        except BaseException:
            run.close()
            raise
        self._file = BackgroundWriter(run)

    def _declare(self, run: RunWriter) -> None:
        run.scale("step", dtype="i8", description="optimizer steps done")
        for name, what in {
            "loss": "mean training loss since the last record",
            "learning_rate": "learning rate of the last step",
            "images_per_second": "training images since the last record, per second",
        }.items():
            run.dataset(name, ("step",), "f8", description=what)
        run.scale("epoch", dtype="i8", description="epochs done")
        for name, what in {
            "test_loss": "mean loss on the images held out",
            "top1": "share of them whose class comes first",
            "top5": "share of them whose class is among the first five",
            "seconds": "time of training since the start or the last resumption",
        }.items():
            run.dataset(name, ("epoch",), "f8", description=what)
        run.scale("sleep", dtype="i8", description="optimizer steps done when the sleep began")
        if self.local:
            run.scale("layer", list(self.local), description="locally connected layers")
            run.scale("measure", list(LayerStatistics.names()), description="see neurosim.sleep")
            run.scale("moment", ["before", "after"], description="of a sleep")
            layers = ("layer", "measure")
            run.dataset("statistics", ("step", *layers), description="of every local layer")
            run.dataset(
                "sleep_statistics", ("sleep", "moment", *layers), description="around sleeps"
            )
        if self.settings.gradients:
            names = [name for name, _ in self.kept] or ["none"]
            run.scale("gradient_layer", names, description="layers with a weight")
            run.dataset(
                "gradient_norm",
                ("step", "gradient_layer"),
                description="norm of the weight's gradient at the recorded step",
            )
        if self.settings.snapshot_every is not None:
            run.scale("snapshot", dtype="i8", description="optimizer steps done")
            self._declare_snapshots(run)

    def _declare_snapshots(self, run: RunWriter) -> None:
        for name, module in self.kept:
            group = f"weights/{name}"
            shape = module.weight.shape
            axes = AXES.get(len(shape), tuple(f"axis{i}" for i in range(len(shape))))
            for axis, size in zip(axes, shape, strict=True):
                run.scale(f"{group}/{axis}", np.arange(size))
            dims = ("snapshot", *(f"{group}/{axis}" for axis in axes))
            kind = self.settings.snapshot_dtype
            run.dataset(f"{group}/weight", dims, kind, description=f"weight of {name}")
        if self._maps:
            run.scale("map", [name for name, _ in self._maps], description="2d local layers")
            run.scale("radius", np.array(RADII), description="of the ring of neighbours")
            for kind in ("euclidean", "cosine"):
                dims = ("snapshot", "map", "radius")
                run.dataset(f"{kind}_distance", dims, description="see training.filters")

    @property
    def _maps(self) -> list[tuple[str, LocallyConnected2d]]:
        return [(n, m) for n, m in self.kept if isinstance(m, LocallyConnected2d)]

    def due(self, step: int) -> bool:
        """Whether this step, counted from 0, is recorded: the first, and every n-th after it."""
        return step % self.settings.record_every == 0

    def snapshot_due(self, step: int) -> bool:
        """Whether weights are kept after so many steps."""
        every = self.settings.snapshot_every
        return every is not None and step % every == 0

    def statistics(self) -> np.ndarray:
        """(layers, measures) of all local layers; one wait for the device."""
        if not self.local:
            return np.empty((0, len(LayerStatistics.names())))
        return torch.stack([measure(layer) for layer in self.local.values()]).double().cpu().numpy()

    def gradient_norms(self) -> list[Tensor]:
        """Norms of the kept layers' gradients, still on the device."""
        return [
            torch.zeros(()) if m.weight.grad is None else torch.linalg.vector_norm(m.weight.grad)
            for _, m in self.kept
        ]

    def step(
        self,
        done: int,
        loss: float,
        learning_rate: float,
        images_per_second: float,
        statistics: np.ndarray,
        gradients: Sequence[Tensor] = (),
    ) -> None:
        """Record a step."""
        row: dict[str, Any] = {
            "step": done,
            "loss": loss,
            "learning_rate": learning_rate,
            "images_per_second": images_per_second,
        }
        if self.local:
            row["statistics"] = statistics
        if self.settings.gradients:
            row["gradient_norm"] = np.array([float(g) for g in gradients] or [math.nan])
        self._file.append("step", row)

    def sleep(self, done: int, before: np.ndarray | None, after: np.ndarray | None) -> None:
        """Record a sleep, with statistics if it falls on a recorded step."""
        nothing = np.full((len(self.local), len(LayerStatistics.names())), math.nan)
        pair = [nothing if v is None else v for v in (before, after)]
        self._file.append("sleep", {"sleep": done, "sleep_statistics": np.stack(pair)})

    def epoch(self, done: int, result: Evaluation, seconds: float) -> None:
        """Record an evaluation."""
        self._file.append(
            "epoch",
            {
                "epoch": done,
                "test_loss": result.loss,
                "top1": result.top1,
                "top5": result.top5,
                "seconds": seconds,
            },
        )

    def snapshot(self, done: int) -> None:
        """Record weights and filter distances; weights are copied now and laid out later."""
        row: dict[str, Any] = {"snapshot": done}
        size = 0
        for name, module in self.kept:
            kind = getattr(torch, self.settings.snapshot_dtype)
            weight = module.weight.detach().to("cpu", kind, copy=True)
            row[f"weights/{name}/weight"] = _numpy_later(weight)
            size += weight.nbytes
        if self._maps:
            distances = np.array(
                [[filter_distance(m, radius) for radius in RADII] for _, m in self._maps]
            )
            row["euclidean_distance"], row["cosine_distance"] = distances[..., 0], distances[..., 1]
        self._file.append("snapshot", row, size=size)

    def flush(self) -> None:
        """Wait until everything is in the file: a checkpoint must not be ahead of it."""
        self._file.flush()

    def close(self, status: str = Status.COMPLETE, message: str = "") -> None:
        """End the run file."""
        self._file.close(status, message)


def _numpy_later(weight: Tensor) -> Callable[[], np.ndarray]:
    return lambda: np.ascontiguousarray(weight.numpy())


def _chosen(model: nn.Module, settings: RecordSettings) -> list[tuple[str, Any]]:
    """Layers with a weight of two or more axes that match the patterns."""
    weighted = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor) and weight.ndim >= 2
    ]
    for pattern in settings.snapshot_layers:
        if not any(fnmatch.fnmatch(name, pattern) for name, _ in weighted):
            known = ", ".join(name for name, _ in weighted)
            raise InvalidArgument(f"--snapshot-layers must match some of {known}, got {pattern!r}")
    return [
        (name, module)
        for name, module in weighted
        if any(fnmatch.fnmatch(name, pattern) for pattern in settings.snapshot_layers)
    ]
