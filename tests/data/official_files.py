"""Official files of data sets, written in exactly their formats."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from neurosim.data import Dataset, Images

Files = dict[str, bytes]
Register = Callable[[str, Files, Files], None]


def random_images(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, *shape)).astype(np.uint8)


def idx(array: np.ndarray) -> bytes:
    """The idx format: magic number, lengths of the axes, bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files() -> tuple[Files, dict[str, np.ndarray]]:
    arrays = {
        "train-images-idx3-ubyte": random_images(12, 28, 28),
        "train-labels-idx1-ubyte": np.arange(12, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": random_images(7, 28, 28),
        "t10k-labels-idx1-ubyte": np.arange(7, dtype=np.uint8),
    }
    return {name: idx(array) for name, array in arrays.items()}, arrays


def python2(content: object) -> bytes:
    """What Python 2 pickled under protocol 2: byte strings, and arrays under numpy's old names."""
    if content is None:
        return pickle.NONE
    if isinstance(content, bool):
        return pickle.NEWTRUE if content else pickle.NEWFALSE
    if isinstance(content, int):
        return pickle.BININT + struct.pack("<i", content)
    if isinstance(content, bytes) and len(content) < 256:
        return pickle.SHORT_BINSTRING + bytes([len(content)]) + content
    if isinstance(content, bytes):
        return pickle.BINSTRING + struct.pack("<i", len(content)) + content
    if isinstance(content, np.ndarray):
        dtype = global_("numpy", "dtype") + python2((b"u1", 0, 1)) + pickle.REDUCE
        dtype += python2((3, b"|", None, None, None, -1, -1, 0)) + pickle.BUILD
        empty = global_("numpy.core.multiarray", "_reconstruct") + pickle.MARK
        empty += global_("numpy", "ndarray") + python2((0,)) + python2(b"b")
        shape = python2(1) + python2(content.shape)
        state = shape + dtype + python2(False) + python2(content.tobytes())
        return (
            empty + pickle.TUPLE + pickle.REDUCE + pickle.MARK + state + pickle.TUPLE + pickle.BUILD
        )
    if isinstance(content, tuple):
        return pickle.MARK + b"".join(map(python2, content)) + pickle.TUPLE
    if isinstance(content, list):
        return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(python2, content)) + pickle.APPENDS
    assert isinstance(content, dict)
    items = b"".join(python2(key) + python2(value) for key, value in content.items())
    return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS


def python2_pickle(content: object) -> bytes:
    return pickle.PROTO + b"\x02" + python2(content) + pickle.STOP


def global_(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def cifar_batch(images: np.ndarray, labels: dict[bytes, list[int]]) -> bytes:
    """Rows of 3,072: red, green, blue, each row by row."""
    rows = np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))
    names = [f"{number}.png".encode() for number in range(len(images))]
    return python2_pickle({b"data": rows, b"filenames": names, b"batch_label": b"x", **labels})


def cifar10_files() -> tuple[Files, np.ndarray, list[int]]:
    images, labels = random_images(18, 32, 32, 3), [number % 10 for number in range(18)]
    batches = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    files = {
        f"cifar-10-batches-py/{name}": cifar_batch(
            images[3 * batch : 3 * batch + 3], {b"labels": labels[3 * batch : 3 * batch + 3]}
        )
        for batch, name in enumerate(batches)
    }
    meta = {
        b"num_cases_per_batch": 3,
        b"num_vis": 3072,
        b"label_names": [b"c%d" % i for i in range(10)],
    }
    return files | {"cifar-10-batches-py/batches.meta": python2_pickle(meta)}, images, labels


def cifar100_files() -> tuple[Files, np.ndarray, list[int]]:
    images, fine = random_images(9, 32, 32, 3), [11 * number for number in range(9)]
    names = [b"fine%d" % label for label in range(100)]
    parts = {"train": slice(0, 6), "test": slice(6, 9)}
    files = {
        f"cifar-100-python/{name}": cifar_batch(
            images[part], {b"fine_labels": fine[part], b"coarse_labels": [0] * len(fine[part])}
        )
        for name, part in parts.items()
    }
    meta = {b"fine_label_names": names, b"coarse_label_names": [b"coarse"] * 20}
    return files | {"cifar-100-python/meta": python2_pickle(meta)}, images, fine


def tar_gz(files: Files) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def tiny_files() -> Files:
    """Two classes of two training images, two validation images, one of them grey."""
    root, files = "tiny-imagenet-200", {}

    def jpeg(number: int, mode: str = "RGB") -> bytes:
        file, level = io.BytesIO(), 40 * number
        Image.new(mode, (64, 64), (level, 0, 0) if mode == "RGB" else level).save(file, "JPEG")
        return file.getvalue()

    for number, kind in enumerate(("n02", "n01", "n02", "n01")):
        files[f"{root}/train/{kind}/images/{kind}_{number}.JPEG"] = jpeg(number)
    files[f"{root}/train/n01/n01_boxes.txt"] = b"n01_1.JPEG\t0\t0\t63\t63\n"
    files[f"{root}/val/images/val_0.JPEG"] = jpeg(5)
    files[f"{root}/val/images/val_1.JPEG"] = jpeg(4, "L")
    files[f"{root}/val/val_annotations.txt"] = (
        b"val_0.JPEG\tn02\t0\t0\t63\t63\nval_1.JPEG\tn01\t0\t0\t63\t63\n"
    )
    files[f"{root}/test/images/test_0.JPEG"] = jpeg(6)
    files[f"{root}/wnids.txt"] = b"n02\nn01\n"
    return files


def zipped(files: Files) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def put(folder: Path, files: Files) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def check(data: Dataset, images: np.ndarray, labels: list[int], train: int) -> None:
    """The images and labels, the first of them to train with."""
    for split, part in ((data.train, slice(0, train)), (data.test, slice(train, None))):
        assert isinstance(split, Images)
        np.testing.assert_array_equal(split.images.numpy(), images[part])
        assert split.labels.tolist() == labels[part]
