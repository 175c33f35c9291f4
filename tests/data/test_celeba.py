"""CelebA's official layout, in small files of our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosim.data import DataError, load
from neurosim.training import DataSettings
from neurosim.training.build import build_data

COUNTS = (6, 3, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images whose brightness is their number; odd numbers are male; the order is mixed up."""
    here = tmp_path / "celeba"
    (here / "img_align_celeba").mkdir(parents=True)
    attributes, partition = ["13", "Bald Male Young"], []
    parts = np.repeat((0, 1, 2), COUNTS)
    for number in range(13):
        name = f"{number + 1:06}.jpg"
        pixels = np.zeros((218, 178, 3), np.uint8)  # black above and below the central square
        pixels[16:200] = 15 * number
        Image.fromarray(pixels).save(here / "img_align_celeba" / name, quality=100)
        attributes.append(f"{name} -1  {1 if number % 2 else -1} 1")
        partition.append(f"{name} {parts[(5 * number) % 13]}")
    (here / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (here / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")
    return tmp_path


def test_parts_labels_and_the_central_square(folder: Path) -> None:
    data = load("celeba", folder)
    assert data.class_names == ("female", "male")
    assert data.image_size == (32, 32)
    assert data.validation is not None
    splits = (data.train, data.validation, data.test)
    assert tuple(map(len, splits)) == COUNTS
    seen = []
    for number, split in enumerate(splits):
        for image, label in zip(split.images.float(), split.labels, strict=True):  # type: ignore[union-attr]
            which = round(float(image.mean()) / 15)
            assert float((image - 15 * which).abs().max()) <= 3  # nothing of the frame
            assert int(label) == which % 2
            assert np.repeat((0, 1, 2), COUNTS)[(5 * which) % 13] == number
            seen.append(which)
    assert sorted(seen) == list(range(13))
    assert load("celeba", folder, size=8).image_size == (8, 8)


def test_the_official_validation_part_is_used(folder: Path) -> None:
    data = build_data(DataSettings(dataset="celeba", data=folder, validation=3), seed=0)
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 6, "validation": 3, "test": 4,
    }  # fmt: skip


def test_what_is_wrong_is_said(folder: Path) -> None:
    here = folder / "celeba"
    with pytest.raises(DataError, match="celeba is missing: none of"):
        load("celeba", folder / "elsewhere")
    attributes, partition = here / "list_attr_celeba.txt", here / "list_eval_partition.txt"
    good = attributes.read_text(), partition.read_text()
    for path, change, message in (
        (attributes, ("Male", "Man"), "no attribute Male"),
        (attributes, (" 1 1\n", " 1\n"), "line 4: must be an image and 3 of 1 or -1"),
        (attributes, ("000013.jpg", "000014.jpg"), "has no line for 000013.jpg"),
        (partition, (" 2\n", " 3\n"), "must be an image and 0, 1 or 2"),
        (partition, (" 1\n", " 0\n"), "no validation images"),
    ):
        text = good[0] if path == attributes else good[1]
        path.write_text(text.replace(*change))
        with pytest.raises(DataError, match=message):
            load("celeba", folder)
        path.write_text(text)
    (here / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(DataError, match=r"000002.jpg is missing"):
        load("celeba", folder)
