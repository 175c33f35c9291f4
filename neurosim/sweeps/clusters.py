"""Where runs happen: processes of this machine, a scheduler somewhere, or jobs of Slurm."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurosim.errors import InvalidArgument, require
from neurosim.sweeps.gpus import runs_fit_on, visible_gpus

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 8
# A death is counted against the tasks that were running, and how often they run again is the
# engine's business; so a worker holds no task that it does not run.
DASK = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s",
    "distributed.deploy.lost-worker-timeout": "120s",  # to start again, on a busy machine
    "distributed.worker.daemon": False,  # so that runs may have processes of their own
}


@dataclass(frozen=True)
class Place:
    """Where runs happen."""

    where: str = "local"
    """local (processes of this machine), the address of a Dask scheduler (tcp://...), or slurm."""
    workers: int | None = None
    """Processes, each with one run at a time (default: as many as cores or GPUs allow); with
    slurm, jobs (default: 1)."""
    threads: int | None = None
    """Threads of a run (default: the cores of the machine or job, shared out; 1 with tcp://)."""
    gpus_per_run: float = 0.0
    """GPUs that a run needs; 0.25 lets four runs share one. A scheduler's workers must have been
    started with --resources GPU=1, or as many as they have."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        known = self.where in ("local", "slurm") or "://" in self.where
        require(known, "--where", self.where, "local, slurm or an address such as tcp://host:8786")
        require(self.workers is None or self.workers >= 1, "--workers", self.workers, ">= 1")
        require(self.threads is None or self.threads >= 1, "--threads", self.threads, ">= 1")
        require(self.gpus_per_run >= 0, "--gpus-per-run", self.gpus_per_run, ">= 0")
        address = "://" in self.where
        require(
            not (address and self.workers), "--workers", self.workers,
            "left out with --where tcp://..., whose workers are there already",
        )  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What a job of Slurm asks for (only with --where slurm)."""

    queue: str | None = None
    """Partition."""
    account: str | None = None
    """Account that pays."""
    walltime: str = "04:00:00"
    """Time after which a job ends; what it was running is run again elsewhere."""
    cores: int = 1
    """Cores of a job."""
    memory: str = "4GB"
    """Memory of a job."""
    gpus: int = 0
    """GPUs of a job."""
    interface: str | None = None
    """Network interface by which jobs reach this machine, such as ib0."""
    directives: tuple[str, ...] = ()
    """Further directives, such as --constraint=a100."""
    prologue: tuple[str, ...] = ()
    """Lines of a job before its worker starts, such as 'module load cuda'."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        require(self.cores >= 1, "--cores", self.cores, ">= 1")
        require(self.gpus >= 0, "--gpus", self.gpus, ">= 0")

    def processes(self, place: Place) -> int:
        """Runs that a job does at once."""
        if place.gpus_per_run:
            require(self.gpus >= place.gpus_per_run, "--gpus", self.gpus, ">= --gpus-per-run")
            return runs_fit_on(self.gpus, place.gpus_per_run)
        return max(1, self.cores // (place.threads or 1))


@dataclass(frozen=True)
class Cluster:
    """A client, and what its workers are like."""

    client: Client
    threads: int
    resources: Mapping[str, float] | None = None
    heal: Callable[[], None] = lambda: None
    """Ask again for workers that ended."""


@contextmanager
def connect(place: Place, job: Job, folder: Path, points: int | None = None) -> Iterator[Cluster]:
    """Workers, for as long as the block lasts; those of a scheduler at an address stay."""
    place.check()
    try:
        import dask.config
        import distributed  # noqa: F401
    except ImportError as error:
        raise InvalidArgument(
            f"sweeps need Dask: pip install 'neurosim[cluster]' ({error})"
        ) from error
    with dask.config.set(DASK):
        if place.where == "local":
            with _local(place, points) as cluster:
                yield cluster
        elif place.where == "slurm":
            with _slurm(place, job, folder) as cluster:
                yield cluster
        else:
            with _scheduler(place) as cluster:
                yield cluster


@contextmanager
def _local(place: Place, points: int | None) -> Iterator[Cluster]:
    from distributed import Client, LocalCluster

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    most = cores
    if place.gpus_per_run:
        gpus = len(visible_gpus())
        most = runs_fit_on(gpus, place.gpus_per_run)
        allowed = f"at most {gpus}, the GPUs here" if gpus else "left out where no GPU is visible"
        require(most >= 1, "--gpus-per-run", place.gpus_per_run, allowed)
    workers = place.workers or max(1, min(most, points or most))
    threads = place.threads or max(1, cores // workers)
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            env=_environment(threads),
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        local: Any = cluster  # (declared as what it is within a coroutine, too)
        # Dask starts a worker that died again, but forgets it where that takes too long.
        yield Cluster(client, threads, heal=lambda: local.scale(workers))


@contextmanager
def _scheduler(place: Place) -> Iterator[Cluster]:
    from distributed import Client

    try:
        client = Client(place.where, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TimeoutError) as error:
        raise InvalidArgument(
            f"--where must be the address of a running Dask scheduler, but nothing answers at "
            f"{place.where} within {CONNECT_SECONDS} s"
        ) from error
    resources = {"GPU": place.gpus_per_run} if place.gpus_per_run else None
    with client:
        if resources:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            able = [w for w in workers if w["resources"].get("GPU", 0) >= place.gpus_per_run]
            allowed = f"what a worker of {place.where} has: start them with --resources GPU=1"
            require(able, "--gpus-per-run", place.gpus_per_run, allowed)
        yield Cluster(client, place.threads or 1, resources)


@contextmanager
def _slurm(place: Place, job: Job, folder: Path) -> Iterator[Cluster]:
    from distributed import Client

    jobs = place.workers or 1
    with slurm_cluster(place, job, folder) as cluster:
        cluster.scale(jobs=jobs)
        with Client(cluster) as client:
            yield Cluster(client, slurm_threads(place, job), heal=lambda: cluster.scale(jobs=jobs))


def slurm_threads(place: Place, job: Job) -> int:
    """Threads of a run within a job."""
    return place.threads or max(1, job.cores // job.processes(place))


def slurm_cluster(place: Place, job: Job, folder: Path) -> Any:
    """The jobs, not yet submitted; `job_script()` is what would be."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise InvalidArgument(
            f"--where slurm needs dask-jobqueue: pip install 'neurosim[cluster]' ({error})"
        ) from error
    job.check()
    logs = folder / "slurm"
    logs.mkdir(exist_ok=True)
    directives = [*job.directives]
    if job.gpus:
        directives.append(f"--gres=gpu:{job.gpus}")
    exports = [
        f"export {name}={value}" for name, value in _environment(slurm_threads(place, job)).items()
    ]
    return SLURMCluster(
        queue=job.queue,
        account=job.account,
        walltime=job.walltime,
        cores=job.processes(place),  # one thread of Dask's for each run
        job_cpu=job.cores,
        processes=job.processes(place),
        memory=job.memory,
        interface=job.interface,
        job_extra_directives=directives,
        job_script_prologue=[*exports, *job.prologue],
        log_directory=str(logs),
        local_directory=str(folder / "slurm" / "scratch"),
    )


def _environment(threads: int) -> dict[str, str]:
    """Threads of libraries, for processes that have not loaded them yet."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return dict.fromkeys(names, str(threads))
