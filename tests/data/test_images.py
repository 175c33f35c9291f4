"""Splits, subsets and statistics of data sets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neurosim.data import Dataset, Files, Images
from neurosim.data.images import IMAGENET_NORMALISATION
from neurosim.errors import InvalidArgument


def numbered(labels: list[int] | Tensor, channels: int = 1) -> Images:
    """Images whose first two pixels spell their number."""
    labels = torch.as_tensor(labels)
    images = torch.randint(256, (len(labels), 3, 4, channels), dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(len(labels)) // 256
    images[:, 0, 1, 0] = torch.arange(len(labels)) % 256
    return Images(images, labels)


def numbers(images: Images) -> list[int]:
    return (images.images[:, 0, 0, 0].int() * 256 + images.images[:, 0, 1, 0]).tolist()


def dataset(labels: list[int], classes: int = 10) -> Dataset:
    names = tuple(map(str, range(classes)))
    return Dataset("numbered", numbered(labels), numbered([0, 1]), names)


def test_mean_and_std_are_those_of_the_training_images() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 200, (50, 7, 5, 3)).astype(np.uint8) // np.array(
        [1, 2, 3], np.uint8
    )
    train = Images(torch.from_numpy(pixels), torch.zeros(50, dtype=torch.int64))
    data = Dataset("random", train, train.subset(2), ("one",))
    np.testing.assert_allclose(data.mean, (pixels / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, (pixels / 255).std((0, 1, 2)), rtol=1e-12)
    assert (data.image_size, data.channels, data.classes) == ((7, 5), 3, 1)
    given_ones = Dataset("random", train, train, ("one",), ((0.1,) * 3, (0.2,) * 3))
    assert (given_ones.mean, given_ones.std) == ((0.1,) * 3, (0.2,) * 3)


def test_split_takes_its_validation_images_from_the_training_images() -> None:
    whole = dataset([number % 10 for number in range(1000)])
    parts = whole.split(100, seed=3)
    train, validation = numbers(parts.train), numbers(parts.test)  # type: ignore[arg-type]
    assert (len(train), len(validation)) == (900, 100)
    assert sorted(train + validation) == list(range(1000))
    assert train == sorted(train)
    again, other = whole.split(100, seed=3), whole.split(100, seed=4)
    assert numbers(again.test) == validation != numbers(other.test)  # type: ignore[arg-type]
    assert parts.mean != whole.mean  # of the images that are left to train with
    labels = Counter(parts.test.labels.tolist())
    assert set(labels.values()) != {10}  # at random, not stratified, as published


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.data(),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_subset_is_as_balanced_as_its_classes_allow(
    labels: list[int], draw: st.DataObject, seed: int | None
) -> None:
    count = draw.draw(st.integers(1, len(labels)))
    subset = dataset([*labels], 5).subset(count, seed)
    chosen = numbers(subset.train)  # type: ignore[arg-type]
    assert len(set(chosen)) == count
    assert [labels[number] for number in chosen] == subset.train.labels.tolist()
    available, taken = Counter(labels), Counter(labels[number] for number in chosen)
    for label in available:  # whoever has fewer than another, has given all it has
        poorer = taken[label] < max(taken.values()) - 1
        assert not poorer or taken[label] == available[label]
    if seed is None:  # of every class its first ones
        for label in available:
            members = [number for number in range(len(labels)) if labels[number] == label]
            assert [n for n in chosen if labels[n] == label] == members[: taken[label]]


def test_subsets_differ_by_seed_and_contain_smaller_ones() -> None:
    whole = dataset([number % 10 for number in range(1000)])
    chosen = {
        (count, seed): set(numbers(whole.subset(count, seed).train))  # type: ignore[arg-type]
        for count in (50, 200)
        for seed in (0, 1)
    }
    assert chosen[50, 0] < chosen[200, 0]
    assert chosen[50, 0] != chosen[50, 1]


def test_images_by_count_and_by_indices() -> None:
    images = numbered(torch.arange(10))
    assert numbers(images.subset(3)) == [0, 1, 2]
    assert numbers(images.subset([7, 2])) == [7, 2]
    assert numbers(images.subset(np.array([9]))) == [9]
    assert numbers(images.subset(torch.tensor([4, 4]))) == [4, 4]
    assert images.subset([7, 2]).labels.tolist() == [7, 2]
    files = Files(Path("x"), tuple("abc"), torch.tensor([3, 4, 5]), 8, 9)
    part = files.subset([2, 0])
    assert (part.names, part.labels.tolist(), part.size, part.resize) == (("c", "a"), [5, 3], 8, 9)
    assert part.path(1) == Path("x/a")


def test_files_are_normalised_like_imagenet() -> None:
    files = Files(Path(), ("a", "b"), torch.tensor([0, 0]))
    data = Dataset("files", files, files, ("one",))
    assert (data.mean, data.std) == IMAGENET_NORMALISATION
    assert data.image_size == (224, 224)
    assert data.split(1).train.image_size == (224, 224)


def test_what_is_not_allowed() -> None:
    images = numbered([0, 1, 1])
    with pytest.raises(InvalidArgument, match=r"images must be uint8 of shape \(N, H, W, C\)"):
        Images(images.images.float(), images.labels)
    with pytest.raises(InvalidArgument, match=r"labels must be int64 of shape \(3,\)"):
        Images(images.images, images.labels[:2])
    with pytest.raises(InvalidArgument, match=r"labels of x must be 0 to 0, .* got '0 to 1'"):
        Dataset("x", images, images, ("one",))
    with pytest.raises(InvalidArgument, match=r"test images of x .* like .* \(3, 4, 1\)"):
        Dataset("x", images, numbered([0], 3), ("a", "b"))
    with pytest.raises(InvalidArgument, match="validation must be 1 to 2 training images, got 3"):
        Dataset("x", images, images, ("a", "b")).split(3)
    with pytest.raises(InvalidArgument, match="count must be 1 to 3 training images, got 0"):
        Dataset("x", images, images, ("a", "b")).subset(0)
    with pytest.raises(InvalidArgument, match="seed must be a whole number >= 0, got -1"):
        Dataset("x", images, images, ("a", "b")).split(1, seed=-1)
    with pytest.raises(InvalidArgument, match="which must be indices from 0 to 2"):
        images.subset([3])
    with pytest.raises(InvalidArgument, match="which must be 1 to 3 images, got 4"):
        images.subset(4)
    with pytest.raises(InvalidArgument, match="resize must be a whole number >= size = 224"):
        Files(Path(), ("a",), torch.tensor([0]), resize=200)
