"""A sleep of several layers, each shown what the layers below make of the patterns (Sec. 4.1).

Lateral connections outside the model repeat tiles over the image. All else happens in the model:
a layer whose neurons are equal within each grid turns a periodic image into another one, which
is the pattern that the next layer sees. Every neuron follows Eq. 4 with its own patch x_i of what
its layer really receives,

    m_i <- momentum m_i - eta [ mean_b (z_bi - mean_j z_bj) x_bi + gamma (w_i - w_i_init) ]
    w_i <- w_i + m_i

so that no operator describes the sleep. Two orders are possible. "in turn": plasticity is enabled
one layer at a time, from the first to the last. "together": all layers learn at once, and the
deeper ones are shown patterns that are not periodic yet. Since gamma pulls toward the weights at
the start of the sleep, both end in the same weights (`neurosim.sleep.compare_orders`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from neurosim.errors import InvalidArgument, StabilityError, require, require_choice, require_count
from neurosim.nn.local import LocallyConnected
from neurosim.nn.modes import modes_kept
from neurosim.sleep.frame import Border, Frame, frame_of
from neurosim.sleep.layers import exact_products, local_layers, refuse_absent
from neurosim.sleep.operator import check_growth
from neurosim.sleep.patterns import Patterns, Source, TileShape, rows

ORDERS = ("together", "in turn")


@dataclass(frozen=True)
class Layerwise:
    """Eq. 4 in all layers, on patterns that only the first layer gets from outside.

    Every layer's input is scaled to unit mean square, so that |x|^2 is D on average, and `rate`
    is relative to it, eta = rate / D: a rate below 2 is stable where all neurons of a layer see
    about as much. Batch norm uses its batch's statistics and keeps its running ones; all other
    modules are in evaluation mode.

    Args:
        steps: batches shown (to each layer, if in turn).
        batch: tiles in a batch.
        rate: of plasticity, relative to |x|^2.
        gamma: pull toward the weights at the start.
        momentum: of plasticity.
        order: "together" or "in turn".
        input_shape: of an image, (channels, *size), for models that do not begin with their
            first locally connected layer.
        redraw: new tiles every so many sleeps; by default always the same.
    """

    steps: int = 1000
    batch: int = 16
    rate: float = 1.0
    gamma: float = 1e-3
    momentum: float = 0.0
    order: Literal["together", "in turn"] = "together"
    input_shape: tuple[int, ...] | None = None
    redraw: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch"):
            require_count(f"sleep.{name}", getattr(self, name))
        require(0 < self.rate < math.inf, "sleep.rate", self.rate, "finite and > 0")
        require(0 <= self.gamma < math.inf, "sleep.gamma", self.gamma, "finite and >= 0")
        require(0 <= self.momentum < 1, "sleep.momentum", self.momentum, "at least 0 and below 1")
        require_choice("sleep.order", self.order, ORDERS)
        require_count("sleep.redraw", self.redraw, optional=True)

    @torch.no_grad()
    def check(self, model: nn.Module, patterns: Source) -> None:
        """Refuse a model through whose layers one pattern does not pass."""
        with exact_products(), listening(model):
            layers = self._layers(model, next(self.images(model, patterns)))
        for name, layer in layers.items():
            refuse_absent(layer, name, self)

    @torch.no_grad()
    def apply(
        self,
        model: nn.Module,
        border: Border = "share",
        patterns: Source = Patterns(),  # noqa: B008 (frozen)
        draw: int = 0,
    ) -> None:
        """Let all locally connected layers of the model sleep, in place."""
        with exact_products(), listening(model):
            layers = self._layers(model, next(self.images(model, patterns, draw)))
            learners = {name: _Learner(name, layer, self, border) for name, layer in layers.items()}
            phases = [[name] for name in learners] if self.order == "in turn" else [[*learners]]
            for phase in phases:
                for image in self.images(model, patterns, draw):
                    seen = layer_inputs(model, image)
                    for name in phase:
                        learners[name].learn(seen[name])
            try:
                for learner in learners.values():
                    learner.check()
            except StabilityError:
                for learner in learners.values():
                    learner.layer.weight.copy_(learner.start)
                raise

    def _layers(self, model: nn.Module, image: Tensor) -> dict[str, LocallyConnected]:
        try:
            return _in_order_of_use(model, image)
        except RuntimeError as error:
            shape, why = tuple(image.shape[1:]), str(error).splitlines()[0]
            raise InvalidArgument(
                f"sleep.input_shape must be that of the model's images, got {shape}: {why}"
            ) from error

    def images(self, model: nn.Module, patterns: Source, draw: int = 0) -> Iterator[Tensor]:
        """Batches of images filled with tiles of the first layer's kernel size, (batch, *shape)."""
        first = next(iter(local_layers(model).values()))
        channels, *size = self.input_shape or (first.in_channels, *first.input_size)
        if len(size) != first.axes:
            raise InvalidArgument(
                f"sleep.input_shape must be channels and {first.axes} sizes, got {self.input_shape}"
            )
        shape = TileShape(1, channels, first.kernel_size)
        (stream,) = patterns.streams(shape, self.steps * self.batch, draw)
        for batch in rows(stream, self.batch):
            tiles = torch.from_numpy(batch).to(first.weight).unflatten(1, (*shape.kernel, channels))
            image = tiles.movedim(-1, 1)
            settings = zip(size, first.kernel_size, first.dilation, strict=True)
            for axis, (pixels, kernel, dilation) in enumerate(settings, start=2):
                spread = dilation if math.gcd(dilation, kernel) > 1 else 1
                element = torch.arange(pixels, device=image.device) // spread % kernel
                image = image.index_select(axis, element)
            yield image


