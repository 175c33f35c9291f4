"""Moving whole images by an affine map: a batch at once, on whatever device it is."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

Order = Literal[0, 1]

MODES = {0: "nearest", 1: "bilinear"}


def warp(images: Tensor, matrix: Tensor, shift: Tensor, order: Order) -> Tensor:
    """Images (n, H, W, C) whose pixel p (row, column) is the original's at A (p - c) + c + s.

    c is the centre of the image. Points between pixels are interpolated (order 1) or rounded to
    the nearest (order 0), and points outside take the nearest pixel of the border, as in
    `scipy.ndimage.affine_transform` with mode "nearest".

    Args:
        images: (n, H, W, C).
        matrix: (n, 2, 2) or (2, 2), the A of every image.
        shift: (n, 2) or (2,), the s in pixels.
        order: of interpolation.
    """
    count, height, width, _ = images.shape
    half = images.new_tensor([(height - 1) / 2, (width - 1) / 2])
    row = torch.arange(height, device=images.device) - half[0]
    column = torch.arange(width, device=images.device) - half[1]
    from_row = matrix[..., :, 0, None, None] * row[:, None]  # (n or none, 2, H, 1)
    from_column = matrix[..., :, 1, None, None] * column  # (n or none, 2, 1, W)
    source = from_row + from_column + shift[..., None, None]  # from the centre
    source = source / half.clamp_min(0.5)[:, None, None]  # borders lie at -1 and 1
    grid = source.flip(-3).movedim(-3, -1).expand(count, height, width, 2)  # (x, y)
    moved = grid_sample(
        images.movedim(-1, 1), grid, MODES[order], padding_mode="border", align_corners=True
    )
    return moved.movedim(1, -1)
