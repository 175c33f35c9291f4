"""The size of images, as the networks take it."""

from __future__ import annotations

from collections.abc import Sequence

from neurosim.errors import require


def image_size(input_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width, from both or from one number for both."""
    size = (input_size,) * 2 if isinstance(input_size, int) else tuple(input_size)
    valid = len(size) == 2 and all(isinstance(side, int) and side >= 1 for side in size)
    require(valid, "input_size", input_size, "a whole number >= 1 or two of them")
    height, width = size
    return height, width
