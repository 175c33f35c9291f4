"""Wake and sleep: the training loop, from top to bottom."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurosim.data import Augment, Dataset, Loader
from neurosim.errors import Diverged, Interrupted, InvalidArgument, require
from neurosim.progress import StatusLine, duration
from neurosim.recording import Status
from neurosim.sleep import LayerStatistics, Moment, local_layers, share_moments
from neurosim.sleep.statistics import measure
from neurosim.training.build import build_augment, build_data, build_network
from neurosim.training.checkpoint import Checkpoints, check_same
from neurosim.training.distributed import Processes, process_group
from neurosim.training.evaluation import Evaluation, evaluate, recalibrate
from neurosim.training.interrupt import StopRequest
from neurosim.training.optimisation import build_optimizer, learning_rate, set_learning_rate
from neurosim.training.recorder import Recorder
from neurosim.training.settings import TrainSettings

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
RECALIBRATION = 10  # batches that batch norm is measured on again
PROGRESS = ("step", "epoch", "sleeps", "rested", "best", "best_epoch")
SNR = LayerStatistics.names().index("snr")


@dataclass(frozen=True)
class Place:
    """Where a run happens and where its results go."""

    run_file: Path
    device: str = "auto"
    resume: bool = False
    overwrite: bool = False
    quiet: bool = False
    checkpoint_every: int | None = None
    """Steps between checkpoints; None for one after every epoch."""
    keep: int = 2
    """Checkpoints that stay."""

    @property
    def checkpoints(self) -> Checkpoints:
        """The folder beside the run file."""
        return Checkpoints(self.run_file.with_suffix(".checkpoints"), self.keep)


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    run_file: Path
    final: Evaluation
    best: float  # top-1 accuracy of the best epoch
    epochs: int
    steps: int
    seconds: float  # of training, since the start or the last resumption
    step_seconds: float  # of one step, sleeps and recording included, evaluation not


def train(settings: TrainSettings, place: Place, network: nn.Module | None = None) -> Result:
    """Train the network that the settings describe, or `network`, and record everything.

    A killed or interrupted run goes on with `place.resume` from its last checkpoint, and ends
    with the same weights, bit for bit on a CPU, as if nothing had happened.
    """
    settings.check()
    require(place.keep >= 1, "--keep", place.keep, ">= 1")
    every = place.checkpoint_every
    require(every is None or every >= 1, "--checkpoint-every", every, ">= 1")
    with process_group(place.device) as processes:
        return Training(settings, place, processes, network).run()


class Training:
    """One run: what it is made of, how far it is, and the loop."""

    def __init__(
        self,
        settings: TrainSettings,
        place: Place,
        processes: Processes,
        network: nn.Module | None = None,
    ) -> None:
        self.settings, self.place, self.processes = settings, place, processes
        device, seed, wake = processes.device, settings.seed, settings.optimisation
        torch.manual_seed(seed)
        data = build_data(settings.data, seed)
        augment = build_augment(settings.data, data)
        size = augment.image_size(data.image_size)
        model = build_network(settings.network, data, size) if network is None else network
        self.model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train_loader = self._loader(data, augment, train=True)
        self.test_loader = self._loader(data, augment, train=False)

        self.precision = PRECISIONS[wake.precision]
        self.optimizer = build_optimizer(wake, self.model.parameters())
        self.scaler = torch.amp.GradScaler(device.type, enabled=wake.precision == "float16")
        network = processes.wrap(self.model)
        self.network: Callable[[Tensor], Tensor] = (
            torch.compile(network) if wake.compile else network
        )
        self.sleep, self.schedule = settings.sleep.build() or (None, None)
        self.recorder: Recorder | None = None

        # How far the run is: what a checkpoint holds besides weights and optimizer.
        self.step = self.epoch = self.sleeps = 0
        self.rested = False  # slept since batch norm was last measured again
        self.best, self.best_epoch = 0.0, 0

        # Since the last record; shown, and without influence on results.
        self.losses: list[Tensor] = []
        self.images = 0
        self.line = StatusLine(quiet=place.quiet or not processes.first)
        self.shown = {"loss": math.nan, "SNR": math.nan, "images/s": math.nan, "top-1": math.nan}

    def _loader(self, data: Dataset, augment: Augment, *, train: bool) -> Loader:
        return Loader(
            data.train if train else data.test,
            self.settings.optimisation.batch_size,
            mean=data.mean,
            std=data.std,
            augment=augment if train else augment.evaluation(),
            shuffle=train,
            seed=self.settings.seed,
            device=self.processes.device,
            rank=self.processes.rank,
            world=self.processes.world,
        )

    def run(self) -> Result:
        """Train to the end, or to the first thing that forbids it."""
        self._restore()
        if self.processes.first:
            self.recorder = self._recorder()
        status, message = Status.FAILED, ""
        try:
            with StopRequest() as stop:
                result = self._train(stop)
            status = Status.COMPLETE
        except (Interrupted, KeyboardInterrupt) as error:
            status, message = Status.INTERRUPTED, str(error) or "stopped by Ctrl-C"
            raise
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
            raise
        finally:
            if self.recorder is not None:
                self.recorder.close(status, message)
        return result

    # The loop

    def _train(self, stop: StopRequest) -> Result:
        """All epochs that are left: wake and sleep, evaluate, save."""
        first, evaluating, result = self.step, 0.0, None
        self.started = self.recorded = time.perf_counter()
        while self.epoch < self.settings.optimisation.epochs and not self._given_up():
            self._train_epoch(stop)
            self.epoch += 1
            begun = time.perf_counter()
            result = self._evaluate()
            if self.place.checkpoint_every is None:
                self._save()
            pause = time.perf_counter() - begun
            evaluating, self.recorded = evaluating + pause, self.recorded + pause
        result = result or self._evaluate()  # resumed after its end
        seconds = time.perf_counter() - self.started
        waking = (seconds - evaluating) / max(1, self.step - first)
        path = self.place.run_file
        return Result(path, result, self.best, self.epoch, self.step, seconds, waking)

    def _train_epoch(self, stop: StopRequest) -> None:
        """Wake steps, with the sleeps that fall due; from where a checkpoint left off."""
        batches = len(self.train_loader)
        begin = self.step - self.epoch * batches
        for batch, (x, y) in enumerate(self.train_loader.epoch(self.epoch, begin), begin):
            now = Moment(self.step, batch, batches)
            rate = learning_rate(self.settings.optimisation, self.epoch + batch / batches)
            recorder = self.recorder if self.recorder and self.recorder.due(self.step) else None
            gradients = self._wake(x, y, batch, rate, recorder)
            self.step += 1
            statistics = recorder.statistics() if recorder else None
            if self.schedule is not None and self.schedule.due(now, self._lowest_snr):
                self._sleep(statistics)
            if recorder and statistics is not None:
                self._record(recorder, rate, statistics, gradients)
            if self.recorder and self.recorder.snapshot_due(self.step):
                self.recorder.snapshot(self.step)
            self.line.update(self._state(batches))
            every = self.place.checkpoint_every
            if every is not None and self.step % every == 0:
                self._save()
            self._obey(stop)

    def _wake(
        self, x: Tensor, y: Tensor, batch: int, rate: float, recorder: Recorder | None
    ) -> list[Tensor]:
        """One gradient step on the mean loss over the rows of all processes."""
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, self.precision, enabled=self.precision is not None):
            logits = self.network(x)
        smoothing = self.settings.optimisation.label_smoothing
        loss = cross_entropy(logits.float(), y, reduction="sum", label_smoothing=smoothing)
        # Gradients are averaged over processes, whose shares of a batch may differ in size.
        rows = self.train_loader.rows(batch)
        self.scaler.scale(loss * (self.processes.world / rows)).backward()
        gradients: list[Tensor] = []
        if recorder and self.settings.record.gradients:
            self.scaler.unscale_(self.optimizer)
            gradients = recorder.gradient_norms()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.losses.append(loss.detach() / len(y))
        self.images += rows
        return gradients

    def _sleep(self, before: np.ndarray | None) -> None:
        """All layers share their weights; `before` are statistics, if this sleep is recorded."""
        assert self.sleep is not None
        generator = None
        if self.sleep.noise:
            generator = torch.Generator(self.processes.device)
            generator.manual_seed(self.settings.seed * 1_000_003 + self.sleeps)
        self.sleep(self.model, self.sleeps, generator)
        if self.settings.sleep.moments == "share":
            share_moments(self.optimizer, self.model, self.sleep.border)
        self.processes.agree(self.model)
        self.sleeps += 1
        self.rested = True
        if self.recorder:
            after = None if before is None else self.recorder.statistics()
            self.recorder.sleep(self.step, before, after)

    def _evaluate(self) -> Evaluation:
        """Loss and accuracy on the images held out."""
        self._mean_loss()
        if self.rested and self.settings.sleep.batch_norm == "recalibrate":
            batches = itertools.islice(self.train_loader.epoch(self.epoch), RECALIBRATION)
            recalibrate(self.model, batches, self.precision)
            self.rested = False
        result = evaluate(self.model, self.test_loader.epoch(0), self.processes, self.precision)
        if not math.isfinite(result.loss):
            raise self._diverged("loss on the images held out")
        if result.top1 > self.best:
            self.best, self.best_epoch = result.top1, self.epoch
        self.shown["top-1"] = result.top1
        seconds = time.perf_counter() - self.started
        if self.recorder:
            self.recorder.epoch(self.epoch, result, seconds)
        if self.epoch == 1 or self.epoch % 10 == 0:
            self.line.say(f"{self._state(len(self.train_loader))}, {duration(seconds)} so far")
        return result

    # What the loop needs

    def _given_up(self) -> bool:
        """Whether the accuracy has not improved for too long."""
        patience = self.settings.optimisation.patience
        return patience is not None and self.epoch - self.best_epoch >= patience

    def _lowest_snr(self) -> float:
        """The lowest SNR (Eq. 6) of all layers, over interior positions."""
        layers = local_layers(self.model).values()
        return float(torch.stack([measure(layer)[SNR] for layer in layers]).min())

    def _record(
        self, recorder: Recorder, rate: float, statistics: np.ndarray, gradients: list[Tensor]
    ) -> None:
        """A row of the run file: what happened since the last one, layers as before a sleep."""
        now = time.perf_counter()
        speed = self.images / (now - self.recorded)
        loss = self._mean_loss()
        recorder.step(self.step, loss, rate, speed, statistics, gradients)
        self.shown.update({"loss": loss, "images/s": speed})
        if len(statistics):
            self.shown["SNR"] = float(statistics[:, SNR].min())
        self.images, self.recorded = 0, now

    def _mean_loss(self) -> float:
        """Mean over the steps since it was last asked for; NaN and Inf end the run."""
        if not self.losses:
            return math.nan
        loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        if not math.isfinite(loss):
            raise self._diverged("training loss")
        return loss

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"the {what} became NaN or Inf in the last steps up to {self.step} (epoch "
            f"{self.epoch + 1}): lower --lr, or add --warmup"
        )

    def _state(self, batches: int) -> str:
        """The live line: how far, how good, how fast, how long."""
        total = self.settings.optimisation.epochs * batches
        name = self.place.run_file.stem
        parts = [f"{name}: epoch {self.step / batches:.1f}/{self.settings.optimisation.epochs}"]
        formats = {"loss": ".3f", "SNR": ".3g", "images/s": ",.0f", "top-1": ".3f"}
        parts += [f"{k} {v:{formats[k]}}" for k, v in self.shown.items() if not math.isnan(v)]
        passed = time.perf_counter() - self.started
        if self.step > self.resumed_at:
            left = passed / (self.step - self.resumed_at) * (total - self.step)
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)

    def _obey(self, stop: StopRequest) -> None:
        """Save and stop, if any process was told to."""
        # Asking the others costs a wait: not at every step.
        if self.processes.world > 1 and self.step % self.settings.record.record_every:
            return
        if self.processes.any(bool(stop.asked)):
            self._save()
            raise Interrupted(
                f"stopped by {stop.asked or 'another process'} after step {self.step} and saved: "
                "go on with --resume"
            )

    # Checkpoints

    def _recorder(self) -> Recorder:
        path = self.place.run_file
        resume = self.place.resume and path.exists()
        return Recorder(
            path,
            self.settings,
            self.model,
            self.processes.device,
            resume=resume,
            overwrite=self.place.overwrite,
        )

    def _save(self) -> None:
        """Write a checkpoint, once everything up to it is in the run file."""
        self._mean_loss()
        if self.recorder:
            self.recorder.flush()
            device = self.processes.device
            state = {
                "settings": self.settings.as_json(),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "progress": {name: getattr(self, name) for name in PROGRESS},
                "random": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            }
            self.place.checkpoints.save(self.step, state)
        self.processes.wait()

    def _restore(self) -> None:
        """Go on from the newest checkpoint, if asked to; else make sure that none is there."""
        checkpoints = self.place.checkpoints
        if not self.place.resume:
            if checkpoints.paths() and not self.place.overwrite:
                raise InvalidArgument(
                    f"{checkpoints.folder} has checkpoints already: pass --resume to go on from "
                    "them, --overwrite to discard them, or choose another place"
                )
            if self.processes.first:
                checkpoints.clear()
        elif (state := checkpoints.load(self.processes.device)) is not None:
            check_same(state["settings"], self.settings.as_json(), checkpoints.folder)
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            for name, value in state["progress"].items():
                setattr(self, name, value)
            torch.set_rng_state(state["random"].cpu())
            if state["cuda"] is not None and self.processes.device.type == "cuda":
                torch.cuda.set_rng_state(state["cuda"].cpu(), self.processes.device)
            self.line.say(f"going on after step {self.step} (epoch {self.epoch})")
        self.resumed_at = self.step
        self.processes.wait()
