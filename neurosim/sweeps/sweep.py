"""`sweep`: run every point of a grid that is not finished yet, wherever there is room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from neurosim.errors import Interrupted, require
from neurosim.sweeps.clusters import Cluster, Job, Place, connect
from neurosim.sweeps.engine import AHEAD, Engine
from neurosim.sweeps.folder import StudyFolder
from neurosim.sweeps.grid import Grid, Point, build_grid
from neurosim.sweeps.index import COMPLETE, FAILED, IndexWriter, Record, states
from neurosim.sweeps.options import Config, Option, arguments, options_of
from neurosim.sweeps.status import Counts, Monitor
from neurosim.sweeps.worker import Runner, Work

if TYPE_CHECKING:
    from distributed import Client

TOLD = 10  # failures that are shown at once; the others are in the summary


def no_check(config: Config, thorough: bool) -> None:
    """Nothing is refused before it runs."""


@dataclass(frozen=True)
class Study:
    """What can be swept."""

    name: str
    options: Mapping[str, Option]
    run: Runner
    """Sent to workers."""
    alone: bool = False
    """Every run is a task of its own and writes files of its own."""
    check: Callable[[Config, bool], None] = no_check
    """Refuses a configuration, thoroughly or only as far as that is cheap."""


@dataclass(frozen=True)
class How:
    """Where points run, and how often they are tried again."""

    place: Place = Place()  # noqa: RUF009 (frozen)
    job: Job = Job()  # noqa: RUF009
    client: Client | None = None
    """A client to use in place of `place` and `job`."""
    retries: int = 2
    quiet: bool = False

    def check(self) -> None:
        """Refuse what makes no sense."""
        require(self.retries >= 0, "--retries", self.retries, ">= 0")
        self.place.check()

    def cluster(self, folder: Path, points: int) -> AbstractContextManager[Cluster]:
        """Workers, for as long as the block lasts."""
        if self.client is not None:
            return nullcontext(Cluster(self.client, self.place.threads or 1))
        return connect(self.place, self.job, folder, points)


class Asked(ABC):
    """A number of points of which each is decided when it is asked for."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Point]: ...


@dataclass(frozen=True)
class Swept:
    """How a sweep ended."""

    folder: Path
    total: int
    skipped: int
    """Points that were finished before."""
    completed: int
    failed: dict[str, str] = field(default_factory=dict)
    """The error of every point that failed, by its name."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Call:
    """Calls a function with the values of a point, and with its folder if it takes one."""

    function: Callable[..., Any]
    takes_folder: bool

    def __call__(self, config: Config, place: Path) -> Any:
        """What the function returns."""
        given = arguments(self.function, config)
        if self.takes_folder:
            place.mkdir(exist_ok=True)
            given["folder"] = place
        return self.function(**given)


def sweep(
    run: Callable[..., Any],
    grid: Mapping[str, Any],
    folder: str | Path,
    *,
    client: Client | None = None,
    seeds: int | None = None,
    where: str = "local",
    workers: int | None = None,
    threads: int | None = None,
    gpus_per_run: float = 0.0,
    retries: int = 2,
    name: str | None = None,
    quiet: bool = False,
) -> Swept:
    """Call `run` with every combination of the grid's values, on many processes or machines.

        def run(alpha: float, seed: int = 0):
            return {"error": ..., "curve": np.array(...)}

        neurosim.sweep(run, {"alpha": [1, 3, 10]}, "runs/study", seeds=5)
        table = analysis.collect("runs/study")

    Points that are finished in the folder are skipped. A script needs the usual guard,
    `if __name__ == "__main__":`, because local workers are new processes that import it.

    Args:
        run: Returns numbers, text and arrays by name. With a parameter `folder` it is given one
            of its own and runs as a task of its own.
        grid: Values for its parameters, or for the fields of parameters that are dataclasses.
        folder: The study's folder.
        client: A Dask client to use in place of `where`, `workers` and `threads`.
        seeds: Run every point with the seeds 0, 1, ...
        where: "local", "tcp://..." or "slurm" (for its settings see `sweep_study`).
        workers: Processes.
        threads: Threads of each run.
        gpus_per_run: GPUs of each run, or the part of one.
        retries: Times that a point is tried again.
        name: Of the study; a folder belongs to one.
        quiet: Show no progress.
    """
    options = options_of(run)
    takes_folder = options.pop("folder", None) is not None
    title = name or getattr(run, "__qualname__", type(run).__name__)
    study = Study(title, options, Call(run, takes_folder), alone=takes_folder)
    place = Place(where, workers, threads, gpus_per_run)
    return sweep_study(
        study, build_grid(title, options, grid, seeds), Path(folder), place,
        client=client, retries=retries, quiet=quiet,
    )  # fmt: skip


def sweep_study(
    study: Study,
    grid: Grid,
    folder: Path,
    place: Place = Place(),  # noqa: B008 (frozen)
    job: Job = Job(),  # noqa: B008
    *,
    client: Client | None = None,
    retries: int = 2,
    quiet: bool = False,
) -> Swept:
    """Run the points of a grid that are not finished yet."""
    for config, thorough in grid.corners():
        study.check(config, thorough)
    how = How(place, job, client, retries, quiet)
    return run_points(study, grid, folder, grid.defaults, how)


class Points(Protocol):
    """Points, and how many they are."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Point]: ...


