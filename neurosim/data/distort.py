"""What may happen to images on their way to a network (Ott et al. 2020, Secs. 4 and 5.5, App. B).

Six distortions of a batch (n, H, W, C) of pixels in [0, 1], drawn for every image by itself from
a generator of the batch's device. A distortion is written KIND or KIND:STRENGTH:

    translation:0.2    shifts along both axes, independent and continuous, each uniform within
                       0.2 of the image's size; outside is the nearest pixel of the border
    rotation:0.125     about the centre, uniform within 0.125 of a full turn to either side
    noise:0.15         Gaussian, of this standard deviation, not clipped
    edge-noise:0.15    the same in the frame of 5 pixels along the border only, as the text has it
    edge-noise-published:0.15   the same as the published code draws it
    swap               the quadrants I (top right) and III (bottom left) exchanged
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from neurosim.data.warp import Order, warp
from neurosim.errors import InvalidArgument, require, require_choice

FRAME = 5  # pixels


@dataclass(frozen=True)
class Distortion(ABC):
    """One way to distort images; strength 0 leaves them as they are."""

    strength: float

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        inside = isinstance(self.strength, int | float) and 0 <= self.strength < 1
        require(inside, f"strength of {self.kind}", self.strength, "at least 0 and below 1")

    def check(self, size: tuple[int, int]) -> None:  # noqa: B027 (most can be)
        """Refuse images of a size (height, width) that cannot be distorted so."""

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Distorted copies of images (n, H, W, C) in [0, 1]."""
        return self.distorted(images, generator) if self.strength else images

    @abstractmethod
    def distorted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What a strength above 0 does."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.strength:g}"


@dataclass(frozen=True)
class Translation(Distortion):
    """Shifts up or down and left or right, by up to `strength` of height and width (Sec. 4)."""

    order: Order = 1
    kind = "translation"

    def distorted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Every image elsewhere."""
        size = images.new_tensor(images.shape[1:3])
        shift = _uniform(images, (len(images), 2), generator) * (self.strength * size)
        return warp(images, torch.eye(2, device=images.device), shift, self.order)


@dataclass(frozen=True)
class Rotation(Distortion):
    """Rotations about the centre, by up to `strength` of 360 degrees either way (App. B.4)."""

    order: Order = 1
    kind = "rotation"

    def distorted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Every image turned by an angle of its own."""
        angle = _uniform(images, (len(images),), generator) * (2 * math.pi * self.strength)
        cos, sin = angle.cos(), angle.sin()
        matrix = torch.stack([cos, -sin, sin, cos], -1).unflatten(-1, (2, 2))
        return warp(images, matrix, images.new_zeros(2), self.order)


@dataclass(frozen=True)
class Noise(Distortion):
    """Gaussian noise of standard deviation `strength`; pixels may leave [0, 1] (App. B.2)."""

    kind = "noise"

    def distorted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Noise everywhere."""
        return images + self.strength * _normal(images, generator)


@dataclass(frozen=True)
class EdgeNoise(Distortion):
    """Gaussian noise of standard deviation `strength` at the edges (App. B.1).

    The text has it in the 5 pixels that border an image. The published code cuts the noise of a
    batch along the axes of images and rows, not of rows and columns: images 5 to -5 of a batch
    get it in their top and bottom 5 rows, all others everywhere (`published`).
    """

    published: bool = False
    kind = "edge-noise"

    def check(self, size: tuple[int, int]) -> None:
        """There must be something within the frame."""
        got = f"{size[0]} x {size[1]}"
        allowed = f"larger than the frame, {2 * FRAME + 1} pixels or more"
        require(min(size) > 2 * FRAME, "size of images with edge noise", got, allowed)

    def distorted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Noise at the edges."""
        self.check((images.shape[1], images.shape[2]))
        noise = _normal(images, generator)
        within = slice(FRAME, -FRAME)
        first = 0 if self.published else 1  # axis that the code, or the text, cuts first
        noise[(slice(None),) * first + (within, within)] = 0
        return images + self.strength * noise

    def __str__(self) -> str:
        return f"{self.kind}{'-published' if self.published else ''}:{self.strength:g}"


@dataclass(frozen=True)
class Swap(Distortion):
    """Quadrants I and III exchanged, as in Cartesian geometry (App. B.3). It has no strength."""

    strength: float = 0.0
    kind = "swap"

    def __post_init__(self) -> None:
        require(self.strength == 0, "strength of swap", self.strength, "left out")

    def check(self, size: tuple[int, int]) -> None:
        """There must be quadrants."""
        require(min(size) >= 2, "size of images with quadrants", f"{size[0]} x {size[1]}", "2 up")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Distorted copies of images, whatever the strength."""
        return self.distorted(images, generator)

    def distorted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The middle row and column of odd sizes stay."""
        high, wide = images.shape[1] // 2, images.shape[2] // 2
        swapped = images.clone()
        swapped[:, :high, -wide:] = images[:, -high:, :wide]
        swapped[:, -high:, :wide] = images[:, :high, -wide:]
        return swapped

    def __str__(self) -> str:
        return self.kind


KINDS = ("translation", "rotation", "noise", "edge-noise", "edge-noise-published", "swap")


def distortion(text: str, order: int = 1) -> Distortion:
    """What KIND or KIND:STRENGTH describes; `order` is that of interpolation, 0 or 1."""
    kind, _, given = text.partition(":")
    require_choice("distortion", kind, KINDS)
    require(order in get_args(Order), "order", order, "0 or 1")
    if kind == "swap":
        require(not given, "strength of swap", given, "left out")
        return Swap()
    try:
        strength = float(given)
    except ValueError as error:
        raise InvalidArgument(
            f"distortion must be KIND:STRENGTH, such as {kind}:0.2, got {text!r}"
        ) from error
    if kind == "translation":
        return Translation(strength, order)  # type: ignore[arg-type]
    if kind == "rotation":
        return Rotation(strength, order)  # type: ignore[arg-type]
    if kind == "noise":
        return Noise(strength)
    return EdgeNoise(strength, published=kind.endswith("published"))


def _uniform(like: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1)."""
    drawn = torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
    return 2 * drawn - 1


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """As many independent standard normal numbers as there are pixels."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
