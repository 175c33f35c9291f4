"""Hyperparameter searches on a validation split: the papers' grids (App. B), or a sampler.

Every network that is trained is a point of a study (`neurosim.sweeps`), trained wherever there is
room; the same command with the same --out goes on. Where a grid is too large, --samples lets
optuna choose learning rates and weight decays from the range that the grid spans, by what the
networks that are finished have reached; what it knows is in the study's folder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from experiments.commands.sampler import Range, Sampled
from experiments.commands.studies.train import trained
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, results_folder, table
from experiments.common.variants import Outcome, Variant, report
from experiments.dynamic_sharing.digits import variants as digits_variants
from experiments.dynamic_sharing.table1 import Padding, Table1
from experiments.dynamic_sharing.table1 import variants as table1_variants
from experiments.dynamic_sharing.table2 import Table2
from experiments.dynamic_sharing.table2 import variants as table2_variants
from neurosim.errors import InvalidArgument, require, require_choice
from neurosim.sweeps import How, Job, Place, Point, Study, run_points
from neurosim.sweeps.grid import config_hash
from neurosim.sweeps.options import Config
from neurosim.training import TrainSettings

VALIDATION = {"cifar10": 5_000, "cifar100": 5_000, "tinyimagenet": 10_000, "imagenet": 10_000}
EPOCHS = {"tinyimagenet": 50, "imagenet": 20}  # the same schedule, compressed
CONV_RATES = {
    "tinyimagenet": (5e-3, 1e-3, 5e-4),
    "imagenet": (1e-3, 5e-4),
    None: (1e-1, 5e-2, 1e-2, 5e-3),
}
LOCAL_RATES = {"tinyimagenet": (1e-3, 5e-4), None: (1e-3, 5e-4, 1e-4, 5e-5)}
CONV_DECAYS = {"imagenet": (1e-2, 1e-4, 1e-6), None: (1e-2, 1e-4)}
LOCAL_DECAYS = {"imagenet": (1e-2,), None: (1e-2, 1e-4)}


@dataclass(frozen=True)
class Tune:
    """The search, and which networks it is for."""

    lrs: tuple[float, ...] | None = None
    """Learning rates (default: the paper's, for conv or for local networks)."""
    weight_decays: tuple[float, ...] | None = None
    """Weight decays (default: the paper's, for conv or for local networks)."""
    padding: Padding = 4
    """Pixels of padding, before a random crop (CIFAR, TinyImageNet)."""
    validation: int | None = None
    """Training images held out (default: 5,000 of CIFAR, 10,000 of ImageNet, else 100)."""
    samples: int | None = None
    """Let optuna choose so many pairs for every network, from the smallest to the largest rate
    and decay, in place of the grid."""
    sampler: Literal["tpe", "random"] = "tpe"
    """How it chooses: by what was reached so far, or at random."""
    retries: int = 2
    """Times that a network is tried again whose worker died."""


@dataclass(frozen=True)
class Network:
    """A network that is tuned, and the rates and decays to try."""

    name: str
    settings: TrainSettings
    lrs: tuple[float, ...]
    decays: tuple[float, ...]

    def variant(self, lr: float, decay: float) -> Variant:
        """The network with a rate and a decay."""
        wake = replace(self.settings.optimisation, lr=lr, weight_decay=decay)
        name = f"{self.name}-lr{lr:g}-wd{decay:g}"
        return Variant(name, replace(self.settings, optimisation=wake))


def networks(settings: Tune, options: TrainingOptions) -> list[Network]:
    """The networks of the data set's table that were asked for."""
    dataset = options.dataset or "cifar10"
    options = replace(options, epochs=options.epochs or EPOCHS.get(dataset))
    if dataset.startswith("digits"):
        rows = digits_variants(options)
    elif dataset == "imagenet":
        rows = table2_variants(Table2(), options)
    else:
        rows = table1_variants(Table1(settings.padding), options)
    wanted = options.variants or ("conv", "lc")
    for name in wanted:
        require_choice("--variants", name, [row.name for row in rows])
    held = settings.validation or VALIDATION.get(dataset, 0) or 100
    found = []
    for row in rows:
        if row.name not in wanted:
            continue
        conv = row.settings.network.connectivity == "conv"
        rates, decays = (CONV_RATES, CONV_DECAYS) if conv else (LOCAL_RATES, LOCAL_DECAYS)
        lrs = settings.lrs or rates.get(dataset, rates[None])
        chosen = settings.weight_decays or decays.get(dataset, decays[None])
        data = replace(row.settings.data, validation=held)
        found.append(Network(row.name, replace(row.settings, data=data), lrs, chosen))
    return found


def variants(settings: Tune, options: TrainingOptions) -> list[Variant]:
    """Every combination of a rate and a decay for every chosen network."""
    return [
        network.variant(lr, decay)
        for network in networks(settings, options)
        for lr, decay in itertools.product(network.lrs, network.decays)
    ]


@dataclass(frozen=True)
class Search:
    """Names points of a search, and trains them."""

    networks: Mapping[str, Network]
    device: str

    def point(self, network: str, lr: float, decay: float, seed: int) -> Point:
        """A network to train. Its name has all that its result depends on in it."""
        settings = replace(self.networks[network].variant(lr, decay).settings, seed=seed)
        config = {"network": network, "lr": lr, "weight_decay": decay, "seed": seed}
        config |= {"dataset": settings.data.dataset, "validation": settings.data.validation}
        return Point(config_hash("tune", settings.as_json(), {}), config)

    def variant(self, config: Config) -> Variant:
        """What a configuration trains."""
        return self.networks[config["network"]].variant(config["lr"], config["weight_decay"])

    def __call__(self, config: Config, place: Path) -> dict[str, Any]:
        """Train a point."""
        settings = replace(self.variant(config).settings, seed=config["seed"])
        return trained(settings, self.device, place.with_suffix(".h5"))


def run(
    grid: Tune,
    options: TrainingOptions,
    place: Place = Place(),  # noqa: B008 (frozen)
    job: Job = Job(),  # noqa: B008
) -> Report:
    """Search learning rate and weight decay on a validation split, as the paper does.

    A grid, over all cores; and 30 pairs that optuna chooses, on jobs of Slurm:
        neurosim tune --dataset digits-translated --variants conv lc --out runs/tune
        neurosim tune --samples 30 --where slurm --workers 8 --gpus 1 --gpus-per-run 0.5

    Args:
        grid: The search.
        options: What to train on, how long, and where results go.
        place: Where networks are trained.
        job: What a job of Slurm asks for.
    """
    options.check()
    require(grid.samples is None or grid.samples >= 1, "--samples", grid.samples, ">= 1")
    if options.overwrite:
        raise InvalidArgument("--overwrite must be left out: a search goes on in its folder")
    if options.processes != 1:
        raise InvalidArgument(
            "--processes must be left out: --workers says how many networks are trained at once, "
            f"got {options.processes}"
        )
    found = {network.name: network for network in networks(grid, options)}
    for variant in variants(grid, options):
        variant.settings.check()
    search, seeds = Search(found, options.device), options.seeds or (0,)
    folder = results_folder(options.out, "tune")
    study = Study("tune", {}, search, alone=True)
    how = How(place, job, retries=grid.retries, quiet=options.quiet)
    if grid.samples is None:
        points = [
            search.point(network.name, lr, decay, seed)
            for network in found.values()
            for lr, decay in itertools.product(network.lrs, network.decays)
            for seed in seeds
        ]
        swept = run_points(study, points, folder, {}, how)
    else:
        ranges = {n.name: Range(n.lrs, n.decays) for n in found.values()}
        points = Sampled(folder, search.point, ranges, seeds, grid.samples, grid.sampler)
        swept = run_points(study, points, folder, {}, how, points.hear)
        points = points.asked
    return summary(search, folder, [p for p in points if p.key not in swept.failed], swept.failed)


def summary(search: Search, folder: Path, points: list[Point], failed: Mapping[str, str]) -> Report:
    """All that was trained, and the best of every network on validation."""
    runs: dict[str, list[Path]] = {}
    rows: dict[str, Variant] = {}
    networks: dict[str, str] = {}
    for point in points:
        variant = search.variant(point.config)
        runs.setdefault(variant.name, []).append(folder / "runs" / f"{point.key}.h5")
        rows[variant.name] = variant
        networks[variant.name] = point.config["network"]
    if not rows:
        raise InvalidArgument(f"no network could be trained: {next(iter(failed.values()), '')}")
    outcomes = [Outcome.read(variant, runs[name]) for name, variant in rows.items()]
    found = report("tune", folder, outcomes, {})
    best: dict[str, tuple[float, str]] = {}
    for outcome in outcomes:
        name = outcome.variant.name
        score = float(outcome.last("top1").mean())
        best[networks[name]] = max(best.get(networks[name], (-math.inf, "")), (score, name))
    chosen = [[network, name, f"{100 * score:.2f}"] for network, (score, name) in best.items()]
    found.lines += ["", *table(["network", "best on validation", "top-1"], chosen)]
    found.lines += [f"{key} failed: {error}" for key, error in failed.items()]
    found.values["best"] = {network: name for network, (_, name) in best.items()}
    found.values["failed"] = dict(failed)
    found.exit_code = int(bool(failed))
    return found
