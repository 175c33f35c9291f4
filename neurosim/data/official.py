"""Official files: where they may lie, what their checksums are, and how to get them.

Nothing is read before its checksum has been found right.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from neurosim.data.errors import DataError


@dataclass(frozen=True)
class Member:
    """A file, and the MD5 checksum of its contents."""

    name: str
    md5: str


@dataclass(frozen=True)
class Official:
    """A file as it is published, and what it unpacks to (nothing where it is not packed)."""

    name: str
    md5: str
    url: str
    members: tuple[Member, ...] = ()


@dataclass(frozen=True)
class Place:
    """The data folder, and whether files that lack there may be downloaded."""

    folder: Path
    download: bool = True

    def within(self, *names: str) -> tuple[Path, ...]:
        """Folders that a data set may be in, the last being the data folder itself."""
        return (*(self.folder / name for name in names), self.folder)


def contents(official: Official, folders: Sequence[Path], *, download: bool) -> dict[str, bytes]:
    """The contents of an official file's members by name, unpacked in memory if need be."""
    members = official.members or (Member(official.name, official.md5),)
    for folder in folders:
        if all((folder / member.name).is_file() for member in members):
            return {member.name: _read(folder / member.name, member.md5) for member in members}
    data = obtain(official, folders, download=download).read_bytes()
    if official.name.endswith(".tar.gz"):
        with tarfile.open(fileobj=BytesIO(data), mode="r:gz") as archive:
            return {member.name: _extract(archive, member.name) for member in members}
    if official.name.endswith(".gz"):
        return {members[0].name: gzip.decompress(data)}
    return {official.name: data}


def obtain(official: Official, folders: Sequence[Path], *, download: bool) -> Path:
    """The path of an official file, verified, which is downloaded into the first folder if need be.

    It is looked for in all folders.
    """
    for folder in folders:
        path = folder / official.name
        if path.is_file():
            verify(path, official.md5)
            return path
    advice = (
        f"put {official.name} (md5 {official.md5}) from {official.url} there by hand, or name "
        "another folder with NEUROSIM_DATA"
    )
    if not download:
        looked = ", ".join(map(str, folders))
        raise DataError(f"{official.name} is missing, it was looked for in {looked}: {advice}")
    _download(official, folders[0], advice)
    return folders[0] / official.name


def verify(path: Path, md5: str) -> None:
    """Raise `DataError` unless the file's MD5 checksum is the given one."""
    with path.open("rb") as file:
        got = hashlib.file_digest(file, _md5).hexdigest()
    _compare(path, md5, got)


def _read(path: Path, md5: str) -> bytes:
    data = path.read_bytes()
    _compare(path, md5, _md5(data).hexdigest())
    return data


def _compare(path: Path, expected: str, got: str) -> None:
    if got != expected:
        raise DataError(
            f"{path} is damaged or another file: its md5 should be {expected}, got {got}; "
            "remove it or replace it"
        )


def _md5(data: bytes = b"") -> hashlib._Hash:
    """MD5 guards against damage here, not against attackers."""
    return hashlib.md5(data, usedforsecurity=False)


def _extract(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise DataError(f"{archive.name} has no file {name}")
    return file.read()


def _download(official: Official, folder: Path, advice: str) -> None:
    """Download with pooch, which moves the file into place when it is whole and right."""
    try:
        import pooch
    except ImportError:
        raise DataError(f"{official.name} is not in {folder} and pooch, which would download it, "
                        f"is not installed: {advice}") from None  # fmt: skip
    try:
        pooch.retrieve(official.url, f"md5:{official.md5}", official.name, folder)
    except Exception as error:  # of the network, the server, the disk, or a wrong checksum
        raise DataError(
            f"{official.name} is not in {folder} and could not be downloaded "
            f"({type(error).__name__}): {advice}"
        ) from error
