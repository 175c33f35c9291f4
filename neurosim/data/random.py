"""Random numbers that are a function of what they are for and of nothing else."""

from __future__ import annotations

from numbers import Integral

import numpy as np

from neurosim.errors import require


def generator(purpose: str, seed: int, *key: int) -> np.random.Generator:
    """The generator of one purpose, seed and key: the same on every machine and device."""
    require(isinstance(seed, Integral) and seed >= 0, "seed", seed, "a whole number >= 0")
    return np.random.default_rng((*purpose.encode(), int(seed), *key))
