"""Wake and sleep: the training loop, from top to bottom."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurosim.data import Augment, Dataset
from neurosim.data.random import generator
from neurosim.errors import Diverged, Interrupted, InvalidArgument
from neurosim.optim import step_in_backward
from neurosim.recording import Status
from neurosim.sleep import (
    BelowSNR,
    Moment,
    frame_of,
    local_layers,
    share_moments,
)
from neurosim.sleep.layers import slept_parameters
from neurosim.sleep.moments import moments_of
from neurosim.sleep.statistics import SNR, lowest_snr
from neurosim.training.build import (
    build_augment,
    build_copies,
    build_data,
    build_loader,
    build_network,
    check_batches,
    check_network,
    check_processes,
    made_ready,
    structure,
)
from neurosim.training.compiling import compile_network
from neurosim.training.display import Display
from neurosim.training.distributed import Processes, join_processes
from neurosim.training.evaluation import Evaluation, evaluate, recalibrate
from neurosim.training.interrupt import StopRequest
from neurosim.training.keeper import Keeper
from neurosim.training.meters import Clock, Means
from neurosim.training.optimisation import build_optimizer, learning_rate, set_learning_rate
from neurosim.training.place import Place, Result
from neurosim.training.recorder import Recorder
from neurosim.training.settings import TrainSettings
from neurosim.training.state import Progress, State

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
RECALIBRATION = 10  # batches that batch norm is measured on again


def train(settings: TrainSettings, place: Place, network: nn.Module | None = None) -> Result:
    """Train the network that the settings describe, or `network`, and record everything.

    The run file says how a network of one's own is made; to go on with it, give it again.

    A killed or interrupted run goes on with `place.resume` from its last checkpoint, and ends
    with the same weights, bit for bit on a CPU, as if nothing had happened.
    """
    settings.check()
    place.check()
    return Training(settings, place, join_processes(place.device), network).run()


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
        check_processes(settings.optimisation, processes)
        torch.manual_seed(settings.seed)
        data = build_data(settings.data, settings.seed)
        augment = build_augment(settings.data, data)
        size = augment.image_size(data.image_size)
        built = build_network(settings.network, data, size) if network is None else network
        self.model = made_ready(built, processes.device)
        if processes.rank:  # what is random in a network is random in every process by itself
            torch.manual_seed(_seed("process", settings.seed, processes.rank))
        self._build_loaders(data, augment)
        self._build_wake()
        image = (data.channels, *self.test_loader.image_size)
        self.sleep, self.schedule = settings.sleep.build(image) or (None, None)
        check_network(self.model, data, image, processes.device, self.precision)
        check_batches(self.model, self.train_loader, image, processes.device)
        self._check_sleep()

        self.loss, self.seen, self.at = Means(processes), Means(processes, 2), Progress()
        self.state = State(
            self.model, self.optimizer, self.scaler, self.loss, self.seen, self.at, processes
        )
        shown = {
            "classes": data.classes,
            "channels": data.channels,
            "size": list(size),
            "mean": list(data.mean),
            "std": list(data.std),
        }
        own = None if network is None else structure(network)
        self.keeper = Keeper(settings, place, self.state, shown, [*self.splits], own)

        # Shown, and without influence on results.
        self.clock = Clock()
        self.images, self.recorded = 0, (0, 0.0)  # trained with; and when, at the last record
        quiet = place.quiet or not processes.first
        name, epochs = place.run_file.stem, settings.optimisation.epochs
        batches = len(self.train_loader)
        self.display = Display(name, epochs, batches, self.clock, quiet=quiet, live=place.live)

    def _build_loaders(self, data: Dataset, augment: Augment) -> None:
        """Of images to train on, of those held out, and of what else is evaluated."""
        settings, loader = self.settings, partial(build_loader, self.settings, self.processes)
        self.train_loader = loader(data, augment, train=True)
        self.test_loader = loader(data, augment)
        self.splits = {
            name: loader(replace(data, test=part), augment)
            for name, part in data.splits.items()
            if settings.record.splits
        }
        self.copies = {
            name: loader(data, augment, distortion=distortion)
            for name, distortion in build_copies(settings.data).items()
        }

    def _build_wake(self) -> None:
        """What a gradient step takes besides the model: optimizer, precision, compiled network."""
        wake, device = self.settings.optimisation, self.processes.device
        self.precision = PRECISIONS[wake.precision]
        self.optimizer = build_optimizer(wake, self.model)
        if wake.step_in_backward:
            step_in_backward(self.optimizer)
        self.scaler = torch.amp.GradScaler(device.type, enabled=wake.precision == "float16")
        self.plain: Callable[[Tensor], Tensor] = self.processes.wrap(self.model)
        self.network = self.plain
        if wake.compile:
            self.network = compile_network(self.plain, cuda_graphs=wake.cuda_graphs)

    def _check_sleep(self) -> None:
        """Refuse a network that the sleep does not fit."""
        if self.sleep is None:
            return
        self.sleep.check(self.model)
        layers = local_layers(self.model).values()
        if isinstance(self.schedule, BelowSNR) and not any(
            frame_of(layer).interior.any() for layer in layers
        ):
            raise InvalidArgument(
                "--below-snr needs a locally connected layer with interior positions, over "
                "which SNR is taken: others sleep --every so many batches"
            )

    @property
    def recorder(self) -> Recorder | None:
        """The first process's, once the run file is open."""
        return self.keeper.recorder

    def run(self) -> Result:
        """Train to the end, or to the first thing that forbids it."""
        if self.place.resume and self.keeper.restore():
            self.display.resume(self.at.step)
        self.keeper.open()
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
            self.display.clear()
            if self.recorder is not None:
                self.recorder.close(status, message)
        if self.processes.any(bool(stop.asked)):  # in the last evaluation: others may be to come
            who = stop.asked or "another process"
            raise Interrupted(f"stopped by {who}; {self.place.run_file} is complete")
        return result

    # The loop

    def _train(self, stop: StopRequest) -> Result:
        """All epochs that are left: wake and sleep, evaluate, save."""
        first, result = self.at.step, None
        self.clock.start()
        if self.at.step == 0:
            self._snapshot()
        while not self._ended():
            self._train_epoch(stop)
            self.at.epoch += 1
            with self.clock.pause():
                result = self._evaluate()
                every_epoch = self.place.checkpoint_every is None
                if self._ended() or (every_epoch and self.keeper.due()):
                    self._save()
        result = result or self._evaluate()  # resumed after its end
        self._evaluate_splits()
        if self.sleep is not None and not self.at.sleeps:
            self.display.say(f"never slept in {self.at.step} steps")
        return Result(
            self.place.run_file,
            result,
            self.at.best,
            self.at.epoch,
            self.at.step,
            seconds=self.clock.seconds,
            step_seconds=self.clock.working / max(1, self.at.step - first),
        )

    def _train_epoch(self, stop: StopRequest) -> None:
        """Wake steps, with the sleeps that fall due; from where a checkpoint left off."""
        batches, record_every = len(self.train_loader), self.settings.record.record_every
        begin = self.at.step - self.at.epoch * batches
        if begin == 0:
            self.seen.reset()
        for batch, (x, y) in enumerate(self.train_loader.epoch(self.at.epoch, begin), begin):
            now, record = Moment(self.at.step, batch, batches), self.at.step % record_every == 0
            recorder = self.recorder if record else None
            rate = learning_rate(self.settings.optimisation, self.at.epoch + batch / batches)
            gradients = self._wake(x, y, batch, rate, recorder)
            self.at.step += 1
            statistics = recorder.statistics() if recorder else None
            if self.schedule is not None and self.schedule.due(now, self._lowest_snr):
                self._sleep(statistics)
            if record:
                self._record(rate, statistics, gradients)
            self._snapshot()
            self.display.update(self.at.step)
            every = self.place.checkpoint_every
            if every is not None and self.at.step % every == 0:
                self._save()
            self._obey(stop)

    def _wake(
        self, x: Tensor, y: Tensor, batch: int, rate: float, recorder: Recorder | None
    ) -> np.ndarray | None:
        """One gradient step on the mean loss over the rows of all processes."""
        if self.settings.optimisation.cuda_graphs:  # the last step's results may be replaced
            torch.compiler.cudagraph_mark_step_begin()
        set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over processes, whose shares of a batch may differ in size.
        rows = self.train_loader.rows(batch)
        whole = rows == self.train_loader.rows(0)
        network = self.network if whole else self.plain  # one small batch is not worth compiling
        with torch.autocast(x.device.type, self.precision, enabled=self.precision is not None):
            logits = network(x)
        smoothing = self.settings.optimisation.label_smoothing
        loss = cross_entropy(logits.float(), y, reduction="sum", label_smoothing=smoothing)
        self.scaler.scale(loss * (self.processes.world / rows)).backward()
        if self.settings.record.gradients:
            self.scaler.unscale_(self.optimizer)
        gradients = recorder.gradient_norms() if recorder else None
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.loss.add(loss, rows)
        self.seen.add(torch.stack([loss, (logits.argmax(1) == y).sum()]), rows)
        self.images += rows
        return gradients

    def _sleep(self, statistics: Tensor | None) -> None:
        """All layers share their weights; `statistics` are those of this step, if recorded."""
        assert self.sleep is not None
        recorder, before, after = self._recorder_of_sleep(), statistics, None
        if recorder and before is None:
            before = recorder.statistics()
        self.sleep(self.model, self.at.sleeps, self._noise())
        if self.settings.sleep.moments == "share":
            share_moments(self.optimizer, self.model, self.sleep.border)
        self.processes.agree(self._slept())
        self.at.sleeps += 1
        self.at.rested = True
        if recorder:
            after = recorder.statistics()
        if self.recorder:
            self.recorder.sleep(self.at.step, before if recorder else None, after)

    def _evaluate(self) -> Evaluation:
        """Loss and accuracy on the images held out, and on their distorted copies."""
        self._finite_loss()
        if self.at.rested and self.settings.sleep.batch_norm == "recalibrate":
            batches = itertools.islice(self.train_loader.epoch(self.at.epoch), RECALIBRATION)
            recalibrate(self.model, batches, self.precision)
            self.at.rested = False
        self.processes.agree(b for b in self.model.buffers() if b.is_floating_point())
        result, *others = (
            evaluate(self.model, loader.epoch(0), self.processes, self.precision)
            for loader in (self.test_loader, *self.copies.values())
        )
        if not math.isfinite(result.loss):
            raise self._diverged("loss on the images held out")
        if result.top1 > self.at.best:
            self.at.best, self.at.best_epoch = result.top1, self.at.epoch
        trained = self.seen.values()
        if self.recorder:
            self.recorder.epoch(self.at.epoch, trained, result, others, self.clock.seconds)
        self.display.shown.update({"loss": trained[0], "top-1": result.top1})
        self.display.keep(self.at.epoch, self.at.step)
        return result

    def _evaluate_splits(self) -> None:
        """Accuracy of the trained network on every part of the data, if that is wanted."""
        found = {
            name: evaluate(self.model, loader.epoch(0), self.processes, self.precision)
            for name, loader in self.splits.items()
        }
        if self.recorder and found:
            self.recorder.splits(self.at.step, found)

    # What the loop needs

    def _ended(self) -> bool:
        """Whether all epochs are done, or the accuracy has not improved for too long."""
        wake, at = self.settings.optimisation, self.at
        given_up = wake.patience is not None and at.epoch - at.best_epoch >= wake.patience
        return at.epoch >= wake.epochs or given_up

    def _lowest_snr(self) -> float:
        """The lowest SNR (Eq. 6) of all layers with an interior; the same everywhere."""
        lowest = lowest_snr(local_layers(self.model).values())
        self.processes.agree([lowest])
        return float(lowest)

    def _noise(self) -> torch.Generator | None:
        """What draws the neurons' own noise: a function of the seed and the sleep's number."""
        if self.sleep is None or not self.sleep.noise:
            return None
        drawn = torch.Generator(self.processes.device)
        return drawn.manual_seed(_seed("sleep", self.settings.seed, self.at.sleeps))

    def _slept(self) -> list[Tensor]:
        """What a sleep has changed: weights, and maybe what the optimizer keeps of them."""
        changed = slept_parameters(self.model)
        if self.settings.sleep.moments == "keep":
            return [*changed]
        return [*changed, *(m for p in changed for m in moments_of(self.optimizer, p))]

    def _recorder_of_sleep(self) -> Recorder | None:
        """The recorder, if statistics are taken of this sleep: no more often than of steps."""
        measured, every = self.at.measured, self.settings.record.record_every
        if measured is not None and self.at.step - measured < every:
            return None
        self.at.measured = self.at.step
        return self.recorder

    def _record(self, rate: float, statistics: Tensor | None, gradients: np.ndarray | None) -> None:
        """A row of the run file: what happened since the last one, layers as before a sleep."""
        loss = self._finite_loss()
        self.loss.reset()
        if self.recorder is None or statistics is None:
            return
        (images, working), now = self.recorded, self.clock.working
        speed = (self.images - images) / (now - working)
        self.recorded = self.images, now
        found = statistics.cpu().numpy()
        self.recorder.step(self.at.step, loss, rate, speed, found, gradients)
        self.display.shown.update({"loss": loss, "images/s": speed})
        if len(found):
            self.display.shown["SNR"] = float(np.fmin.reduce(found[:, SNR]))

    def _snapshot(self) -> None:
        """Weights and filter distances, if they are due: as they are after a sleep."""
        record, every = self.settings.record, self.settings.record.snapshot_every
        steps = len(self.train_loader) if record.snapshot_unit == "epochs" else 1
        due = every is not None and self.at.step % (every * steps) == 0
        if self.recorder and due:
            self.recorder.snapshot(self.at.step)

    def _save(self) -> None:
        """Write a checkpoint, but not of what has diverged."""
        self._finite_loss()
        self.keeper.save()

    def _finite_loss(self) -> float:
        """Mean loss since the last record; NaN and Inf end the run."""
        (loss,) = self.loss.values()
        if not math.isfinite(loss):
            raise self._diverged("training loss")
        return loss

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"the {what} became NaN or Inf in the last steps up to {self.at.step} (epoch "
            f"{self.at.epoch + 1}): lower --lr, or add --warmup"
        )

    def _obey(self, stop: StopRequest) -> None:
        """Save and stop, if any process was told to."""
        # Asking the others costs a wait: not at every step.
        if self.processes.world > 1 and self.at.step % self.settings.record.record_every:
            return
        if self.processes.any(bool(stop.asked)):
            self._save()
            raise Interrupted(
                f"stopped by {stop.asked or 'another process'} after step {self.at.step} and "
                f"saved: go on with --resume --out {self.place.run_file.parent}"
            )


def _seed(purpose: str, seed: int, number: int) -> int:
    """A seed of its own for every purpose and number."""
    return int(generator(purpose, seed, number).integers(2**63))
