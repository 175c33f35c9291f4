"""Seeded draws: a generator for every key, and the noise of neurons, drawn in blocks."""

from __future__ import annotations

import numpy as np

from neurosim.dynamics.arrays import Array
from neurosim.errors import require

Seed = int | np.random.SeedSequence
NOISE = 1  # inputs of the same seed have keys of their block alone


def child_generator(seed: Seed, *key: int) -> np.random.Generator:
    """The generator that belongs to `key` below `seed`, independent of all others."""
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return np.random.default_rng(
        np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, *key))
    )


def check_seed(name: str, seed: object) -> None:
    """A seed is a whole number >= 0 or a numpy SeedSequence."""
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool) and seed >= 0
    valid = whole or isinstance(seed, np.random.SeedSequence)
    require(valid, name, seed, "an integer >= 0 or a numpy SeedSequence")


class NeuronNoise:
    """Gaussian noise on every neuron's input, drawn anew at each presentation (App. A.3)."""

    def __init__(self, seed: Seed, neurons: int, dimension: int, sigma: float) -> None:
        self.seed, self.shape, self.sigma = seed, (neurons, dimension), sigma
        self.block = max(1, 2**18 // (neurons * dimension))
        self._index, self._values = -1, np.empty((0, neurons, dimension))

    def at(self, presentation: int) -> Array:
        """The noise of one presentation, (N, D)."""
        index, offset = divmod(presentation, self.block)
        if index != self._index:
            generator = child_generator(self.seed, NOISE, index)
            self._index = index
            self._values = self.sigma * generator.standard_normal((self.block, *self.shape))
        return self._values[offset]
