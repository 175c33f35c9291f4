"""What the population is shown: arrays, or seeded streams that never hold all of it.

A stream draws its inputs in blocks, each from a generator of its own that is keyed by the
seed and the block's number. So any presentation can be reached without drawing those before
it, and comes out the same however it was reached.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from neurosim.dynamics.arrays import Array, check_array
from neurosim.dynamics.draws import Seed, check_seed, child_generator
from neurosim.errors import require, require_choice, require_count, require_number


@dataclass(frozen=True)
class InputStream:
    """Base of all inputs: `presentations` vectors of `dimension` components.

    A stream of one's own defines `draw`, and `second_moment` if closed forms are to use it.
    """

    dimension: int
    presentations: int
    seed: Seed = 0

    def __post_init__(self) -> None:
        require_count("inputs.dimension", self.dimension)
        require_count("inputs.presentations", self.presentations, least=0)
        check_seed("inputs.seed", self.seed)

    def draw(self, generator: np.random.Generator, first: int, count: int) -> Array:
        """The inputs of presentations first, ..., first + count - 1: (count, D).

        All that is random has to come from `generator`, which is new for every block, and there
        have to be `count` inputs even where fewer are left to show: then a presentation is the
        same however it is reached.
        """
        raise NotImplementedError(f"{type(self).__name__} has to say how it draws its inputs")

    @property
    def block(self) -> int:
        """Presentations drawn together: 256, or fewer where they would fill 8 MiB."""
        return min(256, max(1, 2**20 // self.dimension))

    def read(self, start: int, stop: int) -> Iterator[tuple[int, Array]]:
        """Presentations start, ..., stop - 1 as (number of the first, inputs (count, D))."""
        for index in range(start // self.block, -(-stop // self.block)):
            first = index * self.block
            name = f"{type(self).__name__}.draw"
            drawn = self.draw(child_generator(self.seed, index), first, self.block)
            x = check_array(name, drawn, 2, copy=False)
            shape = (self.block, self.dimension)
            require(x.shape == shape, f"{name}.shape", x.shape, f"(count, dimension) = {shape}")
            low, high = max(start, first), min(stop, first + self.block)
            yield low, x[low - first : high - first]

    def second_moment(self) -> Array:
        """C = E[x x^T], (D, D), from which the closed forms start."""
        raise NotImplementedError(f"{type(self).__name__} has to state its second moment")

    @property
    def independent_zero_mean(self) -> bool:
        """Whether an input says nothing about the next, and E[x] = 0."""
        return False

    @property
    def energy(self) -> float:
        """E|x|^2, to which learning rates are relative."""
        return float(np.trace(self.second_moment()))

    def sample_energies(self) -> Array:
        """|x|^2 of up to 64 inputs, spread over the run in steps of whole blocks."""
        blocks = max(1, -(-self.presentations // self.block))
        energies = []
        for index in np.unique(np.linspace(0, blocks - 1, 4).astype(int)):
            start = int(index) * self.block
            for _, x in self.read(start, min(self.presentations, start + 16)):
                energies.append((x**2).sum(1))
        return np.concatenate([np.empty(0), *energies])

    def array(self) -> Array:
        """All inputs at once, (T, D)."""
        read = [x for _, x in self.read(0, self.presentations)]
        return np.concatenate([np.empty((0, self.dimension)), *read])


@dataclass(frozen=True)
class Given(InputStream):
    """An array of inputs (T, D), shown in order."""

    values: Array = field(default_factory=lambda: np.empty((0, 1)), repr=False)

    @classmethod
    def of(cls, values: ArrayLike) -> Given:
        """Check the array and wrap a copy of it."""
        array = check_array("inputs", values, 2)
        return cls(dimension=array.shape[1], presentations=array.shape[0], values=array)

    def __post_init__(self) -> None:
        super().__post_init__()
        values = check_array("inputs.values", self.values, 2, copy=False)
        shape = (self.presentations, self.dimension)
        allowed = f"(presentations, dimension) = {shape}"
        require(values.shape == shape, "inputs.values.shape", values.shape, allowed)
        object.__setattr__(self, "values", values)

    def read(self, start: int, stop: int) -> Iterator[tuple[int, Array]]:
        """Presentations start, ..., stop - 1, in views of at most a block."""
        for first in range(start, stop, self.block):
            yield first, self.values[first : min(stop, first + self.block)]

    def second_moment(self) -> Array:
        """C = mean_t x_t x_t^T, over the inputs as given."""
        return self.values.T @ self.values / max(1, self.presentations)

    @property
    def energy(self) -> float:
        """mean_t |x_t|^2."""
        return float((self.values**2).sum() / max(1, self.presentations))


@dataclass(frozen=True)
class Gaussian(InputStream):
    """x ~ N(mean, covariance); the published code has mean 0, the paper's text mean 1.

    `rectified=True` shows max(x, 0): the rates of a layer below cannot be negative.
    """

    mean: float = 0.0
    std: float = 1.0
    covariance: Array | None = field(default=None, repr=False)
    rectified: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("inputs.mean", self.mean)
        require_number("inputs.std", self.std)
        require(np.isfinite(self.mean), "inputs.mean", self.mean, "finite")
        require(np.isfinite(self.std) and self.std > 0, "inputs.std", self.std, "> 0")
        if self.covariance is not None:
            covariance = check_array("inputs.covariance", self.covariance, 2)
            shape = (self.dimension, self.dimension)
            require(
                covariance.shape == shape, "inputs.covariance.shape", covariance.shape, str(shape)
            )
            symmetric = np.allclose(covariance, covariance.T, rtol=1e-10, atol=1e-12)
            smallest = float(np.linalg.eigvalsh(covariance)[0]) if symmetric else np.nan
            require(
                symmetric and smallest > -1e-10 * np.trace(covariance),
                "inputs.covariance",
                f"smallest eigenvalue {smallest:g}" if symmetric else "an asymmetric matrix",
                "symmetric and positive semidefinite",
            )
            object.__setattr__(self, "covariance", covariance)

    @property
    def independent_zero_mean(self) -> bool:
        """True for mean 0, unless rectified."""
        return self.mean == 0 and not self.rectified

    @cached_property
    def _root(self) -> Array | None:
        """A square root of the covariance, so that z @ root has it."""
        if self.covariance is None:
            return None
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T

    def draw(self, generator: np.random.Generator, first: int, count: int) -> Array:
        """Independent draws of x."""
        x = generator.standard_normal((count, self.dimension))
        if self._root is not None:
            x = np.einsum("td,de->te", x, self._root)  # the same sum for every chunk size
        x = self.mean + self.std * x
        return np.maximum(x, 0) if self.rectified else x

    def second_moment(self) -> Array:
        """std^2 covariance + mean mean^T; of correlated max(x, 0) with a mean from draws."""
        if self.rectified:
            if self.covariance is None:
                return _independent_moment(*_rectified_moments(self.mean, self.std), self.dimension)
            if self.mean == 0:  # the arc-cosine kernel of two rectified Gaussians
                root = np.sqrt(np.diag(self.covariance).clip(0))
                scale = np.outer(root, root)  # 0 where one is 0 at all times
                cosine = np.divide(
                    self.covariance, scale, out=np.zeros_like(scale), where=scale > 0
                )
                angle = np.arccos(np.clip(cosine, -1, 1))
                kernel = np.sin(angle) + (np.pi - angle) * np.cos(angle)
                return self.std**2 * scale * kernel / (2 * np.pi)
            sample = self.draw(
                np.random.default_rng(0), 0, max(10_000, 1_000_000 // self.dimension)
            )
            return sample.T @ sample / len(sample)
        covariance = np.eye(self.dimension) if self.covariance is None else self.covariance
        return self.std**2 * covariance + self.mean**2


def _rectified_moments(mean: float, std: float) -> tuple[float, float]:
    """E[max(x, 0)] and E[max(x, 0)^2] for x ~ N(mean, std^2)."""
    from scipy.stats import norm

    density, mass = std * norm.pdf(mean / std), norm.cdf(mean / std)
    first = mean * mass + density
    return float(first), float((mean**2 + std**2) * mass + mean * density)


def _independent_moment(first: float, second: float, dimension: int) -> Array:
    """E[x x^T] of independent components with the given moments."""
    return np.full((dimension, dimension), first**2) + (second - first**2) * np.eye(dimension)


@dataclass(frozen=True)
class Independent(InputStream):
    """Independent non-Gaussian components of unit second moment.

    Zero-mean: "laplace" (heavy tails), "uniform" (light), "sign" (+1 or -1).
    Non-negative: "exponential", "binary" (sqrt(2) or 0).
    """

    kind: Literal["laplace", "uniform", "sign", "exponential", "binary"] = "laplace"
    kinds: ClassVar[tuple[str, ...]] = ("laplace", "uniform", "sign", "exponential", "binary")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("inputs.kind", self.kind, self.kinds)

    @property
    def independent_zero_mean(self) -> bool:
        """True for the zero-mean kinds."""
        return self.kind in ("laplace", "uniform", "sign")

    def draw(self, generator: np.random.Generator, first: int, count: int) -> Array:
        """Independent draws of x."""
        shape = (count, self.dimension)
        if self.kind == "laplace":
            return generator.laplace(scale=np.sqrt(0.5), size=shape)
        if self.kind == "uniform":
            return generator.uniform(-np.sqrt(3), np.sqrt(3), shape)
        if self.kind == "exponential":
            return generator.exponential(np.sqrt(0.5), shape)
        on = generator.random(shape) < 0.5
        return np.where(on, 1.0, -1.0) if self.kind == "sign" else np.where(on, np.sqrt(2.0), 0.0)

    def second_moment(self) -> Array:
        """I for the zero-mean kinds, (I + 1 1^T) / 2 for the non-negative ones."""
        first = np.sqrt(0.5) if self.kind in ("exponential", "binary") else 0.0
        return _independent_moment(first, 1.0, self.dimension)


@dataclass(frozen=True)
class OneHot(InputStream):
    """One element of the pattern at a time, as one grid of a layer below is active (Sec. 4.1).

    The active element has the value sqrt(D), so that C = I as for the other inputs.
    `order` "cyclic" runs through the elements in turn, "random" draws them.
    """

    order: Literal["cyclic", "random"] = "cyclic"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("inputs.order", self.order, ("cyclic", "random"))

    def draw(self, generator: np.random.Generator, first: int, count: int) -> Array:
        """One active element per input."""
        active = np.arange(first, first + count) % self.dimension
        if self.order == "random":
            active = generator.integers(self.dimension, size=count)
        x = np.zeros((count, self.dimension))
        x[np.arange(count), active] = np.sqrt(self.dimension)
        return x

    def second_moment(self) -> Array:
        """The identity."""
        return np.eye(self.dimension)


def distance_covariance(kernel: int, length: float, channels: int = 1) -> Array:
    """exp(-|p - q| / length) between the pixels of a kernel x kernel patch, per channel."""
    require(length > 0, "length", length, "> 0 pixels")
    pixels = np.stack(np.divmod(np.arange(kernel**2), kernel), axis=1)
    distance = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1)
    return np.kron(np.eye(channels), np.exp(-distance / length))
