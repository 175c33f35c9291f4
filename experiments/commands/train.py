"""One training run, or several that differ in their seed: what `neurosim train` does."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from experiments.common.options import check_name, check_resumption, check_seeds
from experiments.common.result import Report, results_folder
from experiments.common.variants import Outcome, Variant, report, run_file
from neurosim.errors import InvalidArgument
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    Place,
    RecordSettings,
    SleepSettings,
    TrainSettings,
    train,
)


@dataclass(frozen=True)
class TrainOptions:
    """Where a run happens and where its results go."""

    seeds: tuple[int, ...] = (0,)
    """One run for each; the summary has their mean, minimum and maximum."""
    name: str = "train"
    """Name of the run files, NAME-seedN.h5."""
    out: Path | None = None
    """Folder for run files and checkpoints (default: runs/NAME, or the next free one)."""
    device: str = "auto"
    """cpu, cuda or cuda:N; by default a GPU where there is one."""
    resume: bool = False
    """Go on from the last checkpoints in the folder."""
    overwrite: bool = False
    """Replace results that are already in the folder."""
    checkpoint_every: int | None = None
    """Steps between checkpoints (default: one after every epoch, fewer where they take long)."""
    keep: int = 2
    """Checkpoints that stay."""
    quiet: bool = False
    """No progress and no table, only errors."""
    json: bool = False
    """Print the results as JSON on standard output instead of a table."""

    def check(self) -> None:
        """Refuse values that make no sense."""
        check_name(self.name)
        check_seeds(self.seeds)
        check_resumption(self.out, resume=self.resume, overwrite=self.overwrite)


def run(
    data: DataSettings,
    network: NetworkSettings,
    optimisation: OptimisationSettings,
    sleep: SleepSettings,
    record: RecordSettings,
    options: TrainOptions,
) -> Report | None:
    """Train a network whose wake phases are gradient steps and whose sleeps are the circuit's.

    A minute on a laptop, with a sleep of the grids' means every 10 batches:
        neurosim train --sleep instant --every 10 --batch-size 60 --lr 1e-2 --epochs 30

    On several GPUs:
        torchrun --nproc-per-node 4 -m neurosim train --dataset cifar10 --model resnet20 --out run

    Args:
        data: What the network sees.
        network: The network.
        optimisation: How the wake phase moves weights.
        sleep: When and how the network sleeps.
        record: What the run file keeps.
        options: Where the run happens and where its results go.
    """
    options.check()
    settings = TrainSettings(data, network, optimisation, sleep, record)
    settings.check()
    rank, world = (int(os.environ.get(name, n)) for name, n in (("RANK", 0), ("WORLD_SIZE", 1)))
    if world > 1 and options.out is None:
        raise InvalidArgument("several processes need --out, the folder that they share")
    folder = results_folder(options.out, options.name)
    paths = [run_file(folder, options.name, seed) for seed in options.seeds]
    for seed, path in zip(options.seeds, paths, strict=True):
        place = Place(
            path,
            device=options.device,
            resume=options.resume,
            overwrite=options.overwrite,
            quiet=options.quiet,
            checkpoint_every=options.checkpoint_every,
            keep=options.keep,
        )
        train(replace(settings, seed=seed), place)
    if rank > 0:  # the first process reports
        return None
    outcome = Outcome.read(Variant(options.name, settings), paths)
    return report(options.name, folder, [outcome], {})
