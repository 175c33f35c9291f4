"""Models that can be scored: torch networks, activations from elsewhere, the pixels themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from torch import nn

from analysis.arguments import as_names
from analysis.benchmark.form import Benchmark
from analysis.representations.activations import (
    Activations,
    Extraction,
    check_layers,
    extract,
    layer_names,
)
from analysis.representations.stimuli import Stimuli, View
from neurosim.errors import InvalidArgument, require, require_instance


@runtime_checkable
class Candidate(Protocol):
    """A model that can be scored: its name, its layers, and what they do."""

    @property
    def name(self) -> str:
        """In tables."""
        ...

    @property
    def layers(self) -> tuple[str, ...]:
        """Those that may stand for a region; the last one also for behaviour."""
        ...

    def features(self, benchmark: Benchmark, folder: Path) -> Mapping[str, np.ndarray]:
        """(stimuli, features) of every layer; files may be left in the folder."""
        ...


@dataclass(frozen=True, eq=False)
class Network:
    """A torch network and how it sees images."""

    name: str
    module: nn.Module
    layers: tuple[str, ...]
    view: View
    settings: Extraction = field(default_factory=Extraction)
    device: str = "cpu"

    def __post_init__(self) -> None:
        require_instance("module", self.module, nn.Module)
        require_instance("view", self.view, View)
        object.__setattr__(self, "layers", as_names(self.layers))
        check_layers(self.layers, layer_names(self.module))

    def features(self, benchmark: Benchmark, folder: Path) -> Mapping[str, np.ndarray]:
        """Activations, left in a file; one of the same network and images is taken up again."""
        path = folder / f"{self.name.replace('/', '_')}-{benchmark.name.replace('/', '_')}.h5"
        stimuli: Stimuli = benchmark.stimuli
        try:
            extract(
                self.module, stimuli, self.layers, path, view=self.view, degrees=benchmark.degrees,
                settings=self.settings, device=self.device, resume=True, overwrite=True,
            )  # fmt: skip
        except RuntimeError as error:
            raise InvalidArgument(
                f"{self.name}: cannot be shown images of {self.view.size} pixels ({error}); a "
                "function may return an analysis.benchmark.Network, which says how it sees"
            ) from error
        return Activations(path)


@dataclass(frozen=True, eq=False)
class Features:
    """Activations that come from elsewhere: (stimuli, features) by layer."""

    name: str
    values: Mapping[str, np.ndarray]

    @property
    def layers(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self.values)

    def features(self, benchmark: Benchmark, folder: Path) -> Mapping[str, np.ndarray]:
        """As they were given."""
        for layer, found in self.values.items():
            if len(found) != benchmark.count:
                raise InvalidArgument(
                    f"{self.name}: stimuli and responses do not match: layer {layer!r} has "
                    f"{len(found)} stimuli, {benchmark.name} {benchmark.count}"
                )
        return self.values


def pixels(size: int = 32) -> Network:
    """The stimuli themselves, a baseline: grey or colour values after resizing."""
    module = nn.Sequential()
    module.add_module("pixels", nn.Identity())
    return Network("pixels", module, ("pixels",), View((size, size)))


def check_candidates(candidates: Sequence[Candidate]) -> None:
    """Refuse what is no list of models, and models of the same name."""
    allowed = "a list of Network, Features or other candidates"
    listed = isinstance(candidates, Sequence) and not isinstance(candidates, str)
    require(listed, "models", candidates, allowed)
    for candidate in candidates:
        if isinstance(candidate, nn.Module):
            raise InvalidArgument(
                f"models must be {allowed}, got a {type(candidate).__name__}; "
                "Network(name, module, layers, view) says how a module sees"
            )
        require(isinstance(candidate, Candidate), "models", candidate, allowed)
    names = [candidate.name for candidate in candidates]
    require(len(set(names)) == len(names), "models", names, "of different names")
