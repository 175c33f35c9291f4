"""What a training run leaves in its run file.

    step      loss, learning rate, images/s; SNR, spread and norm of every local layer; if asked
              for, how many weights of every layer are not zero
    sleep     one row per sleep: its step, and statistics of every layer before and after
    epoch     loss and accuracies on the training images as they were trained with, on the test
              (or validation) images, and on distorted copies of these
    end       accuracies on training, validation and test images, if they are wanted
    snapshot  weights of chosen layers, distances between local filters, locality of dense ones;
              of low-rank layers the banks, and fixed combining weights as images

Statistics before and after a sleep cost as much as a short sleep itself: where sleeps come more
often than records of a step, they are taken as often as those, and the rows of others hold NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurosim.nn.local import LocallyConnected
from neurosim.recording import BackgroundWriter, RunWriter, Status
from neurosim.sleep import LayerStatistics
from neurosim.sleep.layers import low_rank_layers
from neurosim.sleep.statistics import measure
from neurosim.training.evaluation import Evaluation
from neurosim.training.settings import RecordSettings, TrainSettings
from neurosim.training.snapshots import Snapshots

OWN_NETWORK = "own_network"  # note on a run whose settings do not describe its network


class Recorder:
    """Writes a training run to its file, beside the training."""

    def __init__(
        self,
        path: Path,
        settings: TrainSettings,
        model: nn.Module,
        device: torch.device,
        *,
        own: str | None = None,
        splits: Sequence[str] = (),
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.settings: RecordSettings = settings.record
        self.parts = splits
        self.copies = settings.data.evaluations
        self.weighted = _weighted(model)
        layers = self.weighted.items()
        self.local = {n: m for n, m in layers if isinstance(m, LocallyConnected)}
        self.snapshots = Snapshots(self.settings, self.weighted | low_rank_layers(model))
        config, seed, on = settings.as_json(), settings.seed, str(device)
        if resume:
            run = RunWriter.resume(path, "training", config, seed, on)
        else:
            run = RunWriter(path, "training", config, seed, overwrite, on)
        try:
            self._declare(run)
            if (built := settings.sleep.build()) is not None:
                run.attribute("sleep", repr(built[0]))  # with the defaults of its mechanism
            if own is not None:
                run.attribute(OWN_NETWORK, own)
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
            "train_loss": "mean loss on the training images, distorted, while it was trained",
            "train_top1": "share of them whose class came first",
            "test_loss": "mean loss on the images held out",
            "top1": "share of them whose class comes first",
            "top5": "share of them whose class is among the first five",
            "seconds": "time of training since the start or the last resumption",
        }.items():
            run.dataset(name, ("epoch",), "f8", description=what)
        if self.copies:
            run.scale("copy", list(self.copies), description="how images held out are distorted")
            for name, what in {"copy_loss": "mean loss", "copy_top1": "accuracy"}.items():
                run.dataset(name, ("epoch", "copy"), "f8", description=f"{what} on such copies")
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
            run.scale("gradient_layer", list(self.weighted), description="layers with a weight")
            run.dataset(
                "gradient_norm",
                ("step", "gradient_layer"),
                description="norm of the weight's gradient in the recorded step",
            )
        if self.parts:
            run.scale("end", dtype="i8", description="optimizer steps done in the end")
            run.scale("split", list(self.parts), description="parts of the data")
            run.dataset(
                "split_top1", ("end", "split"), "f8", description="top1 on each, in the end"
            )
        if self.settings.nonzeros:
            run.scale("weight_layer", list(self.weighted), description="layers with a weight")
            sizes = np.array([module.weight.numel() for module in self.weighted.values()])
            run.constant("parameters", sizes, ("weight_layer",), description="all weights")
            what = "weights that are not zero"
            run.dataset("nonzeros", ("step", "weight_layer"), "i8", description=what)
        if self.settings.snapshot_every is not None:
            run.scale("snapshot", dtype="i8", description="optimizer steps done")
            self.snapshots.declare(run)

    def statistics(self) -> Tensor:
        """(layers, measures) of all local layers, on their device: nobody waits for them here."""
        if not self.local:
            return torch.empty(0, len(LayerStatistics.names()))
        return measure([*self.local.values()])

    def gradient_norms(self) -> np.ndarray | None:
        """Norms of all weights' gradients, if they are to be recorded; one wait for the device."""
        if not self.settings.gradients:
            return None
        weights = [module.weight for module in self.weighted.values()]
        norms = [
            weight.new_zeros(()) if weight.grad is None else torch.linalg.vector_norm(weight.grad)
            for weight in weights
        ]
        return torch.stack(norms).double().cpu().numpy()

    def nonzeros(self) -> np.ndarray:
        """(layers,) weights that are not zero; one wait for the device."""
        counts = [module.weight.detach().count_nonzero() for module in self.weighted.values()]
        return torch.stack(counts).cpu().numpy()

    def step(
        self,
        done: int,
        loss: float,
        learning_rate: float,
        images_per_second: float,
        statistics: np.ndarray,
        gradients: np.ndarray | None = None,
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
        if gradients is not None:
            row["gradient_norm"] = gradients
        if self.settings.nonzeros:
            row["nonzeros"] = self.nonzeros()
        self._file.append("step", row)

    def sleep(self, done: int, before: Tensor | None, after: Tensor | None) -> None:
        """Record a sleep, with statistics if they were taken; the writer waits for them."""
        row: dict[str, Any] = {"sleep": done}
        if self.local:
            nothing = torch.full((len(self.local), len(LayerStatistics.names())), torch.nan)
            pair = [nothing if v is None else v for v in (before, after)]
            row["sleep_statistics"] = lambda: np.stack([v.cpu().numpy() for v in pair])
        self._file.append("sleep", row)

    def epoch(
        self,
        done: int,
        trained: Sequence[float],
        result: Evaluation,
        copies: Sequence[Evaluation],
        seconds: float,
    ) -> None:
        """Record an evaluation, after an epoch with a mean loss and accuracy of training."""
        row: dict[str, Any] = {
            "epoch": done,
            "train_loss": trained[0],
            "train_top1": trained[1],
            "test_loss": result.loss,
            "top1": result.top1,
            "top5": result.top5,
            "seconds": seconds,
        }
        if self.copies:
            row["copy_loss"] = [copy.loss for copy in copies]
            row["copy_top1"] = [copy.top1 for copy in copies]
        self._file.append("epoch", row)

    def splits(self, done: int, results: Mapping[str, Evaluation]) -> None:
        """Record accuracies on every part of the data."""
        top1 = np.array([result.top1 for result in results.values()])
        self._file.append("end", {"end": done, "split_top1": top1})

    def snapshot(self, done: int) -> None:
        """Record weights and filter distances; weights are copied now and laid out later."""
        row, size = self.snapshots.take()
        self._file.append("snapshot", {"snapshot": done, **row}, size=size)

    def flush(self) -> None:
        """Wait until everything is in the file: a checkpoint must not be ahead of it."""
        self._file.flush()

    def close(self, status: str = Status.COMPLETE, message: str = "") -> None:
        """End the run file."""
        self._file.close(status, message)


def _weighted(model: nn.Module) -> dict[str, Any]:
    """Layers with a weight of two or more axes, by qualified name."""
    return {
        name or "layer": module
        for name, module in model.named_modules()
        if isinstance(weight := getattr(module, "weight", None), Tensor)
        and weight.ndim >= 2
        and weight.layout is torch.strided
    }
