"""Image files: reading them, and cutting a crop of a fixed size out of them."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurosim.data.augment import Crop
from neurosim.data.errors import DataError

if TYPE_CHECKING:
    import PIL.Image

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".ppm", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP")  # of those Pillow knows, some start programs
AREA, RATIO, ATTEMPTS = (0.08, 1.0), (3 / 4, 4 / 3), 10

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def read_image(source: Path | bytes, name: str) -> PIL.Image.Image:
    """The image of a file, or of a file's contents, in RGB; `name` is for the error."""
    import PIL.Image

    file = BytesIO(source) if isinstance(source, bytes) else source
    try:
        with PIL.Image.open(file, formats=FORMATS) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DataError(f"{name} cannot be read as an image: {_reason(error)}") from error


def crop_file(
    path: Path, size: int, resize: int, crop: Crop | None, flip: bool, random: np.random.Generator
) -> np.ndarray:
    """A crop (size, size, 3) of an image file, uint8.

    It is resampled from its box in the original image in one go: a window of `size` in an image
    whose shorter side is resized to `resize` is a window of size / resize of the original's.
    """
    import PIL.Image

    image = read_image(path, str(path))
    if crop == "random-resized":
        box = random_box(image.width, image.height, random)
    else:
        side = min(image.size) * size / resize
        across, down = (0.5, 0.5) if crop is None else random.random(2)
        left, top = (image.width - side) * across, (image.height - side) * down
        box = (left, top, left + side, top + side)
    pixels = np.asarray(image.resize((size, size), PIL.Image.Resampling.BILINEAR, box=box))
    return pixels[:, ::-1] if flip and random.random() < 0.5 else pixels


def random_box(width: int, height: int, random: np.random.Generator) -> Box:
    """A box of random area and aspect ratio at a random place, or the largest in the centre."""
    for _ in range(ATTEMPTS):
        area = width * height * random.uniform(*AREA)
        ratio = math.exp(random.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 1 <= across <= width and 1 <= down <= height:
            left = int(random.integers(width - across, endpoint=True))
            top = int(random.integers(height - down, endpoint=True))
            return left, top, left + across, top + down
    across, down = min(width, height * RATIO[1]), min(height, width / RATIO[0])
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
