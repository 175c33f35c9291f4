"""Stimuli as they are stored, and as a network sees them."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from neurosim.errors import InvalidArgument, require

Image = NDArray[np.uint8]  # (height, width, 1 or 3)

FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP", "TIFF", "GIF")
GREY = 128


class Stimuli(Protocol):
    """Images by their place in a fixed order, each with a name of its own."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The names."""
        ...

    @property
    def fingerprint(self) -> str:
        """Short text that differs between different stimuli."""
        ...

    def images(self, start: int, stop: int) -> list[Image]:
        """The images from `start` to before `stop`."""
        ...


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images of one size, in memory: uint8 (stimuli, height, width, 1 or 3)."""

    ids: tuple[str, ...]
    pixels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shape, kind = self.pixels.shape, self.pixels.dtype
        right = len(shape) == 4 and shape[3] in (1, 3) and kind == np.uint8
        allowed = "uint8 of shape (stimuli, height, width, 1 or 3)"
        require(right, "pixels", f"{kind} of shape {shape}", allowed)
        check_ids(self.ids, shape[0])

    @property
    def fingerprint(self) -> str:
        """Of names and pixels."""
        found = hashlib.sha256("\0".join(self.ids).encode())
        found.update(np.ascontiguousarray(self.pixels).data)
        return found.hexdigest()[:16]

    def images(self, start: int, stop: int) -> list[Image]:
        """The images from `start` to before `stop`."""
        return list(self.pixels[start:stop])


@dataclass(frozen=True)
class PictureFiles:
    """Image files in a folder or a zip archive, read when they are needed."""

    ids: tuple[str, ...]
    place: Path
    files: tuple[str, ...]

    def __post_init__(self) -> None:
        check_ids(self.ids, len(self.files))

    @property
    def fingerprint(self) -> str:
        """Of names, and of what tells a file from another without reading it."""
        if self.place.is_dir():
            found = [path.stat() for name in self.files if (path := self.place / name).is_file()]
            marks = [f"{about.st_size} {about.st_mtime_ns}" for about in found]
        else:
            marks = [f"{about.file_size} {about.CRC}" for about in self._listed()]
        texts = (*self.ids, *self.files, *marks)
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]

    def _listed(self) -> list[ZipInfo]:
        """What the archive says of the files."""
        with self._archive() as archive:
            known = {about.filename: about for about in archive.infolist()}
        return [known[name] for name in self.files if name in known]

    def _archive(self) -> ZipFile:
        try:
            return ZipFile(self.place)
        except (OSError, BadZipFile) as error:
            raise InvalidArgument(
                f"{self.place}: must be a folder or a zip archive of images ({error})"
            ) from error

    def images(self, start: int, stop: int) -> list[Image]:
        """The images from `start` to before `stop`."""
        names = self.files[start:stop]
        if self.place.is_dir():
            return [read_image(self.place / name, str(self.place / name)) for name in names]
        with self._archive() as archive:
            return [self._unpacked(archive, name) for name in names]

    def _unpacked(self, archive: ZipFile, name: str) -> Image:
        where = f"{name} in {self.place}"
        try:
            with archive.open(name) as file:
                return read_image(file, where)
        except KeyError as error:
            raise InvalidArgument(f"{where}: no such file in the archive") from error
        except (OSError, BadZipFile, zlib.error) as error:
            raise InvalidArgument(f"{where}: is damaged ({error})") from error


def read_image(source: object, name: str) -> Image:
    """An image file as RGB (height, width, 3); `name` is for the error."""
    import PIL.Image

    try:
        with PIL.Image.open(source, formats=FORMATS) as image:  # type: ignore[arg-type]
            return np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise InvalidArgument(f"{name} cannot be read as an image: {error}") from error


def check_ids(ids: Sequence[str], stimuli: int) -> None:
    """As many names as stimuli, all different."""
    if len(ids) != stimuli:
        raise InvalidArgument(f"ids must be one per stimulus ({stimuli}), got {len(ids)}")
    if len(set(ids)) != len(ids):
        twice = next(name for name in ids if list(ids).count(name) > 1)
        raise InvalidArgument(f"ids must differ, but {twice!r} occurs more than once")


@dataclass(frozen=True)
class View:
    """How a network sees an image: resized, with its channels, less a mean, over a deviation."""

    size: tuple[int, int] | None = None
    """Height and width (default: as the stimuli are, which then must be of one size)."""
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    """Of every channel, for images in [0, 1]; as many as the network has input channels."""
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Of every channel, for images in [0, 1]."""
    degrees: float | None = None
    """Width of the network's field of view, for stimuli whose width in degrees is known."""

    def __post_init__(self) -> None:
        channels = len(self.mean)
        require(channels in (1, 3), "mean", self.mean, "1 or 3 values")
        require(len(self.std) == channels, "std", self.std, f"{channels} values, as mean has")
        require(all(value > 0 for value in self.std), "std", self.std, "> 0")

    def __call__(self, images: Sequence[Image], degrees: float | None = None) -> Tensor:
        """(stimuli, channels, height, width); `degrees` is how wide the images were shown."""
        seen = [self._channels(self._on_screen(image, degrees)) for image in images]
        if self.size is not None:
            seen = [_resized(image, self.size) for image in seen]
        sizes = {tuple(image.shape[-2:]) for image in seen}
        if len(sizes) > 1:
            raise InvalidArgument(f"stimuli have different sizes ({sizes}): give the view a size")
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (torch.stack(seen) - mean) / std

    def _channels(self, image: Image) -> Tensor:
        """(channels of the network, height, width) in [0, 1]."""
        x = torch.tensor(image).permute(2, 0, 1).float() / 255
        if len(self.mean) == len(x):
            return x
        if len(x) == 1:
            return x.expand(3, -1, -1)
        weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)  # ITU-R BT.601's luma
        return (x * weights).sum(0, keepdim=True)

    def _on_screen(self, image: Image, degrees: float | None) -> Image:
        """The image in the network's field of view, as Brain-Score places it on the screen.

        In the middle of a grey screen if the field is wider than the image, else its middle.
        """
        if self.degrees is None or degrees is None or self.degrees == degrees:
            return image
        old = np.array(image.shape[:2])
        new = np.round(old * (self.degrees / degrees)).astype(int)
        corner = np.round(np.abs(new - old) / 2).astype(int)
        (top, left), (height, width) = corner, np.minimum(old, new)
        if (new < old).any():
            return image[top : top + height, left : left + width]
        screen = np.full((*new, image.shape[2]), GREY, np.uint8)
        screen[top : top + height, left : left + width] = image
        return screen


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, without aliasing."""
    if tuple(image.shape[-2:]) == size:
        return image
    return interpolate(image[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
