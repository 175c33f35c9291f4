"""Tables 2 and 13: dynamic weight sharing on ImageNet, with a ResNet-18 of half the width.

Claim: with a sleep after every batch, or every ten, a locally connected network comes close to
its convolutional twin on ImageNet, and a convolutional first layer closes most of what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from experiments.common.options import TrainingOptions
from experiments.common.result import Report
from experiments.common.variants import Variant, report, run_variants
from experiments.dynamic_sharing.published import cell
from experiments.dynamic_sharing.table1 import INTERVALS, check_intervals
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    SleepSettings,
    TrainSettings,
)

COLUMNS = {"top1": "paper top-1", "top5": "paper top-5"}


@dataclass(frozen=True)
class Table2:
    """The networks of Table 2, and those of Table 13 with a convolutional first layer."""

    conv_first: bool = False
    """Only the networks whose first layer is convolutional (`reproduce table13` sets it)."""
    sleep: SleepSettings = field(default_factory=lambda: SleepSettings(sleep="instant"))
    """How ws(n) networks sleep; the paper's sleep is the instant mean."""


def variants(settings: Table2, options: TrainingOptions) -> list[Variant]:
    """conv, lc, lc with sleep every n batches."""
    check_intervals(settings.sleep)
    base = options.apply(
        TrainSettings(
            data=DataSettings(dataset=options.dataset or "imagenet"),
            network=NetworkSettings(model="resnet18", width=0.5, connectivity="local"),
            optimisation=OptimisationSettings(batch_size=256, epochs=200),
        )
    )
    suffix, first = ("-conv1", 1) if settings.conv_first else ("", 0)

    def variant(name: str, connectivity: str, sleep: SleepSettings) -> Variant:
        lr, decay = (cell("imagenet", None, name, q) for q in ("lr", "weight_decay"))
        assert lr is not None and decay is not None, name  # noqa: PT018 (our own table)
        network = replace(base.network, connectivity=connectivity, conv_first=first)  # type: ignore[arg-type]
        wake = replace(base.optimisation, lr=lr, weight_decay=decay)
        wanted = replace(base, network=network, optimisation=wake, sleep=sleep)
        published = {c: cell(base.data.dataset, None, name, c) for c in COLUMNS}
        return Variant(name, wanted, published)

    rows = [] if first else [variant("conv", "conv", SleepSettings())]
    rows.append(variant(f"lc{suffix}", "local", SleepSettings()))
    for n in INTERVALS:
        rows.append(variant(f"ws{n}{suffix}", "local", replace(settings.sleep, every=n)))
    return rows


def variants_conv_first(options: TrainingOptions) -> list[Variant]:
    """lc, and lc with sleep every n batches, behind a convolutional first layer."""
    return variants(Table2(conv_first=True), options)


def run(table: Table2, options: TrainingOptions) -> Report:
    """Table 2: conv, lc and lc with sleep on ImageNet; with --conv-first Table 13.

    Args:
        table: The table.
        options: What to train on, how long, and where results go.
    """
    name = "table13" if table.conv_first else "table2"
    folder, outcomes = run_variants(name, variants(table, options), options, (0,))
    return report(name, folder, outcomes, COLUMNS)


def run_conv_first(options: TrainingOptions) -> Report:
    """Table 13: the networks of Table 2 with a convolutional first layer.

    Args:
        options: What to train on, how long, and where results go.
    """
    return run(Table2(conv_first=True), options)
