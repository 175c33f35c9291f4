"""Sleeps in the plainest form: every neuron by itself, on an image that lateral connections fill.

Written from the equations alone, in numpy, and sharing no code with the package: positions see
patches of an endless periodic image, neurons that see the same patch share an inhibitory neuron,
and every neuron's own weights are stepped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from neurosim.nn import LocallyConnected1d, LocallyConnected2d, LocallyConnected3d
from neurosim.nn.local import LocallyConnected

LAYERS = (LocallyConnected1d, LocallyConnected2d, LocallyConnected3d)

# Input size and arguments of layers of 4 channels to 6, unless they say otherwise.
CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "sequence": ((11,), {"kernel_size": 3, "padding": 1}),
    "square": ((8, 8), {"kernel_size": 3, "padding": 1}),
    "no padding": ((7, 6), {"kernel_size": 3}),
    "stride 2": ((9, 8), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "stride is the kernel": ((6, 8), {"kernel_size": 2, "stride": 2}),
    "stride shares a divisor": ((13,), {"kernel_size": 4, "stride": 2, "padding": 1}),
    "stride beyond the kernel": ((11, 8), {"kernel_size": 2, "stride": 3}),
    "same, even kernel": ((7, 6), {"kernel_size": (2, 4), "padding": "same"}),
    "rectangular": ((6, 9), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 1)}),
    "much padding": ((5,), {"kernel_size": 3, "padding": 5}),
    "dilation 2, kernel 3": ((9, 10), {"kernel_size": 3, "dilation": 2, "padding": 2}),
    "dilation 2, kernel 2": ((9,), {"kernel_size": 2, "dilation": 2, "padding": 1}),
    "dilation 2, kernel 4": ((8, 11), {"kernel_size": (1, 4), "dilation": 2, "padding": (0, 3)}),
    "dilation 6, kernel 4": ((40,), {"kernel_size": 4, "dilation": 6, "stride": 3, "padding": 2}),
    "groups": ((5, 6), {"kernel_size": 3, "padding": 1, "groups": 2}),
    "volume": ((4, 3, 5), {"kernel_size": (2, 1, 3), "padding": "same"}),
    "pointwise": ((5, 4), {"kernel_size": 1, "stride": (2, 1)}),
    "kernel is the image": ((4, 3), {"kernel_size": (4, 3)}),
    "circular": ((6, 6), {"kernel_size": 3, "padding": 1, "padding_mode": "circular"}),
}


def layer_of(
    size: tuple[int, ...], channels: int = 4, outputs: int = 6, seed: int = 0, **arguments: Any
) -> LocallyConnected:
    """A layer in double precision with a mean filter worth sharing."""
    torch.manual_seed(seed)
    kind = LAYERS[len(size) - 1]
    arguments = {"bias": False, "dtype": torch.float64, "init": 0.7} | arguments
    return kind(channels, outputs, input_size=size, **arguments)


@dataclass
class Neurons:
    """The neurons of a layer that sleep: what each sees of a tile, and who shares with whom."""

    layer: LocallyConnected
    positions: list[tuple[int, ...]]
    elements: list[list[int]]  # of every position: the tile's element at every tap, both flat
    groups: list[list[int]]  # numbers of positions that see the same

    @classmethod
    def of(cls, layer: LocallyConnected, border: str = "share") -> Neurons:
        axes = list(zip(*map(tuple, _sizes(layer)), strict=True))
        positions, elements, seen = [], [], {}
        for position in itertools.product(*map(range, layer.output_size)):
            pixels, frame = [], []
            for h, (kernel, stride, dilation, before, size) in zip(position, axes, strict=True):
                taps = [h * stride - before + tap * dilation for tap in range(kernel)]
                pixels.append((taps, kernel, dilation, size))
                frame.append(taps[0] % dilation if math.gcd(dilation, kernel) > 1 else 0)
            inside = all(0 <= p < size for taps, _, _, size in pixels for p in taps)
            if border == "exclude" and not inside:
                continue
            along = [
                [(p if math.gcd(d, k) == 1 else p // d) % k for p in taps]
                for taps, k, d, _ in pixels
            ]
            flat = [
                int(np.ravel_multi_index(index, layer.kernel_size))
                for index in itertools.product(*along)
            ]
            seen.setdefault((tuple(flat), tuple(frame)), []).append(len(positions))
            positions.append(position)
            elements.append(flat)
        return cls(layer, positions, elements, list(seen.values()))

    def weights(self) -> np.ndarray:
        """(P, O, C / groups, taps)."""
        weight = self.layer.weight.detach().numpy()
        return np.stack([weight[p].reshape(*weight[p].shape[:2], -1) for p in self.positions])

    def patches(self, tiles: np.ndarray) -> np.ndarray:
        """What every neuron sees of one tile (C_in, *kernel): (P, O, C / groups, taps)."""
        g = self.layer.groups
        flat = tiles.reshape(g, self.layer.in_channels // g, -1)
        seen = np.stack([flat[:, :, order] for order in self.elements])
        return seen.repeat(self.layer.out_channels // g, axis=1)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean of the group of each position, (P, ...)."""
        result = np.empty_like(values)
        for group in self.groups:
            result[group] = values[group].mean(0)
        return result

    def written(self, weights: np.ndarray) -> torch.Tensor:
        """The layer's whole weight with those of the sleeping neurons replaced."""
        result = self.layer.weight.detach().clone()
        for position, value in zip(self.positions, weights, strict=True):
            result[position] = torch.from_numpy(value).reshape(result[position].shape)
        return result


