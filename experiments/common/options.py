"""What commands and experiments take: where results go, and how networks are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from analysis.figures import figure_paths
from experiments.common.result import refuse_existing, results_folder
from neurosim.errors import InvalidArgument, option, require

if TYPE_CHECKING:
    from neurosim.training import TrainSettings


def check_name(name: str) -> None:
    """Refuse a name of results that would put them elsewhere."""
    valid = Path(name).name == name and name not in ("", "..")
    require(valid, "--name", name, "a file name without folders")


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse what are no seeds of different runs."""
    valid = seeds and all(0 <= seed < 2**63 for seed in seeds)
    require(valid, "--seeds", seeds, "one or more, >= 0 and below 2^63")
    require(len(set(seeds)) == len(seeds), "--seeds", seeds, "without repetitions")


def check_resumption(out: Path | None, *, resume: bool, overwrite: bool) -> None:
    """Refuse to go on nowhere, or in what is to be replaced."""
    if resume and overwrite:
        raise InvalidArgument("--resume and --overwrite exclude each other: give one")
    if resume and out is None:
        raise InvalidArgument("--resume needs --out, the folder to go on in")


@dataclass(frozen=True)
class RunOptions:
    """Where results go and how much is said on the way."""

    out: Path | None = None
    """Folder for the run file and figures (default: runs/NAME, or the next free runs/NAME-2)."""
    seed: int = 0
    """Seed of everything that is drawn."""
    threads: int | None = None
    """Populations simulated at once (default: all cores); results do not depend on it."""
    overwrite: bool = False
    """Replace results that are already in the folder."""
    quiet: bool = False
    """No progress and no table, only errors."""
    json: bool = False
    """Print the results as JSON on standard output instead of a table."""

    def check(self) -> None:
        """Refuse values that make no sense (not on construction, where tyro would reword it)."""
        require(0 <= self.seed < 2**63, "--seed", self.seed, ">= 0 and below 2^63")
        require(self.threads is None or self.threads >= 1, "--threads", self.threads, ">= 1")

    def run_file(self, name: str) -> Path:
        """NAME.h5 in the folder of results, which is made if need be; refuses to overwrite."""
        self.check()
        path = results_folder(self.out, name) / f"{name}.h5"
        drawn = figure_paths(path.with_suffix(""))
        refuse_existing([path, *drawn], overwrite=self.overwrite)
        for figure in drawn:  # a run that is cut short must not keep the old one's
            figure.unlink(missing_ok=True)
        return path


@dataclass(frozen=True)
class TrainingOptions:
    """What to train on, how long, and where results go."""

    dataset: str | None = None
    """Data set (default: the experiment's own)."""
    data: Path | None = None
    """Folder of the official files (default: $NEUROSIM_DATA)."""
    epochs: int | None = None
    """Passes over the training images (default: the experiment's own)."""
    subset: int | None = None
    """Train on so many images only, the same number of each class."""
    test_subset: int | None = None
    """Evaluate on the first so many images only."""
    batch_size: int | None = None
    """Images per step (default: the experiment's own)."""
    seeds: tuple[int, ...] | None = None
    """Seeds, one run each (default: the experiment's own)."""
    variants: tuple[str, ...] | None = None
    """Rows of the table to train (default: all)."""
    device: str = "auto"
    """cpu, cuda or cuda:N; by default a GPU where there is one."""
    processes: int = 1
    """Runs at once, each in a process of its own; they share cores, and take turns with GPUs."""
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    """Numbers in which layers compute (default: bfloat16 on a GPU, float32 on a CPU)."""
    compile: bool = False
    """Compile networks with torch.compile."""
    cuda_graphs: bool = False
    """Replay what was compiled as CUDA graphs: no time is lost to start its many kernels."""
    step_in_backward: bool = False
    """Move weights as soon as their gradients are there, and drop those, which saves memory."""
    out: Path | None = None
    """Folder for run files, table and figures (default: runs/NAME, or the next free one)."""
    keep_checkpoints: bool = False
    """Keep the last checkpoint of finished runs: weights and optimizer."""
    resume: bool = False
    """Go on in the folder: finished runs are kept, the others continued."""
    overwrite: bool = False
    """Replace results that are already in the folder."""
    quiet: bool = False
    """No progress and no table, only errors."""
    json: bool = False
    """Print the results as JSON on standard output instead of a table."""

    def check(self) -> None:
        """Refuse values that make no sense."""
        check_resumption(self.out, resume=self.resume, overwrite=self.overwrite)
        for name in ("epochs", "subset", "test_subset", "batch_size", "processes"):
            value = getattr(self, name)
            require(value is None or value >= 1, option(name), value, ">= 1")
        if self.seeds is not None:
            check_seeds(self.seeds)

    def apply(self, settings: TrainSettings) -> TrainSettings:
        """The settings with what was asked for in place of the experiment's own."""
        data, wake = replace(settings.data, data=self.data), settings.optimisation
        if self.dataset is not None:
            data = replace(data, dataset=self.dataset)
        if self.subset is not None:
            data = replace(data, subset=self.subset)
        if self.test_subset is not None:
            data = replace(data, test_subset=self.test_subset)
        if self.batch_size is not None:
            wake = replace(wake, batch_size=self.batch_size)
        if self.epochs is not None:
            wake = replace(wake, epochs=self.epochs)
        from neurosim.training.distributed import choose_device  # imports torch: seconds

        gpu = choose_device(self.device).type == "cuda"
        precision = self.precision or ("bfloat16" if gpu else "float32")
        wake = replace(
            wake,
            precision=precision,
            compile=self.compile,
            cuda_graphs=self.cuda_graphs,
            step_in_backward=self.step_in_backward,
        )
        return replace(settings, data=data, optimisation=wake)
