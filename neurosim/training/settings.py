"""Everything that defines a training run; what a run file and a checkpoint record of it.

The dataclasses are plain settings: names, numbers and choices, so that a run can be written down
as JSON, compared with another, and given on the command line.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from neurosim.dynamics import RateCircuit
from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.recording.values import as_json
from neurosim.sleep import (
    AtSteps,
    BelowSNR,
    Circuit,
    EveryBatches,
    EveryEpochs,
    Hebbian,
    Instant,
    Layerwise,
    Patterns,
    Schedule,
    Sleep,
)

# Settings of a sleep that only some mechanisms know.
MECHANISM = ("presentations", "alpha", "gamma", "rate", "dt", "redraw")

Connectivity = Literal["conv", "local"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class DataSettings:
    """What the network sees."""

    dataset: str = "digits-translated"
    """Name of a set, or a .npz file or a folder of images."""
    data: Path | None = None
    """Folder of the official files (default: $NEUROSIM_DATA)."""
    subset: int | None = None
    """Train on so many images only, the same number of each class."""
    test_subset: int | None = None
    """Evaluate on the first so many images only, where evaluation takes too long."""
    validation: int = 0
    """Hold so many training images out and evaluate on them instead of the test set."""
    pad: int = 0
    """Pad with the training mean and crop at random (0, 4 or 8 in the paper)."""
    flip: bool = False
    """Flip half of the images horizontally (the paper's tables do not)."""
    image_size: int | None = None
    """Size of crops from a folder of images (ImageNet: 224); without it all must have one size."""
    crop: Literal["resize", "random-resized"] = "resize"
    """How such crops are made: the paper's text resizes and crops, its code takes random areas."""
    repetitions: int = 1
    """Copies of an image within a batch, each translated by itself; the batch size stays."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        _check_choices(self)
        for name in ("subset", "test_subset", "image_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name.replace('_', '-')}", value, ">= 1")
        for name, least in {"validation": 0, "pad": 0, "repetitions": 1}.items():
            require(getattr(self, name) >= least, f"--{name}", getattr(self, name), f">= {least}")


@dataclass(frozen=True)
class NetworkSettings:
    """The network that is trained."""

    model: Literal["simple", "resnet20", "resnet18", "transformer"] = "simple"
    """Architecture."""
    connectivity: Connectivity = "local"
    """Shared filters, or a filter of its own at every position."""
    width: float = 1.0
    """Factor on the number of channels (0.5 for the paper's ResNet-18)."""
    conv_first: int = 0
    """First layers that stay convolutional in a local network (1 in Table 13)."""
    init: Literal["independent", "copy"] = "independent"
    """Local filters start as independent draws, or as copies of one."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        _check_choices(self)
        require(0 < self.width < math.inf, "--width", self.width, "finite and > 0")
        require(self.conv_first >= 0, "--conv-first", self.conv_first, ">= 0")


@dataclass(frozen=True)
class OptimisationSettings:
    """How the wake phase moves weights."""

    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """AdamW as in the paper, or another."""
    lr: float = 1e-3
    """Learning rate at the start (after warm-up)."""
    weight_decay: float = 1e-2
    """Weight decay."""
    momentum: float = 0.9
    """Momentum of SGD."""
    batch_size: int = 512
    """Images per step, over all processes."""
    epochs: int = 200
    """Passes over the training images."""
    lr_schedule: Literal["steps", "cosine", "constant"] = "steps"
    """"steps" divides the rate by 4 after a half and three quarters of the epochs, as published."""
    warmup: int = 0
    """Epochs in which the rate rises linearly from 0."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes."""
    precision: Precision = "float32"
    """Numbers in which layers compute; weights stay in single precision."""
    compile: bool = False
    """Compile the network with torch.compile."""
    patience: int | None = None
    """Stop once top-1 accuracy has not improved for so many epochs."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        _check_choices(self)
        require(self.batch_size >= 1, "--batch-size", self.batch_size, ">= 1")
        require(self.epochs >= 1, "--epochs", self.epochs, ">= 1")
        positive = math.isfinite(self.lr) and self.lr > 0
        require(positive, "--lr", self.lr, "finite and > 0")
        require(self.weight_decay >= 0, "--weight-decay", self.weight_decay, ">= 0")
        require(0 <= self.momentum < 1, "--momentum", self.momentum, "at least 0 and below 1")
        require(0 <= self.warmup < self.epochs, "--warmup", self.warmup, "fewer than --epochs")
        smooth = 0 <= self.label_smoothing < 1
        require(smooth, "--label-smoothing", self.label_smoothing, "at least 0 and below 1")
        require(self.patience is None or self.patience >= 1, "--patience", self.patience, ">= 1")


@dataclass(frozen=True)
class SleepSettings:
    """When and how the network sleeps."""

    sleep: Literal["none", "instant", "hebbian", "circuit", "layerwise"] = "none"
    """The grids' means (instant), Eq. 4 (hebbian), the rate circuit of Eq. 8 (circuit), or Eq. 4
    with patterns that every layer makes for the next (layerwise, Sec. 4.1)."""
    every: int = 10
    """Sleep after every so many batches (or epochs): the n of ws(n)."""
    unit: Literal["batches", "epochs"] = "batches"
    """What --every counts."""
    phase: Literal["epoch", "global"] = "epoch"
    """Count batches within the epoch, as published, or over the whole run."""
    at_steps: tuple[int, ...] = ()
    """Sleep after these steps instead."""
    below_snr: float | None = None
    """Sleep whenever a layer's SNR falls below this instead."""
    border: Literal["share", "exclude"] = "share"
    """Whether positions at the image's border sleep too."""
    scaling: Literal["neuron", "grid", "layer"] | None = None
    """Norms that return after a sleep to what they were before it."""
    sleep_noise: float = 0.0
    """Noise of every neuron's own (App. A.3); such sleeps are slow."""
    patterns: Literal["gaussian", "rectified", "one-hot"] = "gaussian"
    """What lateral connections show during a sleep."""
    redraw: int | None = None
    """Draw new patterns every so many sleeps (default: the same every time)."""
    presentations: int | None = None
    """Patterns shown by the circuit, or batches of them by hebbian (default: the mechanism's)."""
    alpha: float | None = None
    """Inhibition of the circuit."""
    gamma: float | None = None
    """Pull toward the weights at the start of the sleep."""
    rate: float | None = None
    """Rate of plasticity."""
    dt: float | None = None
    """Step of the circuit's ODE in ms; strong inhibition needs a small one."""
    moments: Literal["keep", "share"] = "keep"
    """The optimizer's moments at a sleep: kept, as published, or averaged like the weights."""
    batch_norm: Literal["keep", "recalibrate"] = "keep"
    """Running statistics after a sleep: kept, as published, or measured again before evaluation."""

    def build(self) -> tuple[Sleep, Schedule] | None:
        """The sleep and its schedule; None for a network that never sleeps."""
        _check_choices(self)
        require(self.every >= 1, "--every", self.every, ">= 1")
        if self.sleep == "none":
            self._refuse("below_snr", *MECHANISM)
            return None
        builders = {
            "instant": self._instant,
            "hebbian": self._hebbian,
            "circuit": self._circuit,
            "layerwise": self._layerwise,
        }
        mechanism = builders[self.sleep]()
        patterns = Patterns(self.patterns)
        sleep = Sleep(mechanism, self.border, patterns, self.sleep_noise, self.scaling)
        return sleep, self._schedule()

    def _schedule(self) -> Schedule:
        if self.at_steps and self.below_snr is not None:
            raise InvalidArgument("--at-steps and --below-snr exclude each other: give one")
        if self.at_steps:
            return AtSteps(self.at_steps)
        if self.below_snr is not None:
            return BelowSNR(self.below_snr)
        return (
            EveryEpochs(self.every)
            if self.unit == "epochs"
            else EveryBatches(self.every, self.phase)
        )

    def _instant(self) -> Instant:
        self._refuse(*MECHANISM)
        return Instant()

    def _hebbian(self) -> Hebbian:
        return Hebbian(redraw=self.redraw, **self._of_eq4())

    def _layerwise(self) -> Layerwise:
        return Layerwise(redraw=self.redraw, **self._of_eq4())

    def _of_eq4(self) -> dict[str, Any]:
        """What was given for a sleep without a response of its own."""
        self._refuse("alpha", "dt")
        given = {"steps": self.presentations, "rate": self.rate, "gamma": self.gamma}
        return {name: value for name, value in given.items() if value is not None}

    def _circuit(self) -> Circuit:
        default = Circuit()
        response, plasticity = default.response, default.plasticity
        assert isinstance(response, RateCircuit)
        if self.dt is not None:
            response = response.with_dt(self.dt)
        if self.alpha is not None:
            response = replace(response, alpha=self.alpha)
        if self.rate is not None:
            plasticity = replace(plasticity, rate=self.rate)
        if self.gamma is not None:
            plasticity = replace(plasticity, gamma=self.gamma)
        shown = default.presentations if self.presentations is None else self.presentations
        return Circuit(response, plasticity, shown, self.redraw)

    def _refuse(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise InvalidArgument(f"{option} means nothing to --sleep {self.sleep}")


@dataclass(frozen=True)
class RecordSettings:
    """What the run file keeps besides accuracies."""

    record_every: int = 10
    """Steps between records of loss and of every local layer's SNR, spread and norm."""
    snapshot_every: int | None = None
    """Steps between snapshots of weights and filter distances (default: none)."""
    snapshot_layers: tuple[str, ...] = ("*",)
    """Layers to take snapshots of: names or patterns such as 'layer1.*'."""
    snapshot_dtype: Literal["float32", "float16"] = "float32"
    """Numbers in which snapshots are kept."""
    gradients: bool = False
    """Record the norm of every layer's gradient as well."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        _check_choices(self)
        require(self.record_every >= 1, "--record-every", self.record_every, ">= 1")
        every = self.snapshot_every
        require(every is None or every >= 1, "--snapshot-every", every, ">= 1")


@dataclass(frozen=True)
class TrainSettings:
    """A training run, but for where it runs and where its results go."""

    data: DataSettings = field(default_factory=DataSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    optimisation: OptimisationSettings = field(default_factory=OptimisationSettings)
    sleep: SleepSettings = field(default_factory=SleepSettings)
    record: RecordSettings = field(default_factory=RecordSettings)
    seed: int = 0

    def check(self) -> None:
        """Refuse what makes no sense, before anything is loaded."""
        require(0 <= self.seed < 2**63, "--seed", self.seed, ">= 0 and below 2^63")
        for group in (self.data, self.network, self.optimisation, self.record):
            group.check()
        batch, repetitions = self.optimisation.batch_size, self.data.repetitions
        allowed = f"divisible by --repetitions = {repetitions}"
        require(batch % repetitions == 0, "--batch-size", batch, allowed)
        if self.sleep.build() is not None and self.network.connectivity == "conv":
            raise InvalidArgument(
                "--sleep must be none for --connectivity conv, whose filters are shared "
                f"anyway, got {self.sleep.sleep}"
            )

    def as_json(self) -> dict[str, Any]:
        """The settings as JSON has them, without what does not change results."""
        values = asdict(self)
        values["data"].pop("data")
        return json.loads(as_json(values))


def _check_choices(settings: object) -> None:
    """Refuse values that are not among the choices of their field."""
    for name, hint in get_type_hints(type(settings)).items():
        kinds, value = (hint, *get_args(hint)), getattr(settings, name)
        choices = [c for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
        if choices and not (value is None and type(None) in kinds):
            require_choice(f"--{name.replace('_', '-')}", value, choices)
