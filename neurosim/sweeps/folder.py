"""The folder of a study: what it is about, who sweeps it now, its run files and its index."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from neurosim import __version__
from neurosim.errors import InvalidArgument, RunFileError
from neurosim.files import write_json
from neurosim.sweeps.chunks import read_chunk
from neurosim.sweeps.index import COMPLETE, IndexWriter, Record, columns, read_records, states

SCHEMA, VERSION = "neurosim.study", 1


class StudyFolder:
    """A folder that holds the points of one study.

    study.json     what study it is, and the defaults of its options
    runs/          a run file for every point, or for points that ran together
    index/         what became of every point
    lock           held by the sweep that is going on
    status.json    how far that is
    """

    def __init__(self, path: Path):
        self.path = path
        self.runs, self.index = path / "runs", path / "index"

    @classmethod
    def open(cls, path: str | Path) -> StudyFolder:
        """The folder of a study that was begun."""
        folder = cls(Path(path))
        folder.about()
        return folder

    @classmethod
    def create(cls, path: str | Path, study: str, usual: Mapping[str, Any]) -> StudyFolder:
        """A folder for a study, new or begun by the same study with the same defaults."""
        folder = cls(Path(path))
        if (folder.path / "study.json").exists():
            folder._check_same(study, usual)
            return folder
        try:
            folder.runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidArgument(
                f"--out must be a folder that can be written to, got {str(path)!r}: {error}"
            ) from error
        about = {"schema": SCHEMA, "version": VERSION, "study": study, "defaults": dict(usual),
                 "code_version": __version__}  # fmt: skip
        write_json(folder.path / "study.json", about)
        return folder

    @staticmethod
    def is_one(path: Path) -> bool:
        """Whether a folder is a study's."""
        return (path / "study.json").is_file()

    def about(self) -> dict[str, Any]:
        """What `study.json` says."""
        path = self.path / "study.json"
        try:
            about = json.loads(path.read_text())
        except OSError as error:
            raise RunFileError(f"{self.path}: not the folder of a study: no {path.name}") from error
        except ValueError as error:
            raise RunFileError(f"{path}: is damaged: {error}") from error
        if about.get("schema") != SCHEMA or about.get("version") != VERSION:
            raise RunFileError(f"{path}: must be of schema {SCHEMA} {VERSION}, got {about!r:.80}")
        return about

    def _check_same(self, study: str, usual: Mapping[str, Any]) -> None:
        about = self.about()
        if about["study"] != study:
            raise InvalidArgument(
                f"--out must be a folder of {study}, got {str(self.path)!r}, which is one of "
                f"{about['study']}: choose another folder"
            )
        theirs, ours = about["defaults"], json.loads(json.dumps(dict(usual)))
        for name in sorted(theirs.keys() | ours.keys()):
            if json.dumps(theirs.get(name)) != json.dumps(ours.get(name)):  # NaN is NaN
                raise InvalidArgument(
                    f"--out must be a folder with today's defaults, but in {str(self.path)!r} "
                    f"{name} is {theirs.get(name)!r}, and now {ours.get(name)!r}: choose another"
                )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only sweep of this folder; the system lets go of the lock even after a kill."""
        with (self.path / "lock").open("a+") as file:
            if not _lock_soon(file):
                file.seek(0)
                raise InvalidArgument(
                    f"{self.path} is being swept by {file.read().strip() or 'another process'}: "
                    f"see neurosim sweep --status {self.path}, or choose another --out"
                )
            file.truncate(0)
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {now}\n")
            file.flush()
            yield

    def swept(self) -> bool:
        """Whether a sweep of this folder is going on; it may be somebody else's."""
        try:
            with (self.path / "lock").open() as file:
                return not lock_file(file)
        except FileNotFoundError:  # it was never swept
            return False

    def recover(self, index: IndexWriter) -> None:
        """Enter run files that were finished when the sweep that waited for them was killed."""
        known = {record.file for record in read_records(self.index)}
        finished = states(self.index)
        for path in sorted(self.runs.glob("*.h5")):
            file = f"{self.runs.name}/{path.name}"
            if file in known or (found := _readable(path)) is None:
                continue
            points, metrics, host, created = found
            new = [n for n, point in enumerate(points) if finished.get(point.key) != COMPLETE]
            if not new:
                continue
            fixed, varying = columns([points[n].config for n in new])
            index.append(
                Record(
                    COMPLETE, [points[n].key for n in new], fixed, varying,
                    metrics={name: [column[n] for n in new] for name, column in metrics.items()},
                    file=file, host=host, finished=datetime.fromisoformat(created).timestamp(),
                )
            )  # fmt: skip
            finished |= dict.fromkeys((points[n].key for n in new), COMPLETE)


def _readable(path: Path) -> Any:
    """What is in a file of results, if a writer has finished it."""
    try:
        return read_chunk(path)
    except RunFileError:  # a kill left it; the point runs again
        return None


def _lock_soon(file: IO[str]) -> bool:
    """Lock a file, which somebody may hold for a moment who asks whether it is locked."""
    for _ in range(5):
        if lock_file(file):
            return True
        time.sleep(0.05)
    return False


def lock_file(file: IO[str]) -> bool:
    """Lock a file for as long as it is open; False where another process has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            file.seek(1 << 30)  # a lock there hinders nobody from reading
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def age(path: Path) -> float:
    """Seconds since a file was last written."""
    return max(0.0, time.time() - path.stat().st_mtime)
