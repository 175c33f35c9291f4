"""Training runs one after the other, or several at once in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn

from neurosim.progress import StatusLine
from neurosim.training import Place, TrainSettings, train


@dataclass(frozen=True)
class Job:
    """One training run."""

    title: str
    settings: TrainSettings
    place: Place
    keep_checkpoints: bool = False
    network: Callable[[], nn.Module | None] = lambda: None
    """Makes the network that is trained, or None for that of the settings."""


def run_jobs(jobs: Sequence[Job], processes: int = 1, *, quiet: bool = False) -> None:
    """Train them all; the first failure ends those that have not begun, and is raised."""
    line = StatusLine(quiet=quiet)
    if min(processes, len(jobs)) <= 1:
        for job in jobs:
            line.say(job.title)
            run_job(job)
        return
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = multiprocessing.get_context("spawn")  # neither CUDA nor threads survive a fork
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (threads,)) as pool:
        titles = {pool.submit(run_job, _placed(job, n)): job.title for n, job in enumerate(jobs)}
        left = set(titles)
        try:
            while left:
                done, left = wait(left, return_when=FIRST_EXCEPTION, timeout=1)
                for future in done:
                    future.result()
                    line.say(f"{titles[future]}: done, {len(left)} more to go")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def run_job(job: Job) -> None:
    """Train, and clear away what only a resumption needs."""
    train(job.settings, job.place, job.network())
    if not job.keep_checkpoints:
        job.place.checkpoints.remove()


def _placed(job: Job, number: int) -> Job:
    """With its network, and the GPU whose turn it is, if the run may choose."""
    job = replace(job, network=partial(_made, job.network()))
    if job.place.device != "auto" or not torch.cuda.is_available():
        return job
    gpu = f"cuda:{number % torch.cuda.device_count()}"
    return replace(job, place=replace(job.place, device=gpu))


def _made(network: nn.Module | None) -> nn.Module | None:
    """A network that was made here can go to another process; what makes it, maybe not."""
    return network
