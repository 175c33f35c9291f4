"""What a run file looks like: its names, and how it says who wrote it and with what."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim import __version__

SCHEMA = "neurosim.run"
VERSION = 1
KINDS = ("convergence", "training", "activations", "sweep")

# Attributes cannot change while a file is written and read at once, so what changes at the end
# of a run is kept in small datasets that are overwritten in place.
RESERVED = ("status", "message", "heartbeat")
STATUS_BYTES = 16
MESSAGE_BYTES = 1024
TEXT = h5py.string_dtype("utf-8")

# Root attributes of every run; others are notes of those who write.
ATTRIBUTES = (
    *("schema", "schema_version", "run_id", "segment", "kind", "config", "seed"),
    *("code_version", "git_commit", "git_dirty", "libraries", "python"),
    *("host", "pid", "process", "device", "created"),
)
LIBRARIES = ("numpy", "scipy", "numba", "h5py", "torch", "brian2")


class Status(StrEnum):
    """How a run stands; equal to its plain string."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    KILLED = "killed"
    """Never written: what a reader concludes when a run says 'running' and its process is gone."""


def data_type(dataset: h5py.Dataset | h5py.h5a.AttrID) -> np.dtype | None:
    """Dtype of plain numbers, booleans or text (`np.dtype(str)`); None for anything else.

    Opaque and object data could carry a pickle, and references lead out of the dataset: none of
    them is read.
    """
    dtype = dataset.dtype
    if h5py.check_string_dtype(dtype) is not None:
        return np.dtype(str)
    return dtype if dtype.kind in "biufc" else None


def plain_value(value: Any) -> Any:
    """The value of an attribute, as h5py gives it, in plain Python types."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def reason(error: BaseException) -> str:
    """What the system said, out of the many lines that HDF5 makes of it."""
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename:
        return f"{error.filename} is not a folder"
    found = re.search(r"error message = '([^']*)'", str(error))
    said = found[1] if found else getattr(error, "strerror", None) or str(error)
    return " ".join(said.split()) or type(error).__name__


def segment_path(path: Path, number: int) -> Path:
    """File of a run's segment: the run's own file, then 'run.seg1.h5', 'run.seg2.h5', ..."""
    return path.with_name(f"{path.stem}.seg{number}{path.suffix}") if number else path


def later_segments(path: Path) -> list[Path]:
    """Files beside `path` that continue it, in order."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.seg([1-9]\d*){re.escape(path.suffix)}")
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    numbers = sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))
    return [segment_path(path, number) for number in numbers]


def process_mark(pid: int) -> str | None:
    """What tells a process from a later one with the same number, where the system knows it.

    '<boot> <namespace> <start>': the boot it belongs to, the process numbering it is counted in
    (a container has its own) and its start time, which is 'ended' once only its entry is left.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = Path("/proc/self/ns/pid").readlink()
        # The command, in parentheses, may itself contain spaces and parentheses.
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *fields = stat.rpartition(")")[2].split()
        return f"{boot} {namespace} {'ended' if state in 'ZX' else fields[18]}"
    except (OSError, ValueError, IndexError):
        return None


def is_alive(host: str, pid: int, mark: str) -> bool | None:
    """Whether the process that wrote a file still runs; None where this cannot be known."""
    if host != socket.gethostname() or os.name != "posix" or pid <= 0:
        return None
    here = process_mark(os.getpid())
    if mark and here:
        boot, *namespace = mark.split()[:2]
        if boot == here.split()[0] and namespace != here.split()[1:2]:
            return None
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it exists and belongs to someone else
    found = process_mark(pid)
    return True if not mark or found is None else found == mark


def provenance(device: str) -> dict[str, Any]:
    """Root attributes that say when, where and with what code a run was made."""
    commit, dirty = _git()
    return {
        "code_version": __version__,
        "git_commit": commit,
        "git_dirty": dirty,
        "libraries": json.dumps({name: v for name in LIBRARIES if (v := _version(name))}),
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process": process_mark(os.getpid()) or "",
        "device": device,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git() -> tuple[str, bool]:
    """Commit of the checkout that tracks this file and whether it has changes; else ('', False)."""
    here = Path(__file__).resolve()

    def ask(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(here.parent), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        return answer.stdout.strip()

    try:
        if not ask("ls-files", here.name):  # installed inside someone else's checkout
            return "", False
        return ask("rev-parse", "HEAD"), bool(ask("status", "--porcelain", "-uno"))
    except (OSError, subprocess.SubprocessError):
        return "", False
