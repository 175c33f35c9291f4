"""The network that is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from neurosim.errors import InvalidArgument, option, require
from neurosim.models.lrlc import Depth, Layer
from neurosim.nn.combine import CombiningInit, Normalisation, Sharing
from neurosim.training.settings.values import check_values

Connectivity = Literal["conv", "local", "dense", "low-rank"]
Model = Literal[
    "simple",
    "resnet20",
    "resnet18",
    "resnet18-small",
    "transformer",
    "shallow",
    "deep",
    "perceptron",
    "lrlc",
    "free-mnist",
    "free-cifar",
]

# Settings that models look at, and how they may be connected.
ORDINARY = ("connectivity", "conv_first", "conv_layers", "init", "permute")
FREE = ("connectivity", "rank", "fans", "severed", "sever")
USED: dict[Model, tuple[str, ...]] = {
    "simple": (*ORDINARY, "width"),
    "resnet20": ORDINARY,
    "resnet18": (*ORDINARY, "width"),
    "resnet18-small": (*ORDINARY, "width", "kernel"),
    "transformer": ("connectivity", "conv_first", "conv_layers", "init"),
    "shallow": (*ORDINARY, "channels", "kernel"),
    "deep": (*ORDINARY, "channels"),
    "perceptron": ("connectivity", "width", "permute"),
    "lrlc": ("layer", "depth", "rank", "sharing", "normalisation", "combining"),
    "free-mnist": FREE,
    "free-cifar": FREE,
}
CONNECTIVITIES: dict[Model, tuple[Connectivity, ...]] = {
    "transformer": ("conv", "local"),
    "perceptron": ("dense",),
    "free-mnist": ("conv", "local", "low-rank"),
    "free-cifar": ("conv", "local", "low-rank"),
}


@dataclass(frozen=True)
class NetworkSettings:
    """The network that is trained."""

    model: Model = "simple"
    """Architecture."""
    connectivity: Connectivity = "local"
    """Shared filters, one of its own at every position, all weights between two maps, or (free-*)
    mixtures of --rank filters."""
    channels: int = 16
    """Channels of the first layer of shallow and deep networks (the paper's alpha: 150 and 15)."""
    kernel: int | None = None
    """Size of the filters of shallow (default: 9) and resnet18-small (default: 3) networks."""
    width: float = 1.0
    """Factor on the number of channels (0.5 for the paper's ResNet-18)."""
    conv_first: int = 0
    """First layers that stay convolutional in a local network (1 in Table 13)."""
    conv_layers: tuple[str, ...] = ()
    """More layers that do, by names or patterns such as '*.downsample.0' (1x1 shortcuts)."""
    init: Literal["independent", "copy"] = "independent"
    """Local filters start as independent draws, or as copies of one."""
    layer: Layer = "low-rank"
    """lrlc: what is at --depth, a low-rank layer or a baseline (see neurosim.models.lrlc)."""
    depth: Depth = "3"
    """lrlc: which of the three layers that is."""
    rank: int = 2
    """lrlc, free-*: number of filter banks of low-rank layers, or what wide ones match."""
    sharing: Sharing | None = None
    """lrlc: fixed combining weights of rows and columns (default), of either, or of positions."""
    normalisation: Normalisation = "softmax"
    """lrlc: of the combining weights of a position."""
    combining: CombiningInit = "conv"
    """lrlc: fixed combining weights start all equal (conv) or random."""
    fans: Literal["layer", "position"] = "layer"
    """free-*: connections that Xavier's limits count: a layer's, as published, or a filter's."""
    severed: float = 0.0
    """free-*: probability that a connection is absent for life."""
    sever: Literal["inputs", "weights"] = "inputs"
    """free-*: what is absent, inputs as the published code has it, or weights as its text."""
    permute: bool = False
    """Show pixels in an order of chance, the same for all images and runs."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        check_values(self)
        require(0 < self.width < math.inf, "--width", self.width, "finite and > 0")
        require(self.conv_first >= 0, "--conv-first", self.conv_first, ">= 0")
        require(self.rank >= 1, "--rank", self.rank, ">= 1")
        probable = 0 <= self.severed < 1
        require(probable, "--severed", self.severed, "at least 0 and below 1")
        require(self.channels >= 1, "--channels", self.channels, ">= 1")
        require(self.kernel is None or self.kernel >= 1, "--kernel", self.kernel, ">= 1")
        self._refuse_unused()
        possible = CONNECTIVITIES.get(self.model, ("conv", "local", "dense"))
        allowed = f"one of {', '.join(possible)} for --model {self.model}"
        require(self.connectivity in possible, "--connectivity", self.connectivity, allowed)

    def _refuse_unused(self) -> None:
        """Refuse what the model would not look at."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("model", *USED[self.model]) and value != field.default:
                raise InvalidArgument(
                    f"{option(field.name)} must be {field.default} for --model {self.model}, got "
                    f"{value}"
                )
