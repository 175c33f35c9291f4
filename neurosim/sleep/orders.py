"""Do layers that sleep together end where layers that sleep in turn do (Sec. 4.1)?"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from neurosim.nn.local import LocallyConnected
from neurosim.sleep.frame import Border, Frame, frame_of
from neurosim.sleep.layers import local_layers
from neurosim.sleep.layerwise import ORDERS, Layerwise, dimension, layer_inputs, listening
from neurosim.sleep.patterns import Patterns, Source
from neurosim.sleep.statistics import layer_statistics


class Agreement(NamedTuple):
    """How far the two orders' weights of one layer agree, and how far they had to."""

    difference: float  # |w_together - w_in_turn|, relative to the deviations at the start
    smallest_eigenvalue: float  # of C, the second moment of what the layer is shown, in turn
    floor: float  # gamma / smallest eigenvalue, what a layer keeps of deviations at most
    left_together: float  # deviation left, relative to that at the start
    left_in_turn: float
    memory: float  # share of a displaced mean that gamma has not pulled back yet


@torch.no_grad()
def compare_orders(
    model: nn.Module,
    sleep: Layerwise,
    border: Border = "share",
    patterns: Source = Patterns(),  # noqa: B008 (frozen)
) -> dict[str, Agreement]:
    """Let two copies of the model sleep in the two orders, and compare them layer by layer."""
    slept = {}
    for order in ORDERS:
        slept[order] = deepcopy(model)
        replace(sleep, order=order).apply(slept[order], border, patterns)
    moments = _second_moments(slept["in turn"], sleep, border, patterns)
    pull = sleep.rate * sleep.gamma / (1 - sleep.momentum)
    found = {}
    for name, start in local_layers(model).items():
        together, in_turn = (local_layers(slept[order])[name] for order in ORDERS)
        spread = layer_statistics(start).spread or math.nan  # of equal filters nothing can be left
        difference = (together.weight - in_turn.weight).square().mean().sqrt()
        smallest = float(torch.linalg.eigvalsh(moments[name])[..., 0].min().clamp_min(0))
        found[name] = Agreement(
            float(difference) / spread,
            smallest,
            sleep.gamma / smallest if smallest > 0 else math.inf,
            layer_statistics(together).spread / spread,
            layer_statistics(in_turn).spread / spread,
            math.exp(-pull * sleep.steps / dimension(start)),
        )
    return found


def _second_moments(
    model: nn.Module, sleep: Layerwise, border: Border, patterns: Source
) -> dict[str, Tensor]:
    """C of every layer and group in the torus frame, (groups, D, D), over neurons and tiles."""
    sums: dict[str, Tensor] = {}
    largest = max(map(dimension, local_layers(model).values()))
    count = min(sleep.steps, -(-64 * largest // sleep.batch))  # enough for smallest eigenvalues
    with listening(model):
        for image in islice(sleep.images(model, patterns), count):
            for name, x in layer_inputs(model, image).items():
                layer = local_layers(model)[name]
                seen = _patches(layer, x, frame_of(layer, border)).double()
                moment = seen.mT @ seen / seen.shape[1] / count
                sums[name] = sums[name].add_(moment) if name in sums else moment
    return sums


def _patches(layer: LocallyConnected, x: Tensor, frame: Frame) -> Tensor:
    """What neurons see in the torus frame: (N, C, *input) -> (groups, P N, D)."""
    g = layer.geometry
    padded = layer.padded(x)
    by_tap = torch.stack([padded[(..., *tap)].flatten(2) for tap in g.taps()])  # (taps, N, C, .)
    by_tap = by_tap.permute(0, 3, 1, 2).flatten(0, 1)  # (taps positions, N, C)
    seen = by_tap.index_select(0, frame.rows.flatten())
    seen = seen.view(
        *frame.rows.shape, len(x), g.groups, -1
    )  # (P, elements, N, groups, C / groups)
    return seen.permute(3, 0, 2, 1, 4).reshape(g.groups, -1, dimension(layer))
