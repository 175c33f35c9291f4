"""Official files are read as published, and one sentence says what is wrong with others."""

from __future__ import annotations

import gzip
import io
import os
import struct
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_files import (
    Files,
    Register,
    check,
    cifar10_files,
    cifar100_files,
    md5,
    mnist_files,
    put,
    random_images,
    tar_gz,
    tiny_files,
    zipped,
)
from scipy.io import savemat

from neurosim.data import DATASETS, DataError, Images, data_folder, load
from neurosim.data.catalogue import SOURCES, TinyImageNet
from neurosim.errors import InvalidArgument


def test_known_names() -> None:
    assert set(DATASETS) == {
        *("digits", "digits-translated", "mnist", "fashion-mnist", "cifar10", "cifar100"),
        *("svhn", "tinyimagenet", "imagenet", "celeba"),
    }


def test_digits_are_those_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.datasets")
    expected = sklearn.load_digits()
    data = load("digits")
    assert (len(data.train), len(data.test), data.classes) == (1200, 597, 10)
    levels = torch.cat([data.train.images, data.test.images])[..., 0].double() / 255 * 16  # type: ignore
    assert (levels - levels.round()).abs().max() < 0.04
    found = Counter(
        (bytes(image.flatten().tolist()), label)
        for image, label in zip(
            levels.round().int().numpy().astype(np.uint8),
            [*data.train.labels.tolist(), *data.test.labels.tolist()],
            strict=True,
        )
    )
    assert found == Counter(
        (bytes(image.astype(np.uint8).flatten().tolist()), int(label))
        for image, label in zip(expected.images, expected.target, strict=True)
    )


def test_translated_digits_lie_at_fixed_places_all_over_their_canvas() -> None:
    data = load("digits-translated")
    assert (len(data.train), len(data.test), data.image_size) == (600, 1197, (16, 16))
    plain, moved = load("digits", train=600, seed=7), load("digits-translated", seed=7)
    assert isinstance(plain.train, Images)
    assert isinstance(moved.train, Images)
    places = Counter()
    for image, digit in zip(moved.train.images[..., 0], plain.train.images[..., 0], strict=True):
        assert image.sum() == digit.sum()
        windows = image.unfold(0, 8, 1).unfold(1, 8, 1)
        top, left = torch.nonzero((windows == digit).all(-1).all(-1))[0].tolist()
        places[top, left] += 1
    assert len(places) > 75  # of 81
    assert moved.train.labels.tolist() == plain.train.labels.tolist()
    again, other = load("digits-translated", seed=7), load("digits-translated", seed=8)
    assert torch.equal(again.train.images, moved.train.images)  # type: ignore[union-attr]
    assert not torch.equal(other.train.images, moved.train.images)  # type: ignore[union-attr]
    large = load("digits-translated", canvas=24, train=1000)
    assert (large.image_size, len(large.train)) == ((24, 24), 1000)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("where", [".", "{name}", "{torchvision}/raw"])
@pytest.mark.parametrize("packed", ["all", "none", "some"])
def test_idx_files(tmp_path: Path, register: Register, name: str, where: str, packed: str) -> None:
    plain, arrays = mnist_files()
    compressed = {f"{name}.gz": gzip.compress(data) for name, data in plain.items()}
    register(name, compressed, plain)
    kept = {"all": compressed, "none": plain}.get(packed) or {
        file: data
        for file, data in (plain | compressed).items()
        if ("train" in file) != file.endswith(".gz")
    }
    torchvision = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
    put(tmp_path / where.format(name=name, torchvision=torchvision), kept)
    data = load(name, tmp_path, download=False)
    assert data.class_names[0] == {"mnist": "0", "fashion-mnist": "T-shirt/top"}[name]
    images = np.concatenate([arrays["train-images-idx3-ubyte"], arrays["t10k-images-idx3-ubyte"]])
    check(data, images[..., None], [*range(10), 0, 1, *range(7)], 12)
    assert (data.classes, data.channels, data.image_size) == (10, 1, (28, 28))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("name", "writer", "archive", "train"),
    [
        ("cifar10", cifar10_files, "cifar-10-python.tar.gz", 15),
        ("cifar100", cifar100_files, "cifar-100-python.tar.gz", 6),
    ],
)
def test_cifar(
    tmp_path: Path,
    register: Register,
    name: str,
    writer: Callable[[], tuple[Files, np.ndarray, list[int]]],
    archive: str,
    train: int,
    packed: bool,
) -> None:
    files, images, labels = writer()
    published = {archive: tar_gz(files)}
    register(name, published, files)
    put(tmp_path, published if packed else files)
    data = load(name, tmp_path, download=False)
    check(data, images, labels, train)
    assert data.class_names[3] == {"cifar10": "c3", "cifar100": "fine3"}[name]
    assert (data.classes, data.channels, data.image_size) == (len(data.class_names), 3, (32, 32))


