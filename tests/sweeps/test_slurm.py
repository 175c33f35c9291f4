"""Sweeps on Slurm: the job script, and real jobs where a Slurm answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue", reason="needs the extra [cluster]")

import machines

from analysis.sweeps import collect
from neurosim.errors import InvalidArgument
from neurosim.sweeps import Job, Place
from neurosim.sweeps.clusters import slurm_cluster, slurm_threads


def _answers() -> bool:
    """Whether there is a Slurm with an idle node."""
    if shutil.which("sinfo") is None:
        return False
    try:
        listed = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return "idle" in listed.stdout


def test_a_job_asks_for_what_it_was_told_to(tmp_path: Path) -> None:
    place = Place("slurm", gpus_per_run=0.5)
    job = Job("gpu", "lab", "08:00:00", cores=8, memory="32GB", gpus=2,
              directives=("--constraint=a100",), prologue=("module load cuda",))  # fmt: skip
    with slurm_cluster(place, job, tmp_path) as cluster:
        script = cluster.job_script().splitlines()
    for line in (
        "#SBATCH -p gpu", "#SBATCH -A lab", "#SBATCH --cpus-per-task=8", "#SBATCH --mem=30G",
        "#SBATCH -t 08:00:00", "#SBATCH --gres=gpu:2", "#SBATCH --constraint=a100",
        "module load cuda", "export OMP_NUM_THREADS=2",
    ):  # fmt: skip
        assert line in script
    command = next(line for line in script if "dask worker" in line or "dask_worker" in line)
    assert "--nworkers 4" in command  # two runs on each GPU
    assert "--nthreads 1" in command
    assert slurm_threads(place, job) == 2
    with pytest.raises(InvalidArgument, match="--gpus must be >= --gpus-per-run"):
        slurm_cluster(Place("slurm", gpus_per_run=1), Job(), tmp_path)


@pytest.mark.skipif(not _answers(), reason="no Slurm answers here (Debian: slurm-wlm)")
def test_real_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", machines.ENVIRONMENT["PYTHONPATH"])
    job = Job(
        memory="500MB", walltime="00:05:00", interface=os.environ.get("SLURM_INTERFACE", "lo")
    )
    from neurosim.sweeps import build_grid
    from neurosim.sweeps.options import options_of
    from neurosim.sweeps.sweep import Call, Study, sweep_study

    options = options_of(machines.draw)
    study = Study("draw", options, Call(machines.draw, takes_folder=False))
    grid = build_grid("draw", options, {"scale": [1, 2], "pause": 0.01}, seeds=30)
    swept = sweep_study(study, grid, tmp_path / "s", Place("slurm"), job, quiet=True)
    assert (swept.completed, swept.failed) == (60, {})
    assert len(collect(tmp_path / "s")) == 60
