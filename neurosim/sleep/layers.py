"""The layers of a model that sleep, and their weights as they lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument
from neurosim.nn.local import LocallyConnected
from neurosim.nn.low_rank import LowRankLocal2d
from neurosim.nn.masked import mask_of
from neurosim.nn.ops.local import Geometry, from_storage, to_storage


def local_layers(model: nn.Module) -> dict[str, LocallyConnected]:
    """The locally connected layers of a model by qualified name; of a layer, itself.

    There may be none where low-rank layers sleep instead.
    """
    found = {
        name or "layer": module
        for name, module in model.named_modules()
        if isinstance(module, LocallyConnected)
    }
    if not found and not any(isinstance(m, LowRankLocal2d) for m in model.modules()):
        raise InvalidArgument(
            f"model must have a locally connected layer to sleep, got a {type(model).__name__} "
            "without one: convert it with neurosim.nn.to_local"
        )
    return found


@contextmanager
def stored(weight: Tensor, geometry: Geometry) -> Iterator[Tensor]:
    """Weights as (taps, positions, C / groups, O), written back on leaving the block.

    Weights of a layer lie in memory like this already and are then changed in place; only those
    that somebody has replaced by others in another order are copied.
    """
    weight = weight.detach()
    storage = to_storage(weight, geometry).contiguous()
    yield storage
    if storage.data_ptr() != weight.data_ptr():
        weight.copy_(from_storage(storage, geometry))


def present_in(layer: LocallyConnected) -> Tensor | None:
    """Which connections are present, (taps, positions, C / groups, O); None if all are."""
    mask = mask_of(layer)
    return None if mask is None else to_storage(mask.expand_as(layer.weight), layer.geometry)


def refuse_absent(layer: LocallyConnected, name: str, mechanism: object) -> None:
    """Only means can leave absent connections out: patterns are for neurons that see the same."""
    if mask_of(layer) is not None:
        raise InvalidArgument(
            f"mechanism must be Instant() for layer {name!r}, whose absent connections let its "
            f"neurons see different parts of one pattern, got {type(mechanism).__name__}"
        )


@contextmanager
def exact_products() -> Iterator[None]:
    """Matrix products in full single precision, whatever the wake phase is allowed."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)