def test_svhn(tmp_path: Path, register: Register) -> None:
    images, labels = random_images(14, 32, 32, 3), [*range(10), 3, 0, 1, 2]
    files = {}
    for name, part in {"train_32x32.mat": slice(0, 11), "test_32x32.mat": slice(11, 14)}.items():
        file = io.BytesIO()
        y = np.array([label or 10 for label in labels[part]], np.uint8)[:, None]
        savemat(file, {"X": images[part].transpose(1, 2, 3, 0), "y": y})
        files[name] = file.getvalue()
    register("svhn", files, {})
    put(tmp_path / "svhn", files)
    check(load("svhn", tmp_path, download=False), images, labels, 11)


@pytest.mark.parametrize("form", ["archive", "folder", "its own folder"])
def test_tiny_imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    source, files = SOURCES["tinyimagenet"], tiny_files()
    assert isinstance(source, TinyImageNet)
    archive = {"tiny-imagenet-200.zip": zipped(files)}
    file = replace(source.file, md5=md5(*archive.values()))
    monkeypatch.setitem(SOURCES, "tinyimagenet", TinyImageNet(file, (4, 2)))
    put(tmp_path, archive if form == "archive" else files)
    place = tmp_path / "tiny-imagenet-200" if form == "its own folder" else tmp_path
    data = load("tinyimagenet", place, download=False)
    assert data.class_names == ("n01", "n02")
    assert (data.image_size, data.channels) == ((64, 64), 3)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    assert data.test.labels.tolist() == [1, 0]
    assert isinstance(data.train, Images)
    assert isinstance(data.test, Images)
    red = data.train.images[:, 5, 5, 0].int()
    assert (red - torch.tensor([40, 120, 0, 80])).abs().max() <= 2
    assert (data.test.images[1, 5, 5].int() - 160).abs().max() <= 2  # grey became colour
    assert data.mean == (0.485, 0.456, 0.406)  # as the paper normalises it
    if form != "archive":
        next((tmp_path / "tiny-imagenet-200/train/n01/images").iterdir()).unlink()
        with pytest.raises(DataError, match="must hold 4 training and 2 validation images"):
            load("tinyimagenet", place, download=False)


def test_arrays(tmp_path: Path) -> None:
    images = random_images(9, 5, 4)
    arrays = {"x_train": images[:6], "y_train": np.arange(6) % 3}
    arrays |= {"x_test": images[6:], "y_test": np.arange(3)[:, None]}  # labels as Keras has them
    np.savez(tmp_path / "mine.npz", **arrays)
    data = load(str(tmp_path / "mine.npz"))
    check(data, images[..., None], [0, 1, 2, 0, 1, 2, 0, 1, 2], 6)
    assert (data.name, data.class_names) == ("mine", ("0", "1", "2"))
    assert load("mine.npz", tmp_path).class_names == ("0", "1", "2")
    np.savez_compressed(tmp_path / "cifar10.npz", **arrays, class_names=np.array(["a", "b", "c"]))
    assert load("cifar10", tmp_path, download=False).class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": None}, "has no y_test, only x_test, x_train, y_train"),
        ({"x_train": np.zeros((4, 2, 2))}, "images of train in .* must be uint8 .* got float64"),
        ({"y_train": np.zeros(3, int)}, "labels of train in .* must be 4 whole numbers, got"),
        ({"y_train": np.zeros(4)}, "labels of train in .* must be 4 whole numbers, got float64"),
        ({"y_test": np.array([object()])}, "is not an .npz file of plain arrays"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, change: Files, message: str) -> None:
    arrays: dict[str, Any] = {"x_train": np.zeros((4, 2, 2), np.uint8), "y_train": np.zeros(4, int)}
    arrays |= {"x_test": np.zeros((1, 2, 2), np.uint8), "y_test": np.zeros(1, int)} | change
    kept = {name: array for name, array in arrays.items() if array is not None}
    np.savez(tmp_path / "x.npz", allow_pickle=True, **kept)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "x.npz"))


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"PK\3\4 and then nothing of it")
    with pytest.raises(DataError, match=r"x.npz is not an .npz file of plain arrays"):
        load(str(tmp_path / "x.npz"))


