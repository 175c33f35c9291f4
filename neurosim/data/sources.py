"""Data sets by name.

A data set is looked for in the folder that is given, else in the one that the environment
variable NEUROSIM_DATA names, else in the user's cache: $XDG_CACHE_HOME/neurosim or
~/.cache/neurosim, ~/Library/Caches/neurosim (macOS), %LOCALAPPDATA%\\neurosim (Windows).
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

from neurosim.data.catalogue import SOURCES
from neurosim.data.celeba import celeba
from neurosim.data.digits import digits
from neurosim.data.errors import DataError
from neurosim.data.folders import image_folder
from neurosim.data.formats import read_npz
from neurosim.data.images import IMAGENET_NORMALISATION, Dataset
from neurosim.data.official import Place
from neurosim.errors import InvalidArgument, require_choice

Reader = Callable[..., Dataset]


def load(
    name: str, folder: Path | str | None = None, *, download: bool = True, **options: object
) -> Dataset:
    """A data set by its name, or from an .npz file or a folder of images by their path.

    Args:
        name: one of `DATASETS`; or a path ending in .npz, with x_train, y_train, x_test, y_test
            (uint8 images (N, H, W[, C]) and labels) and maybe class_names; or the path of a
            folder with train/<class>/... and test/<class>/... or val/<class>/...; paths may be
            relative to the data folder. A file <name>.npz in the data folder goes before
            the official files of that name.
        folder: the data folder; see above for its default.
        download: whether official files that are missing are downloaded into the data folder.
        **options: for digits and digits-translated `canvas`, `train` and `seed`; for imagenet and
            folders `size` and `resize`; for celeba `size`.
    """
    place = Place(data_folder(folder), download)
    reader, known = _reader(name, place), options_of(name, folder)
    for option in options:
        if not known:
            raise InvalidArgument(f"{name} has no options, got {option!r}")
        require_choice(f"option of {name}", option, known)
    return reader(name, place, **options)


def options_of(name: str, folder: Path | str | None = None) -> list[str]:
    """The options that a data set can be loaded with."""
    reader = _reader(name, Place(data_folder(folder), download=False))
    return [
        option.name
        for option in inspect.signature(reader).parameters.values()
        if option.kind is option.KEYWORD_ONLY
    ]


def data_folder(folder: Path | str | None = None) -> Path:
    """The folder that data sets are in."""
    if folder is None:
        folder = os.environ.get("NEUROSIM_DATA") or _cache() / "neurosim"
    return Path(folder).expanduser()


def _cache() -> Path:
    """The user's cache folder on this platform."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _digits(
    name: str, place: Place, *, canvas: int = 8, train: int = 1200, seed: int = 0
) -> Dataset:
    return digits(name, canvas, train, seed)


def _digits_translated(
    name: str, place: Place, *, canvas: int = 16, train: int = 600, seed: int = 0
) -> Dataset:
    return digits(name, canvas, train, seed)


def _official(name: str, place: Place) -> Dataset:
    arrays = [path for folder in place.within(name) if (path := folder / f"{name}.npz").is_file()]
    parsed = read_npz(arrays[0]) if arrays else SOURCES[name].read(place)
    return Dataset(name, *parsed, IMAGENET_NORMALISATION if name == "tinyimagenet" else None)


def _imagenet(name: str, place: Place, *, size: int = 224, resize: int = 256) -> Dataset:
    folders = place.within("imagenet", "ImageNet", "ILSVRC2012")
    for folder in folders:
        if (folder / "train").is_dir():
            return image_folder(name, folder, size, resize)
    looked = ", ".join(map(str, folders))
    raise DataError(
        f"imagenet is missing: none of {looked} has train/<class>/ and val/<class>/; it has to be "
        "fetched by hand from https://image-net.org, where it needs an account"
    )


def _arrays(name: str, place: Place) -> Dataset:
    paths = (Path(name).expanduser(), place.folder / name)
    for path in paths:
        if path.is_file():
            return Dataset(path.stem, *read_npz(path))
    raise DataError(f"{name} is missing, it was looked for at {paths[0]} and {paths[1]}")


def _images(
    name: str, place: Place, *, size: int | None = None, resize: int | None = None
) -> Dataset:
    path = Path(name).expanduser()
    path = path if path.is_dir() else place.folder / name
    return image_folder(path.name, path, size, resize)


def _reader(name: str, place: Place) -> Reader:
    """What reads the data set of a name or path."""
    if name in READERS:
        return READERS[name]
    if name.endswith(".npz"):
        return _arrays
    if not any(path.is_dir() for path in (Path(name).expanduser(), place.folder / name)):
        require_choice("dataset", name, (*DATASETS, "<path>.npz", "<folder of images>"))
    return _images


READERS: dict[str, Reader] = {
    "digits": _digits,
    "digits-translated": _digits_translated,
    **dict.fromkeys(SOURCES, _official),
    "imagenet": _imagenet,
    "celeba": celeba,
}
DATASETS = tuple(READERS)
