"""Put a layer, or all locally connected layers of a model, to sleep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neurosim.errors import (
    InvalidArgument,
    StabilityError,
    require,
    require_choice,
    require_instance,
)
from neurosim.nn.local import LocallyConnected
from neurosim.sleep.circuit import Circuit
from neurosim.sleep.frame import BORDERS, Border, frame_of
from neurosim.sleep.hebbian import Hebbian
from neurosim.sleep.instant import Instant
from neurosim.sleep.layers import (
    check_weights,
    exact_products,
    local_layers,
    low_rank_layers,
    present_in,
    refuse_absent,
    stored,
)
from neurosim.sleep.layerwise import Layerwise
from neurosim.sleep.low_rank import check_low_rank, share_combining
from neurosim.sleep.operator import check_growth
from neurosim.sleep.patterns import Patterns, Source, Tiles, TileShape
from neurosim.sleep.scaling import SCALINGS, Scaling, norms, rescale
from neurosim.sleep.statistics import LayerStatistics, statistics_of

Mechanism = Instant | Hebbian | Circuit | Layerwise
GENERATOR = type(torch.default_generator)


class Slept(NamedTuple):
    """A layer before and after a sleep."""

    before: LayerStatistics
    after: LayerStatistics


@dataclass(frozen=True)
class Sleep:
    """How layers sleep: the mechanism and everything around it.

    Args:
        mechanism: `Instant()`, `Hebbian(...)`, `Circuit(...)` or `Layerwise(...)`.
        border: "share" lets positions at the image's border sleep like all others, "exclude"
            leaves out those whose receptive field leaves the image.
        patterns: what lateral connections show, of one kind or by the layer's name; to the first
            layer only for `Layerwise`, and not used by `Instant`.
        noise: standard deviation of noise that every neuron sees by itself (App. A.3), for
            `Hebbian` and `Circuit`. Every neuron is then stepped, because no operator describes
            the sleep.
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
                "mechanism must be Instant(), Hebbian(...), Circuit(...) or Layerwise(...), "
                f"got {self.mechanism!r}"
            )
        by_layer = (
            isinstance(self.patterns, Mapping)
            and not isinstance(self.mechanism, Layerwise)
            and all(isinstance(one, Source) for one in self.patterns.values())
        )
        if not (isinstance(self.patterns, Source) or by_layer):
            raise InvalidArgument(
                "patterns must be Patterns(...) or Tiles(...), or either for every layer by name "
                f"(but for Layerwise, which shows the first layer only), got {self.patterns!r}"
            )
        require_choice("border", self.border, BORDERS)
        require(0 <= self.noise < math.inf, "noise", self.noise, "finite and >= 0")
        require(self.scaling in SCALINGS, "scaling", self.scaling, f"one of {SCALINGS}")
        if self.noise and not isinstance(self.mechanism, Hebbian | Circuit):
            kind = type(self.mechanism).__name__
            raise InvalidArgument(f"noise must be 0 for {kind}(), got {self.noise}")

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, number: int = 0, generator: torch.Generator | None = None
    ) -> None:
        """Let every locally connected layer sleep; this is sleep number `number` of the run.

        Of low-rank layers the combining weights sleep (`neurosim.sleep.low_rank`). Biases stay,
        and layers whose weights are frozen sleep too. `generator` draws the neurons' own noise,
        and torch's own does if there is none.
        """
        check_weights(model)
        layers, mechanism = local_layers(model), self.mechanism
        with exact_products(), ExitStack() as awake_again:
            for name, low_rank in low_rank_layers(model).items():
                check_low_rank(low_rank, name, self)
                share_combining(low_rank, self.border)
            for layer in layers.values():
                awake_again.enter_context(self._homeostasis(layer))
            if isinstance(mechanism, Layerwise):
                draw = _draw_of(mechanism.redraw, number)
                mechanism.apply(model, self.border, self._patterns(""), draw)
                return
            for name, layer in layers.items():
                with _naming(name):
                    self._sleep(layer, name, mechanism, number, generator)

    def check(self, model: nn.Module) -> None:
        """Refuse a model with a layer that cannot sleep like this, before it is trained.

        Operators are computed now that the first sleep would have to compute.
        """
        check_weights(model)
        for name, layer in low_rank_layers(model).items():
            check_low_rank(layer, name, self)
        if isinstance(self.mechanism, Layerwise) and local_layers(model):
            self.mechanism.check(model, self._patterns(""))
        for name, layer in local_layers(model).items():
            if isinstance(self.mechanism, Hebbian | Circuit):
                refuse_absent(layer, name, self.mechanism)
                with _naming(name):
                    patterns, shape = self._patterns(name), _shape(layer)
                    if self.noise == 0:
                        self.mechanism.operator(patterns, shape)
                    else:
                        self.mechanism.check(patterns, shape, self.noise)

    @contextmanager
    def _homeostasis(self, layer: LocallyConnected) -> Iterator[None]:
        """Norms return to what they were."""
        if self.scaling is None:
            yield
            return
        frame = frame_of(layer, self.border)
        with stored(layer.weight, layer.geometry) as storage:
            before = norms(frame.part(storage), frame, self.scaling)
        yield
        with stored(layer.weight, layer.geometry) as storage:
            rescale(storage, frame, self.scaling, before)

    def _sleep(
        self,
        layer: LocallyConnected,
        name: str,
        mechanism: Instant | Hebbian | Circuit,
        number: int,
        generator: torch.Generator | None,
    ) -> None:
        """Let one layer sleep."""
        frame = frame_of(layer, self.border)
        if len(frame.positions) == 0:
            return None
        if isinstance(mechanism, Instant):
            with stored(layer.weight, layer.geometry) as storage:
                return mechanism.apply(storage, frame, present_in(layer))
        refuse_absent(layer, name, mechanism)
        shape = _shape(layer)
        patterns, draw = self._patterns(name), _draw_of(mechanism.redraw, number)
        with stored(layer.weight, layer.geometry) as storage:
            if self.noise == 0:
                operator = mechanism.operator(patterns, shape, draw)
                return operator.to(storage.device, storage.dtype).apply(storage, frame)
            weights = frame.gather(storage)
            weights = weights.to(torch.promote_types(weights.dtype, torch.float32))
            slept = mechanism.step(
                weights,
                frame,
                patterns,
                shape,
                noise=self.noise,
                draw=draw,
                generator=generator,
            )
            check_growth("weights", float(slept.norm() / weights.norm().clamp_min(1e-30)))
            return frame.scatter(slept.to(storage.dtype), storage)

    def _patterns(self, name: str) -> Source:
        """The patterns of a layer."""
        patterns = self.patterns
        if isinstance(patterns, Mapping):
            if name not in patterns:
                known = ", ".join(patterns) or "none"
                raise InvalidArgument(
                    f"patterns must have an entry for layer {name!r}, got {known}"
                )
            patterns = patterns[name]
        return patterns


