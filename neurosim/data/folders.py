"""Data sets that are folders of image files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import numpy as np
import torch

from neurosim.data.decode import SUFFIXES, read_image
from neurosim.data.errors import DataError
from neurosim.data.formats import Parsed, as_images
from neurosim.data.images import Dataset, Files, Images
from neurosim.data.official import Official, Place, obtain
from neurosim.progress import listened, track

LARGEST = 16 * 2**30  # bytes that a split in memory may take

Labelled = list[tuple[str, int]]  # names of image files and their labels


@dataclass(frozen=True)
class Tree:
    """Files by their names within a folder or an archive."""

    where: Path
    names: tuple[str, ...]
    read: Callable[[str], bytes]


def folder_tree(folder: Path, *parts: str) -> Tree:
    """The files below some parts of a folder."""
    names = tuple(name for part in parts for name in _names(folder, part))
    return Tree(folder, names, lambda name: (folder / name).read_bytes())


def zip_tree(path: Path, root: str) -> Tree:
    """The files below a folder of a zip archive, which stays open as long as this is in use."""
    archive, prefix = ZipFile(path), f"{root}/"
    names = tuple(name.removeprefix(prefix) for name in archive.namelist())
    return Tree(path, names, lambda name: archive.read(prefix + name))


def image_folder(name: str, folder: Path, size: int | None, resize: int | None) -> Dataset:
    """train/<class>/... and test/<class>/... or val/<class>/... of image files.

    Without a `size` all images must have the same one and are kept in memory; with it they are
    read whenever they are needed and cut to `size`, their shorter side resized to `resize`
    (8/7 of `size` by default, as 256 is of 224).
    """
    parts = [part for part in ("train", "test", "val") if (folder / part).is_dir()]
    if "train" not in parts or len(parts) < 2:
        found = ", ".join(parts) or "none of them"
        raise DataError(f"{folder} must have the folders train and test or val, got {found}")
    classes = sorted(
        entry.name
        for entry in os.scandir(folder / "train")
        if entry.is_dir() and not entry.name.startswith(".")
    )
    train, test = (_labelled(folder, part, classes) for part in parts[:2])
    if size is None:
        tree = folder_tree(folder)
        return Dataset(name, _in_memory(tree, train), _in_memory(tree, test), tuple(classes))
    resize = round(size * 8 / 7) if resize is None else resize
    train, test = (
        Files(folder, tuple(n for n, _ in part), torch.tensor([y for _, y in part]), size, resize)
        for part in (train, test)
    )
    return Dataset(name, train, test, tuple(classes))


def tiny_imagenet(official: Official, place: Place, images: tuple[int, int]) -> Parsed:
    """TinyImageNet from its folder or, unpacked in memory, from its archive.

    `images` are the numbers of training and test images there must be; its validation images
    are what is tested with, as the labels of its test images are not public.
    """
    tree = _tiny_tree(official, place.within("tinyimagenet"), place.download)
    paths = [PurePosixPath(name) for name in tree.names if name.lower().endswith(SUFFIXES)]
    train = sorted(path for path in paths if path.parts[0] == "train")
    classes = {name: label for label, name in enumerate(sorted({p.parts[1] for p in train}))}
    labels = dict(_annotations(tree, classes))
    test = sorted(path for path in paths if path.parts[0] == "val")
    if (len(train), len(test)) != images or {path.name for path in test} - labels.keys():
        raise DataError(
            f"{tree.where} must hold {images[0]} training and {images[1]} validation images with "
            f"annotations, got {len(train)}, {len(test)} and {len(labels)}: unpack "
            f"{official.name} again"
        )
    return (
        _in_memory(tree, [(str(path), classes[path.parts[1]]) for path in train]),
        _in_memory(tree, [(str(path), labels[path.name]) for path in test]),
        tuple(classes),
    )


def _tiny_tree(official: Official, folders: Sequence[Path], download: bool) -> Tree:
    root = PurePosixPath(official.name).stem
    for folder in folders:
        for candidate in (folder / root, folder):
            if (candidate / "wnids.txt").is_file():
                return folder_tree(candidate, "train", "val")
    return zip_tree(obtain(official, folders, download=download), root)


def _annotations(tree: Tree, classes: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Names and labels of the validation images: lines of name, class and a box."""
    name = "val/val_annotations.txt"
    if name not in tree.names:
        raise DataError(f"{tree.where} has no {name}")
    for line in tree.read(name).decode().splitlines():
        image, _, rest = line.partition("\t")
        label = rest.partition("\t")[0]
        if label not in classes:
            raise DataError(f"{name} in {tree.where} has the class {label!r}, which train lacks")
        yield image, classes[label]


def _names(folder: Path, part: str) -> Iterator[str]:
    """Names of all files below a part of a folder, relative to the folder."""
    for path, _, files in os.walk(folder / part):
        prefix = Path(path).relative_to(folder).as_posix()
        yield from (f"{prefix}/{file}" for file in files)


def _labelled(folder: Path, part: str, classes: Sequence[str]) -> Labelled:
    """Image files of a part in order of class and name, with their labels."""
    found = sorted(entry.name for entry in os.scandir(folder / part) if entry.is_dir())
    if unknown := sorted(set(found) - set(classes)):
        raise DataError(f"{folder / part} has the classes {', '.join(unknown)}, which train lacks")
    labelled = [
        (name, label)
        for label, kind in enumerate(classes)
        for name in sorted(_names(folder, f"{part}/{kind}"))
        if name.lower().endswith(SUFFIXES)
    ]
    if not labelled:
        raise DataError(
            f"{folder / part} has no images, which must be in one folder per class and end in "
            f"{', '.join(SUFFIXES)}"
        )
    return labelled


def _in_memory(tree: Tree, labelled: Labelled) -> Images:
    """All images decoded, which must have the size of the first."""

    def decoded(name: str) -> np.ndarray:
        return np.asarray(read_image(tree.read(name), f"{name} in {tree.where}"))

    names = [name for name, _ in labelled]
    shape = decoded(names[0]).shape
    if len(names) * np.prod(shape) > LARGEST:
        raise DataError(
            f"{tree.where} has {len(names)} images of {shape[1]}x{shape[0]}, more than fits into "
            "memory: give a size, so that they are read whenever they are needed"
        )
    images = np.empty((len(names), *shape), np.uint8)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        arrays = track(
            pool.map(decoded, names),
            total=len(names),
            title=f"Reading {tree.where}",
            quiet=not listened(),
        )
        for row, array in enumerate(arrays):
            if array.shape != shape:
                raise DataError(
                    f"{names[row]} in {tree.where} is {array.shape[1]}x{array.shape[0]} and the "
                    f"first image {shape[1]}x{shape[0]}: give a size, to which they are then cut"
                )
            images[row] = array
    return as_images(images, np.array([label for _, label in labelled]), str(tree.where))
