"""Which GPUs processes see that know nothing of each other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from neurosim.sweeps.folder import lock_file
from neurosim.sweeps.gpus import claim_gpus, runs_fit_on, slots_per_gpu


def test_a_process_sees_the_gpu_it_has_claimed(tmp_path: Path) -> None:
    """Four processes on two GPUs, two runs each; a fifth finds no room."""
    assert (slots_per_gpu(0.25), slots_per_gpu(0.34), slots_per_gpu(1)) == (4, 2, 1)
    assert (runs_fit_on(2, 0.5), runs_fit_on(2, 1), runs_fit_on(5, 2)) == (4, 2, 2)
    code = (
        "import os, sys; from neurosim.sweeps.gpus import claim_gpus\n"
        "try:\n  claim_gpus(0.5)\nexcept Exception: print('none', flush=True)\n"
        "else: print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True)\nsys.stdin.read()"
    )
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "3,5", "TMPDIR": str(tmp_path)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(5)
    ]  # fmt: skip
    try:
        said = [process.stdout.readline().strip() for process in processes]  # type: ignore[union-attr]
        assert Counter(said) == {"3": 2, "5": 2, "none": 1}
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can be others")
def test_users_share_gpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made the slots; a uid that no name belongs to is a user as well."""
    with TemporaryDirectory(prefix="neurosim") as shared:
        Path(shared).chmod(0o1777)
        monkeypatch.setenv("TMPDIR", shared)
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

        def claims(uid: int) -> bool:
            process = get_context("fork").Process(target=_claim_as, args=(uid,))
            process.start()
            process.join()
            return process.exitcode == 0

        before = os.umask(0o077)
        assert [claims(0), claims(123456)] == [True, True]
        os.umask(before)
        (slot,) = Path(shared).iterdir()
        with slot.open() as held:
            assert lock_file(held)
            assert [claims(0), claims(123456)] == [False, False]


def _claim_as(uid: int) -> None:
    os.setuid(uid)
    claim_gpus(1.0)
