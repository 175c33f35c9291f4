"""The forms in which labelled images are published, from their contents to arrays."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from neurosim.data.errors import DataError
from neurosim.data.images import Images
from neurosim.data.unpickle import read_pickle

Contents = Mapping[str, bytes]
Parsed = tuple[Images, Images, tuple[str, ...]]  # to train with, to test with, class names


def as_images(images: Any, labels: Any, name: str) -> Images:
    """Arrays (N, H, W[, C]) and (N,) or (N, 1) as a split; `name` is for errors."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        got = f"{images.dtype} of shape {images.shape}"
        raise DataError(
            f"images of {name} must be uint8 of shape (N, H, W) or (N, H, W, C), got {got}"
        )
    if labels.dtype.kind not in "iu" or labels.size != len(images):
        got = f"{labels.dtype} of shape {labels.shape}"
        raise DataError(f"labels of {name} must be {len(images)} whole numbers, got {got}")
    images = images if images.ndim == 4 else images[..., None]
    pixels = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    return Images(pixels, torch.from_numpy(labels.reshape(-1).astype(np.int64)))


def parse_idx(data: bytes, name: str) -> np.ndarray:
    """An idx file of bytes: 0, 0, type 8, number of axes, their lengths (big-endian), values."""
    axes = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    header = 4 + 4 * axes
    if axes == 0 or len(data) < header:
        raise DataError(f"{name} is not an idx file of bytes")
    shape = tuple(np.frombuffer(data, ">i4", axes, 4).tolist())
    if len(data) - header != math.prod(shape):
        got = f"{len(data) - header} bytes of values"
        raise DataError(f"{name} must hold {shape} values, got {got}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def parse_mnist(files: Contents, class_names: tuple[str, ...]) -> Parsed:
    """MNIST and Fashion-MNIST: four idx files."""

    def split(part: str) -> Images:
        images, labels = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        return as_images(parse_idx(files[images], images), parse_idx(files[labels], labels), part)

    return split("train"), split("t10k"), class_names


def parse_cifar(files: Contents, labels: str, names: str) -> Parsed:
    """CIFAR-10 and CIFAR-100: batches of images (N, 3 * 32 * 32), red first, and class names.

    `labels` and `names` are the keys of the batches' labels and of the class names.
    """
    content = {Path(path).name: read_pickle(data, path) for path, data in files.items()}
    meta = next(batch for name, batch in content.items() if name.endswith("meta"))
    test = [batch for name, batch in content.items() if name.startswith("test")]
    train = [batch for name, batch in content.items() if name.startswith(("data", "train"))]
    class_names = tuple(name.decode() for name in meta[names])
    return _cifar_split(train, labels), _cifar_split(test, labels), class_names


def _cifar_split(batches: Sequence[Mapping[str, Any]], labels: str) -> Images:
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return as_images(
        images.transpose(0, 2, 3, 1), np.concatenate([batch[labels] for batch in batches]), "CIFAR"
    )


def parse_svhn(files: Contents, class_names: tuple[str, ...]) -> Parsed:
    """SVHN's cropped digits: MATLAB files of images (32, 32, 3, N), the label 10 standing for 0."""
    from scipy.io import loadmat

    def split(name: str) -> Images:
        content = loadmat(BytesIO(files[name]))
        return as_images(content["X"].transpose(3, 0, 1, 2), content["y"] % 10, name)

    return split("train_32x32.mat"), split("test_32x32.mat"), class_names


def read_npz(path: Path) -> Parsed:
    """An .npz file of x_train, y_train, x_test, y_test and, if it likes, class_names."""
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (BadZipFile, ValueError, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not an .npz file of plain arrays: {reason}") from error
    missing = [n for n in ("x_train", "y_train", "x_test", "y_test") if n not in content]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}, only {', '.join(sorted(content))}")
    train, test = (
        as_images(content[f"x_{part}"], content[f"y_{part}"], f"{part} in {path}")
        for part in ("train", "test")
    )
    labels = (str(label) for label in range(int(train.labels.max()) + 1))
    return train, test, tuple(map(str, content.get("class_names", labels)))
