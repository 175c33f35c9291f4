"""The switch between convolution, local and full connectivity, the same for every model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from neurosim.errors import require, require_choice
from neurosim.models.size import image_size
from neurosim.nn.convert import Init, Skip, to_dense, to_local

Connectivity = Literal["conv", "local", "dense"]


def connect(
    model: nn.Module,
    connectivity: Connectivity,
    input_size: int | tuple[int, int],
    in_channels: int,
    skip: Skip | Sequence[Skip] = 0,
    *,
    freeze_skipped: bool = False,
    init: Init = "independent",
) -> nn.Module:
    """Local and dense networks are convolutional ones converted: one definition, one set of names.

    Dense ones have batch norm of every unit by itself.
    """
    require_choice("connectivity", connectivity, ("conv", "local", "dense"))
    size = image_size(input_size)
    if connectivity == "conv":
        return model
    shape = (1, in_channels, *size)
    if connectivity == "dense":
        require_choice("init of a dense network", init, ("independent", "copy"))
        require(not freeze_skipped, "freeze_skipped", freeze_skipped, "False for a dense network")
        return to_dense(model, shape, skip, init, units=True, inplace=True)  # type: ignore[arg-type]
    return to_local(model, shape, skip, init, freeze_skipped=freeze_skipped, inplace=True)
