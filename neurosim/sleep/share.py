"""Put a layer, or all locally connected layers of a model, to sleep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurosim.errors import InvalidArgument, StabilityError, require, require_choice
from neurosim.nn.local import LocallyConnected
from neurosim.sleep.circuit import Circuit
from neurosim.sleep.frame import BORDERS, Border, Frame, Storage, frame_of
from neurosim.sleep.hebbian import Hebbian
from neurosim.sleep.instant import Instant
from neurosim.sleep.patterns import Patterns, Source, Tiles, TileShape
from neurosim.sleep.scaling import SCALINGS, Scaling, norms, rescale
from neurosim.sleep.statistics import LayerStatistics, layer_statistics

Mechanism = Instant | Hebbian | Circuit


class Slept(NamedTuple):
    """A layer before and after a sleep."""

    before: LayerStatistics
    after: LayerStatistics


@dataclass(frozen=True)
class Sleep:
    """How layers sleep: the mechanism and everything around it.

    Args:
        mechanism: `Instant()`, `Hebbian(...)` or `Circuit(...)`.
        border: "share" lets positions at the image's border sleep like all others, "exclude"
            leaves out those whose receptive field leaves the image.
        patterns: what lateral connections show (not used by `Instant`).
        noise: standard deviation of noise that every neuron sees by itself (App. A.3). Every
            neuron is then stepped, because no operator describes the sleep.
        scaling: norms that return after the sleep to what they were before it: of each
            "neuron", "grid" or "layer".
    """

    mechanism: Mechanism = Instant()  # noqa: RUF009 (frozen)
    border: Border = "share"
    patterns: Source | Mapping[str, Source] = Patterns()  # noqa: RUF009 (frozen)
    noise: float = 0.0
    scaling: Scaling = None

    def __post_init__(self) -> None:
        if not isinstance(self.mechanism, Mechanism):
            raise InvalidArgument(
                f"mechanism must be Instant(), Hebbian(...) or Circuit(...), got {self.mechanism!r}"
            )
        require_choice("border", self.border, BORDERS)
        require(self.noise >= 0, "noise", self.noise, ">= 0")
        require(self.scaling in SCALINGS, "scaling", self.scaling, f"one of {SCALINGS}")
        if self.noise and isinstance(self.mechanism, Instant):
            raise InvalidArgument(
                f"noise must be 0 for Instant(), which shows no inputs, got {self.noise}"
            )

    def __call__(
        self, model: nn.Module, number: int = 0, generator: torch.Generator | None = None
    ) -> None:
        """Let every locally connected layer sleep; this is sleep number `number` of the run."""
        for name, layer in local_layers(model).items():
            self.layer(layer, name, number, generator)

    @torch.no_grad()
    def layer(
        self,
        layer: LocallyConnected,
        name: str = "layer",
        number: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        """Let one layer sleep."""
        frame = frame_of(layer, self.border)
        if len(frame.positions) == 0:
            return
        try:
            with Storage(layer) as storage, exact_products():
                before = norms(frame.part(storage), frame, self.scaling) if self.scaling else None
                self._apply(storage, frame, layer, name, number, generator)
                if before is not None:
                    rescale(storage, frame, self.scaling, before)
        except StabilityError as error:
            raise StabilityError(f"layer {name!r} cannot sleep like this: {error}") from error

    def _apply(
        self,
        storage: Tensor,
        frame: Frame,
        layer: LocallyConnected,
        name: str,
        number: int,
        generator: torch.Generator | None,
    ) -> None:
        mechanism = self.mechanism
        if isinstance(mechanism, Instant):
            return mechanism.apply(storage, frame)
        channels = layer.in_channels // layer.groups
        shape = TileShape(layer.groups, channels, layer.kernel_size)
        patterns = self._patterns(name)
        draw = 0 if mechanism.redraw is None else number // mechanism.redraw
        if generator is not None and isinstance(patterns, Patterns):
            seed = torch.randint(2**62, (), generator=generator, device=generator.device)
            patterns = Patterns(patterns.kind, int(seed))
        if self.noise == 0:
            operator = mechanism.operator(patterns, shape, draw)
            return operator.to(storage.device, storage.dtype).apply(storage, frame)
        weights = frame.gather(storage)
        slept = mechanism.step(
            weights.to(torch.promote_types(weights.dtype, torch.float32)),
            frame,
            patterns,
            shape,
            noise=self.noise,
            draw=draw,
            generator=generator,
        )
        return frame.scatter(slept.to(storage.dtype), storage)

    def _patterns(self, name: str) -> Source:
        if isinstance(self.patterns, Patterns | Tiles):
            return self.patterns
        if name not in self.patterns:
            known = ", ".join(self.patterns) or "none"
            raise InvalidArgument(f"patterns must have an entry for layer {name!r}, got {known}")
        return self.patterns[name]


def share(
    model_or_layer: nn.Module,
    mechanism: Mechanism | None = None,
    border: Border = "share",
    patterns: Source | Tensor | Mapping[str, Source] | None = None,
    generator: torch.Generator | None = None,
    *,
    noise: float = 0.0,
    scaling: Scaling = None,
) -> dict[str, Slept]:
    """Let a layer, or every locally connected layer of a model, sleep once, in place.

    Returns statistics of every layer before and after. Arguments are those of `Sleep`; besides,
    `patterns` may be a tensor of tiles (steps, batch, C_in, *kernel), and `generator` draws the
    tiles anew instead of repeating those of their seed.

        >>> share(model, Circuit(presentations=1000))["layer1.0.conv1"].after.snr
    """
    given = Tiles(patterns) if isinstance(patterns, Tensor) else patterns or Patterns()
    sleep = Sleep(mechanism or Instant(), border, given, noise, scaling)
    layers = local_layers(model_or_layer)
    before = {name: layer_statistics(layer) for name, layer in layers.items()}
    sleep(model_or_layer, generator=generator)
    return {name: Slept(before[name], layer_statistics(layer)) for name, layer in layers.items()}


def local_layers(model: nn.Module) -> dict[str, LocallyConnected]:
    """The locally connected layers of a model by qualified name; of a layer, itself."""
    found = {
        name or "layer": module
        for name, module in model.named_modules()
        if isinstance(module, LocallyConnected)
    }
    if not found:
        raise InvalidArgument(
            f"model must have a locally connected layer to sleep, got a {type(model).__name__} "
            "without one: convert it with neurosim.nn.to_local"
        )
    return found


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
