"""Augmentation: what may happen to a training image, and how a whole batch is cut at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from neurosim.data.distort import Distortion
from neurosim.data.images import Size, is_whole
from neurosim.errors import InvalidArgument, require, require_choice

Crop = Literal["resize", "random-resized"]


@dataclass(frozen=True)
class Augment:
    """How training images vary (Pogodin et al. 2021, Sec. 5.1).

    Args:
        pad: shift every image by up to this many pixels along both axes. What comes in from
            outside is the mean of the training images, which is 0 after normalisation.
        flip: mirror every second image, at random.
        repetitions: how often every image occurs within its batch, each time varied anew.
        center_crop: size of the window that is shifted, the whole image by default. With 48 and
            a pad, TinyImageNet is cropped to 48 + 2 pad in its centre and then, at random, to 48.
        crop: how an image is cut that is read from its file: at a random place after resizing
            its shorter side ("resize"), or to a random area and aspect ratio and then resized
            ("random-resized", 8% to 100% of the image and 3:4 to 4:3). By default the centre.
        distortion: what happens to every image besides (`neurosim.data.distort`).
    """

    pad: int = 0
    flip: bool = False
    repetitions: int = 1
    center_crop: int | None = None
    crop: Crop | None = None
    distortion: Distortion | None = None

    def __post_init__(self) -> None:
        require(_at_least(self.pad, 0), "pad", self.pad, "a whole number of pixels >= 0")
        require(_at_least(self.repetitions, 1), "repetitions", self.repetitions, "a number >= 1")
        if self.center_crop is not None:
            allowed = "a whole number of pixels >= 1, or None"
            require(_at_least(self.center_crop, 1), "center_crop", self.center_crop, allowed)
        if self.crop is not None:
            require_choice("crop", self.crop, get_args(Crop))
        if self.pad and self.distortion is not None:
            raise InvalidArgument(
                f"pad must be 0 for images with {self.distortion}, got {self.pad}: "
                "they shift images in different ways"
            )

    def evaluation(self, distortion: Distortion | None = None) -> Augment:
        """What of it holds for test images too: the central crop; and how copies are distorted."""
        return Augment(center_crop=self.center_crop, distortion=distortion)

    def image_size(self, original: Size) -> Size:
        """Height and width of the images that a network gets."""
        if self.center_crop is None:
            return original
        allowed = f"at most the size {min(original)} of the images"
        require(self.center_crop <= min(original), "center_crop", self.center_crop, allowed)
        return self.center_crop, self.center_crop


def cut(
    images: Tensor, chosen: Tensor, size: Size, shift: Tensor, flip: Tensor
) -> tuple[Tensor, Tensor]:
    """A window of every chosen image, and which of its pixels lie within the image.

    A window is `size` high and wide, `shift` pixels from the image's centre, and mirrored where
    `flip` says so.

    Args:
        images: (N, H, W, C), contiguous.
        chosen: (n,) indices of images.
        size: (h, w) of the windows.
        shift: (n, 2) pixels down and to the right.
        flip: (n,) booleans.

    Returns:
        Windows (n, h, w, C) and a mask (n, h, w, 1).
    """
    _, height, width, channels = images.shape
    row = torch.arange(size[0], device=images.device)
    column = torch.arange(size[1], device=images.device)
    column = torch.where(flip[:, None], column.flip(0), column)  # (n, w)
    row = (height - size[0]) // 2 + shift[:, :1] + row  # (n, h)
    column = (width - size[1]) // 2 + shift[:, 1:] + column
    inside = _within(row, height)[:, :, None] & _within(column, width)[:, None, :]
    row, column = row.clamp(0, height - 1), column.clamp(0, width - 1)
    pixel = ((chosen[:, None] * height + row) * width)[:, :, None] + column[:, None, :]
    windows = images.view(-1, channels).index_select(0, pixel.flatten())
    return windows.view(*pixel.shape, channels), inside[..., None]


def _within(position: Tensor, length: int) -> Tensor:
    return (position >= 0) & (position < length)


def _at_least(value: int, least: int) -> bool:
    return is_whole(value) and value >= least
