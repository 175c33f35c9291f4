"""How networks are trained here. The settings are ours: the paper's appendix is not at hand.

SGD without momentum, as Algorithm 1 has none, batch 512, rate 0.1 that falls along a cosine,
random crops after padding by 4 and flips (none for SVHN, whose digits have a side, nor for grey
digits), no weight decay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from experiments.beta_lasso.published import cells
from experiments.common.options import TrainingOptions
from experiments.common.variants import Variant
from neurosim.errors import require
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    RecordSettings,
    TrainSettings,
)
from neurosim.training.build import build_data

FLIPPED = ("cifar10", "cifar100")  # their objects have no left and right
CHANNELS = {"shallow": 150, "deep": 15}
PREFIX = {"shallow": "S", "deep": "D"}
KIND = {"conv": "CONV", "local": "LOCAL", "dense": "FC"}


@dataclass(frozen=True)
class Lasso:
    """The penalty and the size of the networks."""

    channels: int | None = None
    """Channels of the first layer, the paper's alpha (default: 150, and 15 for deep networks)."""
    kernel: int = 9
    """Size of the first layer's filters in shallow networks."""
    l1: float = 2e-5
    """Penalty on weights."""
    first: float = 5.0
    """How many times as large the penalty is in the first layer."""
    beta: float = 50.0
    """Multiple of the penalty below which weights are set to zero."""
    lr: float = 0.1
    """Learning rate at the start."""
    pad: int | None = None
    """Pixels of padding before a random crop (default: 4, none for SVHN and built-in digits)."""

    def check(self) -> None:
        """Refuse what the settings of a run do not see."""
        require(self.first >= 0, "--first", self.first, ">= 0")
        require(self.channels is None or self.channels >= 1, "--channels", self.channels, ">= 1")

    def base(
        self, options: TrainingOptions, epochs: int = 400, default: str = "cifar10"
    ) -> TrainSettings:
        """S-FC by SGD."""
        dataset = options.dataset or default
        still = dataset == "svhn" or dataset.startswith("digits")
        settings = TrainSettings(
            data=DataSettings(
                dataset=dataset,
                pad=self.pad if self.pad is not None else 0 if still else 4,
                flip=dataset in FLIPPED,
            ),
            network=self.network("shallow", "dense"),
            optimisation=OptimisationSettings(
                optimizer="sgd", lr=self.lr, momentum=0.0, weight_decay=0.0, epochs=epochs,
                lr_schedule="cosine", batch_size=512,
            ),
            record=RecordSettings(record_every=20, nonzeros=True),
        )  # fmt: skip
        return options.apply(settings)

    def network(
        self,
        model: Literal["shallow", "deep", "perceptron"],
        connectivity: Literal["conv", "local", "dense"] = "dense",
    ) -> NetworkSettings:
        """S- and D-CONV, -LOCAL and -FC, and 3-FC with as many parameters as S-FC."""
        if model == "perceptron":
            width = (self.channels or CHANNELS["shallow"]) / CHANNELS["shallow"]
            return NetworkSettings(model, "dense", width=width)
        size = self.channels or CHANNELS[model]
        kernel = self.kernel if model == "shallow" else None
        return NetworkSettings(model, connectivity, channels=size, kernel=kernel)

    def lasso(
        self, settings: TrainSettings, beta: float | None = None, l1: float | None = None
    ) -> TrainSettings:
        """The same trained by beta-LASSO."""
        penalty = self.l1 if l1 is None else l1
        wake = replace(
            settings.optimisation,
            optimizer="beta-lasso",
            l1=penalty,
            l1_first=self.first * penalty,
            beta=self.beta if beta is None else beta,
        )
        return replace(settings, optimisation=wake)

    def row(self, model: str, connectivity: str, base: TrainSettings) -> Variant:
        """A row of Table 1, by SGD."""
        name = "3-FC" if model == "perceptron" else f"{PREFIX[model]}-{KIND[connectivity]}"
        network = self.network(model, connectivity)  # type: ignore[arg-type]
        return Variant(name, replace(base, network=network), cells(base.data.dataset, name))


def first_and_last(settings: TrainSettings) -> TrainSettings:
    """The same with the first layer's weights, and how local they are, at the start and the end."""
    images, wake = len(build_data(settings.data, settings.seed).train), settings.optimisation
    steps = wake.epochs * math.ceil(images / wake.batch_size)
    record = replace(settings.record, snapshot_every=steps, snapshot_layers=("conv1",))
    return replace(settings, record=record)
