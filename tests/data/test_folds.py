"""Contiguous folds of all images, as scikit-learn cuts them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold

from neurosim.data import Dataset, Files, Images
from neurosim.errors import InvalidArgument


def numbered(train: int, test: int) -> Dataset:
    """Images whose first two pixels tell their number in the pool."""

    def part(start: int, stop: int) -> Images:
        number = torch.arange(start, stop)
        pixels = torch.stack([number // 256, number % 256], -1).to(torch.uint8)
        return Images(pixels.view(-1, 1, 2, 1), number % 3)

    return Dataset("numbered", part(0, train), part(train, train + test), ("a", "b", "c"))


def numbers(images: Images) -> np.ndarray:
    pixels = images.images.long().flatten(1)
    return (256 * pixels[:, 0] + pixels[:, 1]).numpy()


@pytest.mark.parametrize(("train", "test", "folds"), [(600, 100, 5), (31, 7, 4), (5, 6, 11)])
def test_folds_are_those_of_kfold(train: int, test: int, folds: int) -> None:
    data = numbered(train, test)
    expected = KFold(folds).split(np.arange(train + test))
    for fold, (kept, held_out) in enumerate(expected):
        cut = data.fold(fold, folds)
        np.testing.assert_array_equal(numbers(cut.train), kept)
        np.testing.assert_array_equal(numbers(cut.test), held_out)
        np.testing.assert_array_equal(cut.test.labels, held_out % 3)


def test_files_are_pooled_too() -> None:
    def part(names: str) -> Files:
        return Files(Path("here"), tuple(names), torch.zeros(len(names), dtype=torch.int64), 8, 8)

    data = Dataset("files", part("abcd"), part("ef"), ("one",))
    cut = data.fold(1, 3)
    assert isinstance(cut.test, Files)
    assert isinstance(cut.train, Files)
    assert cut.test.names == ("c", "d")
    assert cut.train.names == ("a", "b", "e", "f")
    other = Files(Path("there"), ("g",), torch.zeros(1, dtype=torch.int64), 8, 8)
    with pytest.raises(InvalidArgument, match="below one folder"):
        Dataset("files", part("abcd"), other, ("one",)).fold(0, 2)


@pytest.mark.parametrize(
    ("fold", "folds", "message"),
    [(0, 1, "folds must be 2 to 12"), (0, 13, "folds must be 2 to 12"), (5, 5, "0 to 4"),
     (-1, 5, "0 to 4"), (0.5, 5, "fold must be 0 to 4")],
)  # fmt: skip
def test_bad_folds(fold: int, folds: int, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        numbered(9, 3).fold(fold, folds)
