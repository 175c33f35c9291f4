"""What a data set is: two splits of labelled images, in memory or in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neurosim.data.random import generator
from neurosim.errors import InvalidArgument, require

Size = tuple[int, int]
PerChannel = tuple[float, ...]
Which = int | Sequence[int] | np.ndarray | Tensor

# Mean and standard deviation that the papers use for ImageNet and for TinyImageNet.
IMAGENET_NORMALISATION = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, eq=False)
class Images:
    """One split held in memory: uint8 images (N, H, W, C) and int64 labels (N,)."""

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        form = images.dtype == torch.uint8 and images.ndim == 4
        got = f"{images.dtype} of shape {tuple(images.shape)}"
        require(form, "images", got, "uint8 of shape (N, H, W, C)")
        form = labels.dtype == torch.int64 and labels.shape == images.shape[:1]
        got = f"{labels.dtype} of shape {tuple(labels.shape)}"
        require(form, "labels", got, f"int64 of shape {tuple(images.shape[:1])}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_size(self) -> Size:
        """Height and width."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def channels(self) -> int:
        """Number of colour channels."""
        return self.images.shape[3]

    def subset(self, which: Which) -> Images:
        """The first `which` images, or those of the given indices in their order."""
        chosen = _indices(which, len(self)).to(self.labels.device)
        return Images(self.images[chosen], self.labels[chosen])

    def joined(self, other: Split) -> Images:
        """These images and then the others."""
        if not isinstance(other, Images):
            raise InvalidArgument("both splits must be in memory, or both in files")
        labels = torch.cat([self.labels, other.labels])
        return Images(torch.cat([self.images, other.images]), labels)

    def to(self, device: torch.device | str) -> Images:
        """The same images on `device`."""
        return Images(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Files:
    """One split as image files, decoded whenever they are needed.

    A training crop and the central one are `size` pixels wide and high, after the image has been
    resized so that its shorter side is `resize`.
    """

    folder: Path
    names: tuple[str, ...]
    labels: Tensor
    size: int = 224
    resize: int = 256

    def __post_init__(self) -> None:
        require(is_whole(self.size) and self.size >= 1, "size", self.size, "a whole number >= 1")
        allowed = f"a whole number >= size = {self.size}"
        require(is_whole(self.resize) and self.resize >= self.size, "resize", self.resize, allowed)
        form = self.labels.dtype == torch.int64 and self.labels.shape == (len(self.names),)
        got = f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
        require(form, "labels", got, f"int64 of shape ({len(self.names)},)")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def image_size(self) -> Size:
        """Height and width of a crop."""
        return self.size, self.size

    @property
    def channels(self) -> int:
        """Number of colour channels."""
        return 3

    def path(self, index: int) -> Path:
        """The file of one image."""
        return self.folder / self.names[index]

    def subset(self, which: Which) -> Files:
        """The first `which` images, or those of the given indices in their order."""
        chosen = _indices(which, len(self))
        names = tuple(self.names[index] for index in chosen.tolist())
        return replace(self, names=names, labels=self.labels[chosen])

    def joined(self, other: Split) -> Files:
        """These images and then the others."""
        if not isinstance(other, Files) or other.folder != self.folder:
            raise InvalidArgument("both splits must be files below one folder, or both in memory")
        labels = torch.cat([self.labels, other.labels])
        return replace(self, names=self.names + other.names, labels=labels)


Split = Images | Files


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images to train with and images to test with.

    `normalisation` is a mean and a standard deviation per channel of images in [0, 1]; without
    it they are those of the training images. Some sets have an official `validation` part; and
    where `split` has put a validation part into the place of `test`, `final` are the test images.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    normalisation: tuple[PerChannel, PerChannel] | None = None
    validation: Split | None = None
    final: Split | None = None

    def __post_init__(self) -> None:
        for split in (self.train, self.test):
            require(len(split) >= 1, f"images of {self.name}", len(split), "at least one")
            allowed = f"0 to {self.classes - 1}, as there are {self.classes} class names"
            low, high = int(split.labels.min()), int(split.labels.max())
            fits = low >= 0 and high < self.classes
            require(fits, f"labels of {self.name}", f"{low} to {high}", allowed)
        shapes = [(*split.image_size, split.channels) for split in (self.train, self.test)]
        name = f"test images of {self.name}"
        require(shapes[0] == shapes[1], name, shapes[1], f"like the training images {shapes[0]}")

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Number of colour channels."""
        return self.train.channels

    @property
    def image_size(self) -> Size:
        """Height and width."""
        return self.train.image_size

    @property
    def mean(self) -> PerChannel:
        """Mean of every channel, for images in [0, 1]."""
        return self._normalisation[0]

    @property
    def std(self) -> PerChannel:
        """Standard deviation of every channel, for images in [0, 1]."""
        return self._normalisation[1]

    @cached_property
    def _normalisation(self) -> tuple[PerChannel, PerChannel]:
        if self.normalisation is not None:
            return self.normalisation
        if isinstance(self.train, Files):
            return IMAGENET_NORMALISATION
        return mean_and_std(self.train.images)

    def split(self, validation: int, seed: int = 0) -> Dataset:
        """Training images split at random: the test part becomes `validation` of them.

        Not stratified, like the 45k/5k and 90k/10k of Pogodin et al. 2021 (Sec. 5). An official
        validation part of that size is taken instead, and no training image is lost.
        """
        official = self.validation
        if official is not None and len(official) == validation:
            return replace(self, test=official, validation=None, final=self.test)
        count = len(self.train)
        fits = is_whole(validation) and 1 <= validation < count
        require(fits, "validation", validation, f"1 to {count - 1} training images")
        order = generator("split", seed).permutation(count)
        train, test = np.sort(order[validation:]), np.sort(order[:validation])
        train, test = self.train.subset(train), self.train.subset(test)
        return replace(self, train=train, test=test, final=self.test)

    @property
    def splits(self) -> dict[str, Split]:
        """All parts by name, as the official test images are not always those tested with."""
        if self.final is None:
            return {"train": self.train, "test": self.test}
        return {"train": self.train, "validation": self.test, "test": self.final}

    def fold(self, fold: int, folds: int) -> Dataset:
        """One of `folds` contiguous parts of all images, training images first, is held out.

        As in Ott et al. 2020, whose five folds are in the order of the official files.
        """
        count = len(self.train) + len(self.test)
        fits = is_whole(folds) and 2 <= folds <= count
        require(fits, "folds", folds, f"2 to {count}, the number of images")
        fits = is_whole(fold) and 0 <= fold < folds
        require(fits, "fold", fold, f"0 to {folds - 1}, as there are {folds} folds")
        # The first count % folds of them have one image more than the others.
        start, stop = (f * (count // folds) + min(f, count % folds) for f in (fold, fold + 1))
        pooled, everything = self.train.joined(self.test), np.arange(count)
        held_out = (everything >= start) & (everything < stop)
        train, test = everything[~held_out], everything[held_out]
        return replace(self, train=pooled.subset(train), test=pooled.subset(test))

    def subset(self, count: int, seed: int | None = 0) -> Dataset:
        """`count` training images, as equally many of every class as there are; None: the first."""
        available = len(self.train)
        fits = is_whole(count) and 1 <= count <= available
        require(fits, "count", count, f"1 to {available} training images")
        labels = self.train.labels.cpu().numpy()
        order = np.arange(available)
        if seed is not None:
            order = generator("subset", seed).permutation(available)
        # Every class gives its first image, then its second, and so on until there are enough.
        turn = np.empty(available, dtype=np.int64)
        for label in range(self.classes):
            members = order[labels[order] == label]
            turn[members] = np.arange(len(members))
        chosen = order[np.argsort(turn[order], kind="stable")][:count]
        return replace(self, train=self.train.subset(np.sort(chosen)))


def mean_and_std(images: Tensor) -> tuple[PerChannel, PerChannel]:
    """Mean and standard deviation of every channel of uint8 images (N, H, W, C), in [0, 1]."""
    level = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(-1):
        counts = torch.bincount(channel.flatten(), minlength=256).cpu().double()
        share = counts / counts.sum()
        mean = share @ level
        means.append(float(mean))
        stds.append(float((share @ (level - mean) ** 2).sqrt()))
    return tuple(means), tuple(stds)


def is_whole(value: object) -> bool:
    """True for whole numbers, which True and False are not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _indices(which: Which, available: int) -> Tensor:
    """Indices of the chosen images."""
    if isinstance(which, int | np.integer):
        require(1 <= which <= available, "which", which, f"1 to {available} images")
        return torch.arange(int(which))
    indices = torch.as_tensor(which, device="cpu")
    if indices.dtype.is_floating_point or indices.dtype == torch.bool or indices.ndim != 1:
        raise InvalidArgument(f"which must be a count or a list of indices, got {which!r}")
    inside = len(indices) == 0 or (indices.min() >= 0 and indices.max() < available)
    require(inside, "which", which, f"indices from 0 to {available - 1}")
    return indices.long()