def run_points(
    study: Study,
    points: Points,
    folder: Path,
    usual: Config,
    how: How,
    hear: Callable[[Record], None] = lambda record: None,
) -> Swept:
    """Run points that are not finished yet, and tell `hear` what becomes of them.

    `points` are iterated once and as they are needed, in this thread; so a source may decide what
    comes next by what it has heard, if it is `Asked`. `usual` are values that were not said, for a
    folder to be of one study only.
    """
    how.check()
    with open_study(study, usual, folder) as (home, index):
        asked = isinstance(points, Asked)
        finished = {key for key, state in states(home.index).items() if state == COMPLETE}
        left = points if asked else [point for point in points if point.key not in finished]
        kept = len(points) - len(left)
        if not len(left):
            return Swept(folder, len(points), kept, 0)
        counts = Counts(len(points), kept=kept, done=kept)
        failed: dict[str, str] = {}
        with how.cluster(folder, len(left)) as cluster:
            runs = Runs(study, cluster, home, counts, how, asked)
            for record in runs.run(left, len(left)):
                index.append(record)
                hear(record)
                failed |= dict(zip(record.points, record.errors, strict=False))
    return Swept(folder, len(points), kept, counts.done - kept, failed, runs.seconds)


@contextmanager
def open_study(
    study: Study, usual: Config, folder: Path
) -> Iterator[tuple[StudyFolder, IndexWriter]]:
    """The study's folder, and the index that only we write."""
    home = StudyFolder.create(folder, study.name, usual)
    with home.locked():
        index = IndexWriter(home.index)
        try:
            home.recover(index)
            yield home, index
        finally:
            index.close()


@dataclass
class Runs:
    """Points on the workers of a cluster, with a line that tells how far they are."""

    study: Study
    cluster: Cluster
    home: StudyFolder
    counts: Counts
    how: How
    asked: bool = False
    seconds: float = 0.0

    def run(self, points: Iterable[Point], total: int | None) -> Iterator[Record]:
        """Yield what becomes of points, as it becomes known."""
        client = self.cluster.client
        monitor = Monitor(self.home, self.counts, str(client.dashboard_link), quiet=self.how.quiet)
        monitor.say(f"{self.study.name}: dashboard {client.dashboard_link}")
        work = Work(
            self.study.run, self.study.name, self.home.path.absolute(), self.study.alone,
            self.cluster.threads, self.how.place.gpus_per_run,
        )  # fmt: skip

        def tick(engine: Engine) -> None:
            self.counts.running, self.counts.workers = engine.running, engine.slots
            if engine.slots < expected[0]:
                self.cluster.heal()
            expected[0] = max(expected[0], engine.slots)
            monitor.tick()

        expected, told = [0], 0
        engine = Engine(
            client, work, points, total,
            retries=self.how.retries, resources=self.cluster.resources, tick=tick,
            ahead=1 if self.asked else AHEAD,
        )  # fmt: skip
        try:
            for record in engine.run():
                ended = len(record.points)
                if record.status == FAILED:
                    self.counts.failed += ended
                    for number, error in enumerate(record.errors):
                        if (told := told + 1) <= TOLD:
                            named = " ".join(f"{k}={v}" for k, v in record.config(number).items())
                            monitor.say(f"{named} failed ({record.points[number]}): {error}")
                else:
                    self.counts.done += ended
                yield record
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"stopped after {self.counts.done} of {self.counts.total} points; the same "
                "command goes on"
            ) from error
        finally:
            self.counts.running = 0
            self.seconds = monitor.end()
