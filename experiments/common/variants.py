"""What experiments that train networks have in common: variants, seeds, run files, one table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from analysis import figures
from analysis.training import TrainingCurves, training_curves
from analysis.training import figures as training_figures
from experiments.common.jobs import Job, run_jobs
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, results_folder, table
from neurosim import files
from neurosim.errors import require_choice
from neurosim.recording import RunReader, Status
from neurosim.training import Place, TrainSettings
from neurosim.training.checkpoint import check_same


@dataclass(frozen=True)
class Variant:
    """One row of a table: a network and how it is trained."""

    name: str
    settings: TrainSettings
    published: Mapping[str, float | None] = field(default_factory=dict)
    """Numbers to print beside the measured ones, by column; accuracies in per cent."""


@dataclass(frozen=True)
class Outcome:
    """What the runs of a variant came to."""

    variant: Variant
    runs: tuple[TrainingCurves, ...]
    files: tuple[Path, ...] = ()  # of the runs

    @staticmethod
    def read(variant: Variant, run_files: Sequence[Path]) -> Outcome:
        """From run files."""
        runs = []
        for path in run_files:
            with RunReader(path) as run:
                runs.append(training_curves(run))
        return Outcome(variant, tuple(runs), tuple(run_files))

    def last(self, name: str) -> np.ndarray:
        """A quantity at the end of every run."""
        return np.array([getattr(run, name)[-1] for run in self.runs])

    @property
    def elsewhere(self) -> dict[str, float]:
        """Top-1 accuracy on distorted copies and on parts of the data, if recorded: the mean."""
        each = [{k: v[-1] for k, v in run.copies.items()} | run.splits for run in self.runs]
        return {name: float(np.mean([found[name] for found in each])) for name in each[0]}

    @property
    def snr(self) -> float:
        """The lowest SNR of all layers at the last record, geometric mean over seeds."""
        with np.errstate(divide="ignore"):  # one that is 0 makes the mean 0
            return float(np.exp(np.mean(np.log([run.lowest_snr for run in self.runs]))))


def run_variants(
    name: str,
    variants: Sequence[Variant],
    options: TrainingOptions,
    default_seeds: Sequence[int],
    network: Callable[[Variant, int], nn.Module | None] = lambda variant, seed: None,
) -> tuple[Path, list[Outcome]]:
    """Train every variant with every seed, or keep what --resume finds finished.

    `network` makes a network for those that do not begin as their settings say.
    """
    options.check()
    rows = chosen(variants, options.variants)
    seeds = options.seeds or tuple(default_seeds)
    for variant in rows:
        variant.settings.check()
    folder = results_folder(options.out, name)
    jobs = []
    for number, (variant, seed) in enumerate(itertools.product(rows, seeds), start=1):
        place = Place(
            run_file(folder, variant.name, seed),
            device=options.device,
            resume=options.resume,
            overwrite=options.overwrite,
            quiet=options.quiet,
            live=options.processes == 1,
            keep=1,
        )
        title = f"{name} [{number}/{len(rows) * len(seeds)}]: {variant.name}, seed {seed}"
        settings = replace(variant.settings, seed=seed)
        begin = partial(network, variant, seed)
        jobs.append(Job(title, settings, place, options.keep_checkpoints, begin))
    if options.resume:
        jobs = [job for job in jobs if not finished(job.place.run_file, job.settings)]
    run_jobs(jobs, options.processes, quiet=options.quiet)
    outcomes = [
        Outcome.read(variant, [run_file(folder, variant.name, seed) for seed in seeds])
        for variant in rows
    ]
    remove_checkpoints(outcomes, options)
    return folder, outcomes


def run_file(folder: Path, name: str, seed: int) -> Path:
    """Where the run of a variant with a seed is."""
    return folder / f"{name}-seed{seed}.h5"


def remove_checkpoints(outcomes: Iterable[Outcome], options: TrainingOptions) -> None:
    """Clear away what only a resumption needs, unless it is to be kept."""
    if options.keep_checkpoints:
        return
    for outcome in outcomes:
        for path in outcome.files:
            Place(path).checkpoints.remove()


def report(
    name: str, folder: Path, outcomes: Sequence[Outcome], columns: Mapping[str, str]
) -> Report:
    """Measured beside published numbers, as a table, a CSV file and a figure of accuracies.

    `columns` names the published quantities to show and their headings.
    """
    measured = ["top-1", "max-min", "top-5", "lowest SNR", "minutes"]
    others = list(dict.fromkeys(name for o in outcomes for name in o.elsewhere))
    header = ["variant", "lr", "runs", *measured, *others, *columns.values()]
    lines, values = [], []
    for outcome in outcomes:
        top1, top5 = 100 * outcome.last("top1"), 100 * outcome.last("top5")
        minutes = float(outcome.last("seconds").mean()) / 60
        variant = outcome.variant
        published = {column: variant.published.get(column) for column in columns}
        cells = [f"{top1.mean():.2f}", f"{np.ptp(top1):.2f}", f"{top5.mean():.2f}"]
        cells += [f"{outcome.snr:.3g}", f"{minutes:.2f}"]
        cells += [f"{100 * outcome.elsewhere.get(name, np.nan):.2f}" for name in others]
        cells += ["-" if value is None else f"{value:g}" for value in published.values()]
        lines.append(
            [variant.name, f"{variant.settings.optimisation.lr:g}", str(len(top1)), *cells]
        )
        values.append(
            {
                "variant": variant.name,
                "top1": top1.tolist(),
                "top1_mean": float(top1.mean()),
                "top1_min": float(top1.min()),
                "top1_max": float(top1.max()),
                "top5_mean": float(top5.mean()),
                "lowest_snr": outcome.snr,
                "minutes": minutes,
                "top1_elsewhere": outcome.elsewhere,
                "published": published,
            }
        )
    stem = folder / name
    path = write_csv(stem.with_suffix(".csv"), outcomes, columns)
    drawn = figures.save(
        training_figures.comparison({o.variant.name: o.runs for o in outcomes}), stem
    )
    return Report(name, folder, drawn, table(header, lines), {"variants": values}, table=path)


def write_csv(path: Path, outcomes: Sequence[Outcome], columns: Mapping[str, str]) -> Path:
    """One row for every run."""
    measured = ["variant", "seed", "epochs", "top1", "top5", "test_loss", "seconds"]
    rows = []
    for outcome in outcomes:
        published = [_or_empty(outcome.variant.published.get(column)) for column in columns]
        for run in outcome.runs:
            ends = (run.top1, run.top5, run.test_loss, run.seconds)
            row = [int(run.epochs[-1]), *(f"{values[-1]:.6g}" for values in ends)]
            rows.append([outcome.variant.name, run.seed, *row, *published])
    return files.write_csv(path, [*measured, *(f"published_{c}" for c in columns)], rows)


def _or_empty(value: float | None) -> float | str:
    return "" if value is None else value


def chosen(variants: Sequence[Variant], names: Sequence[str] | None) -> list[Variant]:
    """The rows that were asked for."""
    known = [variant.name for variant in variants]
    for name in names or ():
        require_choice("--variants", name, known)
    return [variant for variant in variants if names is None or variant.name in names]


def finished(path: Path, settings: TrainSettings) -> bool:
    """Whether a run is there and complete, with these settings."""
    if not path.exists():
        return False
    with RunReader(path) as run:
        check_same(run.config, settings.as_json(), path)
        return run.status is Status.COMPLETE
