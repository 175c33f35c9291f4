"""CelebA's gender attribute at 32x32, from the files of its official layout.

Z. Liu, P. Luo, X. Wang and X. Tang (2015), Deep Learning Face Attributes in the Wild; images are
aligned faces of 178x218 pixels. It is given to researchers on request, so that the files have to
be there: img_align_celeba/*.jpg, list_attr_celeba.txt, list_eval_partition.txt. The largest
central square of an image is resized (Elsayed et al. 2020, Sec. 4, say no more than 32x32).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from neurosim.data.decode import crop_file
from neurosim.data.errors import DataError
from neurosim.data.formats import as_images
from neurosim.data.images import Dataset, Images, is_whole
from neurosim.data.official import Place
from neurosim.errors import require
from neurosim.progress import listened, track

IMAGES, ATTRIBUTES, PARTITION = (
    "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt",
)  # fmt: skip
PARTS = ("train", "validation", "test")  # 0, 1 and 2 in the partition
ATTRIBUTE, CLASSES = "Male", ("female", "male")


def celeba(name: str, place: Place, *, size: int = 32) -> Dataset:
    """Faces by gender: 162,770 to train, 19,867 to validate and 19,962 to test with."""
    require(is_whole(size) and size >= 1, "size", size, "a whole number >= 1")
    folder = _folder(place)
    labels = _labels(folder / ATTRIBUTES)
    parts = _partition(folder / PARTITION)
    if missing := [image for image in parts if image not in labels]:
        raise DataError(f"{folder / ATTRIBUTES} has no line for {missing[0]}")
    splits = []
    for number, part in enumerate(PARTS):
        names = [image for image, of in parts.items() if of == number]
        if not names:
            raise DataError(f"{folder / PARTITION} has no {part} images ({number})")
        splits.append(_decoded(folder / IMAGES, names, [labels[n] for n in names], size))
    train, validation, test = splits
    return Dataset(name, train, test, CLASSES, validation=validation)


def _folder(place: Place) -> Path:
    folders = place.within("celeba", "CelebA")
    for folder in folders:
        if all((folder / part).exists() for part in (IMAGES, ATTRIBUTES, PARTITION)):
            return folder
    looked = ", ".join(map(str, folders))
    raise DataError(
        f"celeba is missing: none of {looked} has {IMAGES}/, {ATTRIBUTES} and {PARTITION}; it has "
        "to be fetched by hand from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    )


def _labels(path: Path) -> dict[str, int]:
    """1 where the attribute is present: a count, the attributes' names, then a line per image."""
    lines = path.read_text().splitlines()
    names = lines[1].split() if len(lines) > 1 else []
    if ATTRIBUTE not in names:
        raise DataError(f"{path} has no attribute {ATTRIBUTE} in its second line")
    column, labels = 1 + names.index(ATTRIBUTE), {}
    for number, line in enumerate(lines[2:], start=3):
        image, *values = line.split() or [""]
        if len(values) != len(names) or (value := line.split()[column]) not in ("1", "-1"):
            raise DataError(f"{path}, line {number}: must be an image and {len(names)} of 1 or -1")
        labels[image] = int(value == "1")
    return labels


def _partition(path: Path) -> dict[str, int]:
    """The part that every image belongs to."""
    parts = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.split()
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise DataError(f"{path}, line {number}: must be an image and 0, 1 or 2, got {line!r}")
        parts[words[0]] = int(words[1])
    return parts


def _decoded(folder: Path, names: list[str], labels: list[int], size: int) -> Images:
    """Images and labels in the order of names."""
    random = np.random.default_rng(0)  # of a crop at a random place, which this is not
    images = np.empty((len(names), size, size, 3), np.uint8)

    def one(name: str) -> np.ndarray:
        if not (folder / name).is_file():
            raise DataError(f"{folder / name} is missing, which {PARTITION} names")
        return crop_file(folder / name, size, size, None, False, random)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pixels = track(
            pool.map(one, names), total=len(names), title=f"Reading {folder}", quiet=not listened()
        )
        for row, array in enumerate(pixels):
            images[row] = array
    return as_images(images, np.array(labels), str(folder))
