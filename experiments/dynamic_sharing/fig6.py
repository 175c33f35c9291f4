"""Fig. 6: between sleeps weights diverge, the faster the larger the learning rate.

Claim: with a sleep every 10 batches on CIFAR-10, -log SNR rises after every sleep and falls at
the next; at a learning rate of 5e-4 it hardly rises, at 5e-2 it rises far.
"""

from __future__ import annotations

from dataclasses import replace

from analysis import figures
from analysis.convergence.snr import log_inverse_snr
from analysis.training import figures as training_figures
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, table
from experiments.common.variants import Variant, run_variants, write_csv
from neurosim.training import (
    DataSettings,
    NetworkSettings,
    OptimisationSettings,
    RecordSettings,
    SleepSettings,
    TrainSettings,
)

RATES = (5e-4, 5e-3, 5e-2)


def variants(options: TrainingOptions) -> list[Variant]:
    """ws(10) at three learning rates; SNR at every step of a few epochs."""
    base = options.apply(
        TrainSettings(
            data=DataSettings(dataset="cifar10", pad=4),
            network=NetworkSettings(model="resnet20", connectivity="local"),
            optimisation=OptimisationSettings(batch_size=512, epochs=200, weight_decay=1e-2),
            sleep=SleepSettings(sleep="instant", every=10),
            record=RecordSettings(record_every=1 if (options.epochs or 200) <= 5 else 5),
        )
    )
    return [
        Variant(f"lr{rate:g}", replace(base, optimisation=replace(base.optimisation, lr=rate)))
        for rate in RATES
    ]


def run(options: TrainingOptions) -> Report:
    """Fig. 6: -log SNR over training with a sleep every 10 batches, at three learning rates.

    Args:
        options: What to train on, how long, and where results go.
    """
    folder, outcomes = run_variants("fig6", variants(options), options, (0,))
    path = write_csv(folder / "fig6.csv", outcomes, {})
    drawn = figures.save(
        training_figures.divergence(
            {f"learning rate {o.variant.settings.optimisation.lr:g}": o.runs[0] for o in outcomes}
        ),
        folder / "fig6",
    )
    lines, values = [], []
    for outcome in outcomes:
        before = outcome.runs[0].sleep_statistics["inverse_snr"][:, 0]  # (sleeps, layers)
        logs = log_inverse_snr(before)
        rate = outcome.variant.settings.optimisation.lr
        first, last = (float(logs[i].mean()) for i in (0, -1))
        top1 = 100 * float(outcome.last("top1").mean())
        lines.append([f"{rate:g}", f"{first:.2f}", f"{last:.2f}", f"{top1:.2f}"])
        values.append({"lr": rate, "first": first, "last": last, "top1": top1})
    header = ["lr", "-log SNR before the first sleep", "before the last", "top-1"]
    return Report("fig6", folder, drawn, table(header, lines), {"rates": values}, table=path)
