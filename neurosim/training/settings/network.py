"""The network that is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from neurosim.errors import require
from neurosim.training.settings.choices import check_choices

Connectivity = Literal["conv", "local"]


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
        check_choices(self)
        require(0 < self.width < math.inf, "--width", self.width, "finite and > 0")
        require(self.conv_first >= 0, "--conv-first", self.conv_first, ">= 0")
