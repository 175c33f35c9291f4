"""The network that is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from neurosim.errors import InvalidArgument, require
from neurosim.models.lrlc import Depth, Layer
from neurosim.nn.combine import CombiningInit, Normalisation, Sharing
from neurosim.training.settings.choices import check_choices

Connectivity = Literal["conv", "local", "low-rank"]

# Settings that models look at.
ORDINARY = ("connectivity", "width", "conv_first", "init")
FREE = ("connectivity", "rank", "fans", "severed", "sever")
USED = {
    "lrlc": ("layer", "depth", "rank", "sharing", "normalisation", "combining"),
    "free-mnist": FREE,
    "free-cifar": FREE,
}


@dataclass(frozen=True)
class NetworkSettings:
    """The network that is trained."""

    model: Literal[
        "simple", "resnet20", "resnet18", "transformer", "lrlc", "free-mnist", "free-cifar"
    ] = "simple"
    """Architecture."""
    connectivity: Connectivity = "local"
    """Shared filters, one of its own at every position, or (free-*) mixtures of --rank ones."""
    width: float = 1.0
    """Factor on the number of channels (0.5 for the paper's ResNet-18)."""
    conv_first: int = 0
    """First layers that stay convolutional in a local network (1 in Table 13)."""
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

    def check(self) -> None:
        """Refuse what makes no sense."""
        check_choices(self)
        require(0 < self.width < math.inf, "--width", self.width, "finite and > 0")
        require(self.conv_first >= 0, "--conv-first", self.conv_first, ">= 0")
        require(self.rank >= 1, "--rank", self.rank, ">= 1")
        probable = 0 <= self.severed < 1
        require(probable, "--severed", self.severed, "at least 0 and below 1")
        self._refuse_unused()
        if self.connectivity == "low-rank" and not self.model.startswith("free-"):
            raise InvalidArgument(
                f"--connectivity must be conv or local for --model {self.model}, got low-rank"
            )

    def _refuse_unused(self) -> None:
        """Refuse what the model would not look at."""
        used = USED.get(self.model, ORDINARY)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("model", *used) and value != field.default:
                raise InvalidArgument(
                    f"--{field.name.replace('_', '-')} must be {field.default} for --model "
                    f"{self.model}, got {value}"
                )