def _draw_of(redraw: int | None, number: int) -> int:
    """Which sequence of tiles sleep number `number` of a run shows."""
    return 0 if redraw is None else number // redraw


def _shape(layer: LocallyConnected) -> TileShape:
    """What one neuron of a layer sees."""
    return TileShape(layer.groups, layer.in_channels // layer.groups, layer.kernel_size)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say which layer a sleep is not stable for."""
    try:
        yield
    except StabilityError as error:
        raise StabilityError(f"layer {name!r} cannot sleep like this: {error}") from error


def share(
    model_or_layer: nn.Module,
    mechanism: Mechanism | None = None,
    border: Border = "share",
    patterns: Source | Tensor | Mapping[str, Source | Tensor] | None = None,
    generator: torch.Generator | None = None,
    *,
    noise: float = 0.0,
    scaling: Scaling = None,
    number: int | None = None,
) -> dict[str, Slept]:
    """Let a layer, or every locally connected layer of a model, sleep once, in place.

    Returns statistics of every locally connected layer before and after; biases stay as they
    are, and layers whose weights are frozen sleep too. Arguments are those of `Sleep`. Besides,
    tiles may be given as a plain tensor (steps, batch, C_in, *kernel). The same tiles are shown
    at every call, unless `generator` draws them anew, and the neurons' own noise with them, or
    the mechanism's `redraw` does, by the number of sleeps before this one, `number`.

        >>> share(model, Circuit(presentations=1000))["layer1.0.conv1"].after.snr
    """
    require_instance("generator", generator, GENERATOR | None)
    if isinstance(patterns, Mapping):
        given = {name: _as_source(one) for name, one in patterns.items()}
    else:
        given = Patterns() if patterns is None else _as_source(patterns)
    sleep = Sleep(
        Instant() if mechanism is None else mechanism,
        border,
        given if generator is None else _drawn_anew(given, generator),
        noise,
        scaling,
    )
    redraw = getattr(sleep.mechanism, "redraw", None)
    if redraw is not None and number is None and generator is None:
        raise InvalidArgument(
            f"number must say how many sleeps there were, for redraw = {redraw} to count by, or "
            "generator draw new patterns"
        )
    check_weights(model_or_layer)
    layers = local_layers(model_or_layer)
    before = statistics_of(layers.values())
    sleep(model_or_layer, number or 0, generator)
    return dict(zip(layers, map(Slept, before, statistics_of(layers.values())), strict=True))


def _as_source(patterns: Any) -> Source:
    return Tiles(patterns) if isinstance(patterns, Tensor) else patterns


def _drawn_anew(
    patterns: Source | Mapping[str, Source], generator: torch.Generator
) -> Source | Mapping[str, Source]:
    """The same kinds of patterns with seeds that the generator draws."""
    if isinstance(patterns, Mapping):
        return {name: _drawn_anew(one, generator) for name, one in patterns.items()}  # type: ignore[misc]
    if not isinstance(patterns, Patterns):
        return patterns
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return Patterns(patterns.kind, int(seed))
