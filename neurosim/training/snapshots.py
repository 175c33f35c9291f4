"""Snapshots of a network in training: what they hold, and how it is laid out in the run file.

weights/LAYER/weight   of layers with a weight, and where local ones share (grid, interior)
weights/LAYER/banks    of low-rank layers, and the weights that combine them
*_distance             between the filters of local layers (`training.filters`)
locality               of fully connected layers over images (`training.locality`)
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurosim.errors import InvalidArgument
from neurosim.nn import Dense, LocallyConnected2d, LowRankLocal2d
from neurosim.nn.local import LocallyConnected
from neurosim.nn.masked import mask_of
from neurosim.recording import RunWriter
from neurosim.sleep import frame_of
from neurosim.training.filters import RADII, filter_distances
from neurosim.training.locality import KINDS, locality
from neurosim.training.locality import RADII as WINDOWS
from neurosim.training.settings import RecordSettings

# What spatial axes are called, by their number.
SPACE = {0: (), 1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}


class Snapshots:
    """Snapshots of those layers that the settings choose."""

    def __init__(self, settings: RecordSettings, layers: Mapping[str, Any]) -> None:
        self.settings = settings
        chosen = _chosen(layers, settings.snapshot_layers)
        self.banks = {n: m for n, m in chosen.items() if isinstance(m, LowRankLocal2d)}
        self.kept = {n: m for n, m in chosen.items() if n not in self.banks}

    def take(self) -> tuple[dict[str, Any], int]:
        """A row, and the bytes that it keeps; weights are copied now and laid out later."""
        row: dict[str, Any] = {}
        size, kind = 0, getattr(torch, self.settings.snapshot_dtype)
        for name, module in self.kept.items() if self.settings.snapshot_weights else ():
            weight = module.weight.detach().to("cpu", kind, copy=True)
            row[f"weights/{name}/weight"] = _numpy_later(weight)
            size += weight.nbytes
        for name, layer in self.banks.items() if self.settings.snapshot_weights else ():
            taken = {"banks": layer.aligned()[0]}
            if not layer.input_dependent:
                taken["combining"] = layer.combining()
            for what, values in taken.items():
                copied = values.detach().to("cpu", kind, copy=True)
                row[f"weights/{name}/{what}"] = _numpy_later(copied)
                size += copied.nbytes
        if self._maps:
            found = torch.stack([filter_distances(_filters(m)) for m in self._maps.values()])
            distances = found.double().cpu().numpy()  # (maps, radii, kinds)
            row["euclidean_distance"], row["cosine_distance"] = distances[..., 0], distances[..., 1]
        if self._dense:
            found = torch.stack([locality(layer) for layer in self._dense.values()])
            row["locality"] = found.double().cpu().numpy()
        return row, size

    def declare(self, run: RunWriter) -> None:
        """Declare what snapshots hold, along an axis `snapshot` that is there."""
        for name, module in self.kept.items() if self.settings.snapshot_weights else ():
            group = f"weights/{name}"
            axes = _axes(module)
            for axis, size in zip(axes, module.weight.shape, strict=True):
                run.scale(f"{group}/{axis}", np.arange(size))
            dims = ("snapshot", *(f"{group}/{axis}" for axis in axes))
            kind = self.settings.snapshot_dtype
            run.dataset(f"{group}/weight", dims, kind, description=f"weight of {name}")
            if isinstance(module, LocallyConnected):
                self._declare_grids(run, group, module, dims[1 : 1 + module.axes])
                if (present := mask_of(module)) is not None:
                    whole = present.expand_as(module.weight).cpu().numpy()
                    run.constant(
                        f"{group}/present", whole, dims[1:], description="connections there are"
                    )
        for name, layer in self.banks.items() if self.settings.snapshot_weights else ():
            self._declare_banks(run, name, layer)
        if self._maps:
            run.scale("map", list(self._maps), description="2d local layers")
            run.scale("radius", np.array(RADII), description="of the ring of neighbours")
            for kind in ("euclidean", "cosine"):
                dims = ("snapshot", "map", "radius")
                run.dataset(f"{kind}_distance", dims, description="see training.filters")

        if self._dense:
            for name, module in self._dense.items():
                axes, shape = ("input", "row", "column"), np.array(module.input_shape)
                run.scale(f"weights/{name}/axis", list(axes), description="of one filter")
                where = (f"weights/{name}/axis",)
                run.constant(f"weights/{name}/input_shape", shape, where, description="of a filter")
            run.scale("dense_map", list(self._dense), description="fully connected 2d layers")
            run.scale("window", np.array(WINDOWS), description="radius around a filter's centre")
            run.scale("order", list(KINDS), description="of weights; see training.locality")
            dims = ("snapshot", "dense_map", "order", "window")
            run.dataset("locality", dims, description="see training.locality")

    def _declare_banks(self, run: RunWriter, name: str, layer: LowRankLocal2d) -> None:
        """The banks of a low-rank layer, and the weights that combine them at every position."""
        group, shape = f"weights/{name}", layer.aligned()[0].shape
        axes = ("basis", "output", "input", "tap_row", "tap_column")
        sizes = dict(zip(axes, shape, strict=True)) | dict(
            zip(SPACE[2], layer.output_size, strict=True)
        )
        for axis, size in sizes.items():
            run.scale(f"{group}/{axis}", np.arange(size))
        kind, banks = self.settings.snapshot_dtype, tuple(f"{group}/{axis}" for axis in axes)
        run.dataset(f"{group}/banks", ("snapshot", *banks), kind, description=f"banks of {name}")
        places = tuple(f"{group}/{axis}" for axis in SPACE[2])
        self._declare_grids(run, group, layer, places)
        if not layer.input_dependent:
            dims = ("snapshot", banks[0], *places)
            what = "weights that combine banks, normalised"
            run.dataset(f"{group}/combining", dims, kind, description=what)

    def _declare_grids(
        self,
        run: RunWriter,
        group: str,
        layer: LocallyConnected | LowRankLocal2d,
        places: Sequence[str],
    ) -> None:
        """Which positions share with each other, for whoever reads the weights."""
        frame = frame_of(layer)
        for name, values, what in (
            ("grid", frame.grid, "number of each position's grid"),
            ("interior", frame.interior, "whether the receptive field lies inside the image"),
        ):
            shaped = values.view(layer.output_size).cpu().numpy()
            run.constant(f"{group}/{name}", shaped, places, description=what)

    @property
    def _maps(self) -> dict[str, LocallyConnected2d | LowRankLocal2d]:
        """Layers whose filters are compared; of low-rank ones, if they do not depend on images."""
        local = {n: m for n, m in self.kept.items() if isinstance(m, LocallyConnected2d)}
        return local | {n: m for n, m in self.banks.items() if not m.input_dependent}

    @property
    def _dense(self) -> dict[str, Dense]:
        """Those over images; a snapshot says how local their filters are."""
        kept = self.kept.items()
        return {n: m for n, m in kept if isinstance(m, Dense) and len(m.input_shape) == 3}


def _filters(layer: LocallyConnected2d | LowRankLocal2d) -> LocallyConnected2d:
    """The layer, or what a low-rank one amounts to."""
    return layer if isinstance(layer, LocallyConnected2d) else layer.expanded()


def _numpy_later(weight: Tensor) -> Callable[[], np.ndarray]:
    return lambda: np.ascontiguousarray(weight.numpy())


def _axes(module: Any) -> tuple[str, ...]:
    """What the axes of a layer's weight are called; the taps of a kernel have a place, too."""
    local, ndim = isinstance(module, LocallyConnected), module.weight.ndim
    space = SPACE.get(module.axes if local else ndim - 2)
    if space is None:
        return tuple(f"axis{number}" for number in range(ndim))
    return (*(space if local else ()), "output", "input", *(f"tap_{name}" for name in space))


def _chosen(layers: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """Layers whose names match a pattern."""
    for pattern in patterns:
        if not fnmatch.filter(layers, pattern):
            known = ", ".join(layers)
            raise InvalidArgument(f"--snapshot-layers must match some of {known}, got {pattern!r}")
    return {n: m for n, m in layers.items() if any(fnmatch.fnmatch(n, p) for p in patterns)}
