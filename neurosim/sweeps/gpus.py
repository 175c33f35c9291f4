"""Which GPU a worker process computes on.

Processes of a machine that run sweeps, whoever started them, share its GPUs without talking to
each other: each locks a slot, a small file, for as long as it lives. A killed one loses its lock
with its life.
"""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from neurosim.errors import NeurosimError
from neurosim.sweeps.folder import lock_file

_claimed: list[IO[str]] = []  # open for as long as the process lives


def slots_per_gpu(share: float) -> int:
    """Runs that fit on one GPU at once."""
    return max(1, math.floor(1 / share + 1e-9))


def runs_fit_on(gpus: int, share: float) -> int:
    """Runs that fit on so many GPUs at once."""
    return gpus * slots_per_gpu(share) if share <= 1 else int(gpus // share)


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA takes."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()


def claim_gpus(share: float) -> None:
    """See only the GPUs, or the one that is shared, that nobody else has; once per process."""
    if not share or _claimed:
        return
    gpus, wanted = visible_gpus(), max(1, math.ceil(share))
    slots = [(gpu, slot) for slot in range(slots_per_gpu(share)) for gpu in gpus]
    held: list[str] = []
    for gpu, slot in slots:
        if len(held) == wanted:
            break
        file = _slot(gpu, slot)
        if lock_file(file):
            _claimed.append(file)
            held.append(gpu)
        else:
            file.close()
    if len(held) < wanted:
        while _claimed:
            _claimed.pop().close()
        raise NeurosimError(
            f"a run needs {share:g} GPUs, but of {len(gpus)} on {os.uname().nodename} none is "
            "free for it: start fewer workers there, or give a smaller --gpus-per-run"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)


def _slot(gpu: str, slot: int) -> IO[str]:
    """The file of a slot: one for all users, whoever made it, since reading is enough to lock."""
    path = Path(tempfile.gettempdir()) / f"neurosim-gpu-{gpu.replace('/', '-')}-{slot}"
    try:
        number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644)
    except PermissionError:
        return path.open()
    if hasattr(os, "fchmod"):
        os.fchmod(number, 0o644)  # others have to read it, whatever our umask is
    return os.fdopen(number, "r+")
