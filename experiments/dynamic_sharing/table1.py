"""Tables 1 and 4 to 9: dynamic weight sharing recovers most of what locally connected nets lose.

Claim: on CIFAR-10, CIFAR-100 and TinyImageNet a locally connected ResNet-20 falls far behind its
convolutional twin; repeating images at several translations helps a little, sharing weights in a
sleep every n batches helps much, and after every batch almost entirely. Padding 4 is Table 1 (and
5, 8), 0 is Table 4 (and 7), 8 is Table 6 (and 9). Hyperparameters are those of Tables 10 to 12.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant, report, run_variants
from experiments.dynamic_sharing.published import cell
from neurosim.errors import option, require
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    SleepSettings,
    TrainSettings,
)

REPETITIONS = (4, 8, 16)
INTERVALS = (1, 10, 100)
LONGER = (4, 8)
Padding = Literal[0, 4, 8]
COLUMNS = {"top1": "paper top-1", "top1_spread": "paper max-min", "top5": "paper top-5"}


@dataclass(frozen=True)
class Table1:
    """One data set at one padding."""

    padding: Padding = 4
    """Pixels of padding, before a random crop."""
    sleep: SleepSettings = field(default_factory=lambda: SleepSettings(sleep="instant"))
    """How ws(n) networks sleep; the paper's sleep is the instant mean."""


def check_intervals(sleep: SleepSettings) -> None:
    """Refuse what would make networks sleep at other times than their rows say, or never."""
    plain = SleepSettings()
    for name in ("every", "unit", "at_steps", "below_snr"):
        value = getattr(sleep, name)
        told = value == getattr(plain, name)
        require(told, option(name), value, "left out: rows ws1, ws10 and ws100 say when they sleep")
    awake = sleep.sleep != "none"
    require(awake, "--sleep", sleep.sleep, "a mechanism; --variants conv lc are those without")


def variants(settings: Table1, options: TrainingOptions) -> list[Variant]:
    """conv, lc, lc with repetitions, lc for longer (Sec. 5.2), lc with sleep every n batches."""
    check_intervals(settings.sleep)
    require(settings.padding in get_args(Padding), "--padding", settings.padding, "0, 4 or 8")
    dataset = options.dataset or "cifar10"
    base = TrainSettings(
        data=DataSettings(dataset=dataset, pad=settings.padding),
        network=NetworkSettings(model="resnet20", connectivity="local"),
        optimisation=OptimisationSettings(batch_size=512, epochs=200),
    )
    base = options.apply(base)

    def variant(name: str, like: str | None = None, **changes: object) -> Variant:
        """A row with its hyperparameters, or those of the row `like`."""
        source = like or name
        lr = _hyperparameter(dataset, settings.padding, source, "lr")
        decay = _hyperparameter(dataset, settings.padding, source, "weight_decay")
        wake = replace(base.optimisation, lr=lr, weight_decay=decay)
        wanted = replace(base, optimisation=wake, **changes)  # type: ignore[arg-type]
        columns = {} if like else {c: cell(dataset, settings.padding, name, c) for c in COLUMNS}
        return Variant(name, wanted, columns)

    rows = [
        variant("conv", network=replace(base.network, connectivity="conv")),
        variant("lc"),
    ]
    if settings.padding:  # without translations all repetitions are equal
        for n in REPETITIONS:
            rows.append(variant(f"reps{n}", data=replace(base.data, repetitions=n)))
        for n in LONGER:
            rows.append(_longer(variant(f"longer{n}", like="lc"), n))
    for n in INTERVALS:
        rows.append(variant(f"ws{n}", sleep=replace(settings.sleep, every=n)))
    return rows


def _longer(variant: Variant, n: int) -> Variant:
    """n times as many epochs at an n times smaller rate (Sec. 5.2)."""
    wake = variant.settings.optimisation
    wake = replace(wake, epochs=n * wake.epochs, lr=wake.lr / n)
    return replace(variant, settings=replace(variant.settings, optimisation=wake))


def _hyperparameter(dataset: str, padding: int, variant: str, quantity: str) -> float:
    """Of Tables 10 to 12; other data sets take CIFAR-10's, repetitions unknown there lc's."""
    for known, row in ((dataset, variant), ("cifar10", variant), ("cifar10", "lc")):
        found = cell(known, padding, row, quantity)
        if found is not None:
            return found
    raise LookupError(f"no {quantity} for {variant} at padding {padding}")


def run(table: Table1, options: TrainingOptions) -> Report:
    """Table 1 (--padding 0 and 8: Tables 4 to 9): conv, lc, repetitions, sleep, beside the paper.

    The full table takes 5 seeds of 200 epochs each on a GPU. A small one for a CPU:
        neurosim reproduce table1 --subset 2000 --epochs 10 --seeds 0 --variants conv lc ws1

    Args:
        table: The table.
        options: What to train on, how long, and where results go.
    """
    folder, outcomes = run_variants("table1", variants(table, options), options, range(5))
    return report("table1", folder, outcomes, COLUMNS)
