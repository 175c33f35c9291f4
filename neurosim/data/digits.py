"""The built-in data: 1,797 handwritten digits of 8x8 pixels, as they are or moved about.

E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository, doi:10.24432/C50P49, licensed under CC BY 4.0: its test set, 17 levels of grey, in
the order that scikit-learn has it in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurosim.data.formats import as_images
from neurosim.data.images import Dataset, is_whole
from neurosim.data.random import generator
from neurosim.errors import require

FILE = Path(__file__).with_name("digits.npz")
SIDE, LEVELS = 8, 16


def digits(name: str, canvas: int, train: int, seed: int) -> Dataset:
    """Digits at fixed random places of a `canvas`, `train` of them drawn to train with."""
    require(is_whole(canvas) and canvas >= SIDE, "canvas", canvas, f"a whole number >= {SIDE}")
    with np.load(FILE, allow_pickle=False) as file:
        values, labels = file["images"].astype(np.int64), file["labels"]
    count = len(labels)
    require(is_whole(train) and 1 <= train < count, "train", train, f"1 to {count - 1} images")
    random = generator("digits", seed)
    order = random.permutation(count)
    top, left = random.integers(canvas - SIDE, size=(2, count, 1, 1), endpoint=True)
    row, column = top + np.arange(SIDE)[:, None], left + np.arange(SIDE)
    images = np.zeros((count, canvas, canvas), np.uint8)
    images[np.arange(count)[:, None, None], row, column] = (values * 255 + LEVELS // 2) // LEVELS
    everything = as_images(images, labels, name)
    class_names = tuple(map(str, range(10)))
    return Dataset(
        name, everything.subset(order[:train]), everything.subset(order[train:]), class_names
    )