@pytest.mark.parametrize("place", [70, 100, 200, 400])
def test_a_damaged_npz_is_refused(tmp_path: Path, place: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    arrays = {f"{name}_{part}": values for part in ("train", "test")
              for name, values in (("x", pixels), ("y", np.arange(20) % 3))}  # fmt: skip
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[place] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x.npz is not an .npz file of plain arrays"):
        load("x.npz", tmp_path)


# When they are missing or not what they should be


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load("cifar10", tmp_path, download=False)
    message = str(error.value)
    assert "\n" not in message
    assert f"cifar-10-python.tar.gz is missing, it was looked for in {tmp_path}/cifar10" in message
    assert "md5 c58f30108f718f92721af3b95e74349a" in message
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz" in message
    with pytest.raises(DataError, match=r"x\.npz is missing, it was looked for at x\.npz and"):
        load("x.npz", tmp_path)


def test_damaged_files(tmp_path: Path, register: Register) -> None:
    files, *_ = cifar10_files()
    published = {"cifar-10-python.tar.gz": tar_gz(files)}
    register("cifar10", published, files)
    put(tmp_path, published)
    path = tmp_path / "cifar-10-python.tar.gz"
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    expected, got = md5(published[path.name]), md5(bytes(damaged))
    with pytest.raises(DataError, match=f"{path} is damaged.* should be {expected}, got {got}"):
        load("cifar10", tmp_path)
    put(tmp_path, files)
    path = tmp_path / "cifar-10-batches-py/data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="data_batch_3 is damaged"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not an idx file of bytes"),
        (b"\0\0\x0d\1" + bytes(8), "is not an idx file of bytes"),  # floats
        (b"\0\0\x08\3\0\0\0\1", "is not an idx file of bytes"),
        (
            struct.pack(">HBBIII", 0, 8, 3, 2, 2, 2) + bytes(7),
            r"must hold \(2, 2, 2\) values, got 7",
        ),
    ],
)
def test_idx_files_that_are_refused(
    tmp_path: Path, register: Register, data: bytes, message: str
) -> None:
    plain, _ = mnist_files()
    plain["train-images-idx3-ubyte"] = data
    register("mnist", {f"{name}.gz": data for name, data in plain.items()}, plain)
    put(tmp_path, plain)
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte {message}"):
        load("mnist", tmp_path)


def test_unknown_names_and_options(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"dataset must be one of .*did you mean 'cifar10'"):
        load("cifar-10", tmp_path)
    with pytest.raises(
        InvalidArgument, match="option of digits must be one of canvas, train, seed"
    ):
        load("digits", size=3)
    with pytest.raises(InvalidArgument, match="mnist has no options, got 'canvas'"):
        load("mnist", tmp_path, canvas=3)
    with pytest.raises(InvalidArgument, match="canvas must be a whole number >= 8, got 7"):
        load("digits-translated", canvas=7)
    with pytest.raises(InvalidArgument, match="train must be 1 to 1796 images, got 1797"):
        load("digits", train=1797)


def test_where_data_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEUROSIM_DATA", str(tmp_path / "variable"))
    assert data_folder(tmp_path) == tmp_path
    assert data_folder() == tmp_path / "variable"
    monkeypatch.delenv("NEUROSIM_DATA")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder() == tmp_path / "neurosim"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_folder() == Path.home() / ".cache/neurosim"
    assert data_folder("~/mine") == Path.home() / "mine"


# The real files


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        (
            "mnist",
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        ),
        ("cifar10", [5000] * 10, [1000] * 10),
    ],
)
def test_official_label_counts(name: str, train: list[int], test: list[int]) -> None:
    if not os.environ.get("NEUROSIM_DATA"):
        pytest.skip("NEUROSIM_DATA does not name a folder with the real files")
    try:
        data = load(name, download=False)
    except DataError as error:
        pytest.skip(str(error))
    assert data.train.labels.bincount().tolist() == train
    assert data.test.labels.bincount().tolist() == test
    mean = {"mnist": (0.1307,), "cifar10": (0.4914, 0.4822, 0.4465)}[name]
    std = {"mnist": (0.3081,), "cifar10": (0.2470, 0.2435, 0.2616)}[name]
    np.testing.assert_allclose(data.mean, mean, atol=6e-5)
    np.testing.assert_allclose(data.std, std, atol=6e-5)
    assert data.class_names[9] == {"mnist": "9", "cifar10": "truck"}[name]
