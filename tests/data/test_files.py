"""Image files are cut as they should be, ahead of use, whatever the number of workers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from neurosim.data import Augment, DataError, Files, Images, Loader, load
from neurosim.data import loader as loader_module
from neurosim.data.decode import random_box
from neurosim.errors import InvalidArgument

SIZES = [(40, 40), (60, 40), (40, 55), (41, 83), (100, 32)]  # width, height


def pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A smooth random image."""
    coarse = np.random.default_rng(seed).integers(0, 256, (2, 2, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, training and test images of several sizes."""
    for part, count in {"train": 20, "val": 5}.items():
        for number in range(count):
            path = tmp_path / part / f"class{number % 2}" / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            width, height = SIZES[number % len(SIZES)]
            Image.fromarray(pixels(width, height, number)).save(path)
    return tmp_path


def loader(folder: Path, batch_size: int = 4, **arguments: Any) -> Loader:
    data = load(str(folder), size=24, resize=32)
    return Loader(data.train, batch_size, mean=data.mean, std=data.std, **arguments)


def levels(x: Tensor) -> np.ndarray:
    """Normalised images back to 0 to 255, (n, H, W, C)."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((x.permute(0, 2, 3, 1) * std + mean) * 255).numpy()


def resized(path: Path, shorter: int = 32) -> np.ndarray:
    """The image with its shorter side resized."""
    with Image.open(path) as image:
        scale = shorter / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        return np.asarray(image.resize(size, Image.Resampling.BILINEAR)).astype(float)


def test_test_images_are_resized_and_cropped_in_the_centre(folder: Path) -> None:
    """Against resizing the whole image first, which only rounds differently."""
    split = load(str(folder), size=24, resize=32).train
    assert isinstance(split, Files)
    x, _ = next(loader(folder, 20).epoch(0))
    for index, image in enumerate(levels(x)):
        whole = resized(split.path(index))
        top, left = (whole.shape[0] - 24) // 2, (whole.shape[1] - 24) // 2
        expected = whole[top : top + 24, left : left + 24]
        assert np.abs(image - expected).mean() < 3


def test_random_crops_of_a_resized_image(folder: Path) -> None:
    """Each is a window of it, at places all over it, and mirrored half the time."""
    data = load(str(folder), size=24, resize=32)
    assert isinstance(data.train, Files)
    wide = data.train.names.index("train/class1/001.png")  # 60 x 40, so 48 x 32 resized
    single = data.train.subset([wide])
    augment = Augment(crop="resize", flip=True, repetitions=200)
    x, _ = next(Loader(single, 200, mean=data.mean, std=data.std, augment=augment).epoch(0))
    whole = resized(single.path(0))
    windows = np.lib.stride_tricks.sliding_window_view(whole, (24, 24, 3))[:, :, 0]
    both = np.stack([windows, windows[..., ::-1, :]])  # (2, 9, 25, 24, 24, 3)
    distance = np.stack([np.abs(both - crop).mean((3, 4, 5)) for crop in levels(x)])
    assert distance.min((1, 2, 3)).max() < 4  # at most half a pixel beside one of the windows
    assert distance.mean() > 20
    nearest = [np.unravel_index(d.argmin(), d.shape) for d in distance]
    mirrored, down, right = map(np.array, zip(*nearest, strict=True))
    assert 70 < mirrored.sum() < 130
    assert len(set(down)) == 9
    assert len(set(right)) > 20


def test_random_boxes() -> None:
    """Area and aspect ratio are those of the published recipe, and boxes lie within the image."""
    random = np.random.default_rng(0)
    boxes = np.array([random_box(400, 300, random) for _ in range(4000)])
    left, top, right, bottom = boxes.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= 400).all()
    assert (bottom <= 300).all()
    width, height = right - left, bottom - top
    share, ratio = width * height / (400 * 300), width / height
    assert share.min() < 0.1
    assert share.max() > 0.9
    assert ((ratio > 0.74) & (ratio < 1.36)).all()
    assert np.log(ratio).min() < np.log(0.78)
    assert left[width < 200].min() == 0
    thin = random_box(1000, 10, random)  # no box of such a ratio fits: the largest in the centre
    assert thin == pytest.approx((500 - 20 / 3, 0, 500 + 20 / 3, 10)) or thin[3] - thin[1] <= 10


def test_a_box_that_never_fits_is_the_central_one() -> None:
    random = np.random.default_rng(0)
    boxes = [random_box(3, 10_000, random) for _ in range(20)]
    assert boxes.count((0, 4998, 3, 5002)) == 20


@pytest.mark.parametrize("crop", [None, "resize", "random-resized"])
def test_batches_do_not_depend_on_workers_ranks_or_what_came_before(
    folder: Path, crop: Any
) -> None:
    augment = Augment(crop=crop, flip=True, repetitions=2)
    arguments: dict[str, Any] = {"augment": augment, "shuffle": True, "seed": 4}
    whole = list(loader(folder, 6, workers=1, **arguments).epoch(3))
    assert [len(y) for _, y in whole] == [6] * 6 + [4]
    resumed = list(loader(folder, 6, workers=5, **arguments).epoch(3, start=2))
    shares = [
        list(loader(folder, 6, rank=rank, world=3, **arguments).epoch(3, 2)) for rank in range(3)
    ]
    for (x, y), (x2, y2), *parts in zip(whole[2:], resumed, *shares, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
        assert torch.equal(x, torch.cat([x for x, _ in parts]))
        assert torch.equal(y, torch.cat([y for _, y in parts]))
    other = list(loader(folder, 6, **arguments).epoch(4))
    assert not torch.equal(whole[0][0], other[0][0])
    seen = Counter(label for _, y in whole for label in y.tolist())
    assert seen == {0: 20, 1: 20}


def test_files_are_read_ahead_but_not_far(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    crop_file = loader_module.crop_file

    def counted(path: Path, *arguments: Any) -> np.ndarray:
        read.append(path)
        return crop_file(path, *arguments)

    monkeypatch.setattr(loader_module, "crop_file", counted)
    threads = threading.active_count()
    epoch = loader(folder, 2, workers=2).epoch(0)
    next(epoch)
    ahead = 2 * (1 + loader_module.AHEAD)
    deadline = time.monotonic() + 10
    while len(read) < ahead and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(read) == ahead  # of 20: while the first batch is in use, the next three are made
    epoch.close()  # type: ignore[attr-defined]
    assert threading.active_count() == threads


def test_a_damaged_file_is_named(folder: Path) -> None:
    path = folder / "train/class1/007.png"
    path.write_bytes(path.read_bytes()[:200])
    threads = threading.active_count()
    with pytest.raises(DataError, match=r"class1/007\.png cannot be read as an image"):
        list(loader(folder, shuffle=True).epoch(0))
    assert threading.active_count() == threads
    path.unlink()
    list(loader(folder, shuffle=True).epoch(0))


def test_files_that_would_start_a_program_are_refused(folder: Path) -> None:
    """PostScript, which Pillow would hand to an interpreter, under the name of an image."""
    (folder / "train/class0/000.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(DataError, match=r"000\.png cannot be read as an image: cannot identify"):
        next(loader(folder).epoch(0))


def test_images_of_one_size_are_kept_in_memory(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number, kind in enumerate("ba"):
            path = tmp_path / part / kind / "deeper" / "x.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels(6, 4, number)).save(path)
            (path.parent / "notes.txt").write_text("no image")
    data = load(str(tmp_path))
    assert isinstance(data.train, Images)
    assert data.class_names == ("a", "b")
    assert data.image_size == (4, 6)
    assert data.train.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(data.train.images[0], pixels(6, 4, 1))
    Image.fromarray(pixels(7, 4)).save(tmp_path / "train/b/deeper/y.png")
    with pytest.raises(DataError, match=r"y.png in .* is 7x4 and the first image 6x4: give a size"):
        load(str(tmp_path))


def test_folders_that_are_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="must have the folders train and test or val, got none"):
        load(str(empty))
    (empty / "train/a").mkdir(parents=True)
    (empty / "test/a").mkdir(parents=True)
    with pytest.raises(DataError, match="train has no images"):
        load(str(empty))
    (folder / "val/class2").mkdir()
    with pytest.raises(DataError, match="val has the classes class2, which train lacks"):
        load(str(folder))


def test_settings_for_images_in_memory_are_refused(folder: Path) -> None:
    for augment in (Augment(pad=4), Augment(center_crop=16)):
        with pytest.raises(InvalidArgument, match="pad must be 0 and center_crop None"):
            loader(folder, augment=augment)


def test_imagenet(folder: Path) -> None:
    root = folder.parent / f"{folder.name}-data"
    root.mkdir()
    (root / "imagenet").symlink_to(folder)
    data = load("imagenet", root)
    assert isinstance(data.train, Files)
    assert (len(data.train), len(data.test), data.classes) == (20, 5, 2)
    assert (data.train.size, data.train.resize) == (224, 256)
    assert load("imagenet", root, size=64, resize=72).image_size == (64, 64)
    with pytest.raises(DataError, match=r"imagenet is missing: none of .* has train/<class>/"):
        load("imagenet", root / "elsewhere")