def _sizes(layer: LocallyConnected) -> list[tuple[int, ...]]:
    before = layer.padding
    if before == "same":
        pairs = zip(layer.dilation, layer.kernel_size, strict=True)
        before = tuple(d * (k - 1) // 2 for d, k in pairs)
    assert not isinstance(before, str)
    return [layer.kernel_size, layer.stride, layer.dilation, before, layer.input_size]


def circuit(
    neurons: Neurons,
    shown: list[np.ndarray],
    *,
    rate: Callable[[float], float],
    gamma: float,
    momentum: float,
    tau: float,
    alpha: float,
    b: float,
    steps: int,
    dt: float,
) -> np.ndarray:
    """Eq. 8 and its plasticity, step by step; `shown` is what every neuron sees of each tile."""
    w_init = neurons.weights()
    w, m = w_init.copy(), np.zeros_like(w_init)
    r = np.full(w.shape[:2], b)
    r_inh = np.zeros(w.shape[:2])  # of each neuron's inhibitory neuron
    kept = momentum**dt
    for number, x in enumerate(shown):
        for step in range(steps):
            z = (w * x).sum((2, 3))
            excitation = neurons.mean(r)
            r = r + dt / tau * (-r + z - alpha * r_inh + b)
            r_inh = r_inh + dt / tau * (-r_inh + excitation - b)
            eta = rate((number * steps + step) * dt) * dt * (1 - kept) / (1 - momentum)
            if dt == 1:
                eta = rate(number * steps + step)
            m = kept * m + eta * (-(r - b)[..., None, None] * x - gamma * (w - w_init))
            w = w + m
    return w


def biased(
    neurons: Neurons,
    shown: list[np.ndarray],
    *,
    rate: Callable[[float], float],
    gamma: float,
    momentum: float,
    subtracted: float,
) -> np.ndarray:
    """Eq. 21 (Eq. 4 where all of the mean is subtracted), one update per tile."""
    return minibatches(
        neurons, [[x] for x in shown],
        rate=rate, gamma=gamma, momentum=momentum, subtracted=subtracted,
    )  # fmt: skip


def minibatches(
    neurons: Neurons,
    shown: list[list[np.ndarray]],
    *,
    rate: Callable[[float], float],
    gamma: float,
    momentum: float,
    subtracted: float = 1.0,
) -> np.ndarray:
    """The same rule with one update per batch of tiles."""
    w_init = neurons.weights()
    w, m = w_init.copy(), np.zeros_like(w_init)
    for number, batch in enumerate(shown):
        gradient = np.zeros_like(w)
        for x in batch:
            z = (w * x).sum((2, 3))
            r = z - subtracted * neurons.mean(z)
            gradient += r[..., None, None] * x / len(batch)
        m = momentum * m - rate(number) * (gradient + gamma * (w - w_init))
        w = w + m
    return w
