"""The layers of a model that sleep, and their weights as they lie in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument, require_instance
from neurosim.nn.local import LocallyConnected
from neurosim.nn.low_rank import LowRankLocal2d
from neurosim.nn.masked import mask_of
from neurosim.nn.ops.local import Geometry, from_storage, to_storage

Layer = TypeVar("Layer", bound=nn.Module)


def local_layers(model: nn.Module) -> dict[str, LocallyConnected]:
    """The locally connected layers of a model by qualified name; of a layer, itself.

    There may be none where low-rank layers sleep instead.
    """
    require_instance("model", model, nn.Module)
    found = _named(model, LocallyConnected)
    if not found and not low_rank_layers(model):
        raise InvalidArgument(
            f"model must have a locally connected layer to sleep, got a {type(model).__name__} "
            "without one: convert it with neurosim.nn.to_local"
        )
    return found


def low_rank_layers(model: nn.Module) -> dict[str, LowRankLocal2d]:
    """The low-rank layers of a model by qualified name; of a layer, itself."""
    return _named(model, LowRankLocal2d)


def _named(model: nn.Module, kind: type[Layer]) -> dict[str, Layer]:
    return {name or "layer": m for name, m in model.named_modules() if isinstance(m, kind)}


def slept_parameters(model: nn.Module) -> list[nn.Parameter]:
    """What a sleep changes: local filters, and what combines the banks of low-rank layers."""
    filters = (layer.weight for layer in local_layers(model).values())
    fixed = (layer for layer in low_rank_layers(model).values() if not layer.input_dependent)
    return [*filters, *chain.from_iterable(layer.combine.parameters() for layer in fixed)]


def check_weights(model: nn.Module) -> None:
    """Refuse layers whose weights a sleep cannot change, or would change twice."""
    known: dict[int, str] = {}
    for name, layer in local_layers(model).items():
        weight = layer._parameters.get("weight")
        if weight is None:
            raise InvalidArgument(
                f"layer {name!r} must have its weight as a parameter to sleep, got one that is "
                "computed (parametrized, normalised or pruned)"
            )
        if not weight.is_floating_point():
            raise InvalidArgument(f"weights of layer {name!r} must be real, got {weight.dtype}")
        if weight.is_meta:
            raise InvalidArgument(f"layer {name!r} must have weights to sleep, got a meta tensor")
        other = known.setdefault(id(weight), name)
        if other != name:
            raise InvalidArgument(
                f"layer {name!r} must have a weight of its own to sleep, got the one of {other!r}"
            )


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