def layer_inputs(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What every locally connected layer receives, scaled to unit mean square, in order of use."""
    seen: dict[str, Tensor] = {}

    def listen(name: str, layer: LocallyConnected) -> Any:
        def hear(_: nn.Module, args: tuple, kwargs: dict) -> None:
            if name in seen:
                raise InvalidArgument(
                    f"layer {name!r} must be used once in a forward pass, got twice"
                )
            x = args[0] if args else kwargs["input"]
            seen[name] = x / x.square().mean().sqrt().clamp_min(torch.finfo(x.dtype).tiny)

        return layer.register_forward_pre_hook(hear, with_kwargs=True)

    hooks = [listen(name, layer) for name, layer in local_layers(model).items()]
    try:
        model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


class _Learner:
    """One layer during its sleep."""

    def __init__(
        self, name: str, layer: LocallyConnected, settings: Layerwise, border: Border
    ) -> None:
        refuse_absent(layer, name, settings)
        self.name, self.layer, self.settings = name, layer, settings
        self.frame = frame_of(layer, border)
        self.start = layer.weight.detach().clone()  # w_init
        self.movement = torch.zeros_like(self.start)  # m
        self.rate = settings.rate / dimension(layer)  # eta

    def learn(self, x: Tensor) -> None:
        """One update: r pulled back through z = w.x is r x_i for every neuron."""
        weight = self.layer.weight.detach().requires_grad_()
        with torch.enable_grad():
            z = _drive(self.layer, weight, x)
        (correlation,) = torch.autograd.grad(z, weight, _deviations(z, self.frame) / len(x))
        pull = self.settings.gamma * (weight.detach() - self.start)
        self.movement = self.settings.momentum * self.movement - self.rate * (correlation + pull)
        self.layer.weight.add_(self.movement)

    def check(self) -> None:
        """Raise `StabilityError` if the weights have grown."""
        grown = float(self.layer.weight.norm() / self.start.norm().clamp_min(1e-30))
        try:
            check_growth("weights", grown)
        except StabilityError as error:
            raise StabilityError(f"layer {self.name!r} cannot sleep like this: {error}") from error


def dimension(layer: LocallyConnected) -> int:
    """D, the number of components of one neuron."""
    return math.prod(layer.weight.shape[layer.axes + 1 :])


def _drive(layer: LocallyConnected, weight: Tensor, x: Tensor) -> Tensor:
    """z = w.x of every neuron, without its bias: (N, O, *output)."""
    parameters = {"weight": weight}
    if layer.bias is not None:
        parameters["bias"] = torch.zeros_like(layer.bias)
    return functional_call(layer, parameters, (x,))


def _deviations(z: Tensor, frame: Frame) -> Tensor:
    """z minus its mean over the grid; 0 for neurons that take no part."""
    by_position = z.detach().flatten(2).permute(2, 0, 1)  # (positions, N, O)
    part = by_position.index_select(0, frame.positions)
    part = part - frame.mean(part).index_select(0, frame.grid)
    deviations = torch.zeros_like(by_position).index_copy_(0, frame.positions, part)
    return deviations.permute(1, 2, 0).reshape(z.shape)


def _in_order_of_use(model: nn.Module, image: Tensor) -> dict[str, LocallyConnected]:
    """The layers as a forward pass reaches them, if one pattern can pass through all of them."""
    layers = local_layers(model)
    reached = layer_inputs(model, image)
    for name in layers:
        require(name in reached, "layer", name, "reached by the model's forward pass")
    in_order = {name: layers[name] for name in reached}
    periods = {name: (layer.kernel_size, layer.dilation) for name, layer in in_order.items()}
    first, *others = periods
    for name in others:
        if periods[name] != periods[first]:
            raise InvalidArgument(
                f"layer {name!r} must have the kernel size and dilation of the first, "
                f"{periods[first]}, got {periods[name]}: patterns pass only through filters of the "
                "same size (Sec. 4.1), so leave it convolutional"
            )
    return in_order


@contextmanager
def listening(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, but for batch norm with its batch's statistics; all is as before after."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    running = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        with modes_kept(model):
            model.eval()
            for norm in norms:
                norm.train()
            yield
    finally:
        for buffer, value in running:
            buffer.copy_(value)
