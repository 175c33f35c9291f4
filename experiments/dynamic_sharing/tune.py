"""The papers' grid searches: learning rate and weight decay on a validation split (App. B)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

from experiments.dynamic_sharing.digits import variants as digits_variants
from experiments.dynamic_sharing.table1 import Table1
from experiments.dynamic_sharing.table1 import variants as table1_variants
from experiments.dynamic_sharing.table2 import Table2
from experiments.dynamic_sharing.table2 import variants as table2_variants
from experiments.report import Report, table
from experiments.training import TrainingOptions, Variant, report, run_variants
from neurosim.errors import require_choice

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
    """The grid, and which networks it is searched for."""

    lrs: tuple[float, ...] | None = None
    """Learning rates (default: the paper's, for conv or for local networks)."""
    weight_decays: tuple[float, ...] | None = None
    """Weight decays (default: the paper's, for conv or for local networks)."""
    padding: int = 4
    """Pixels of padding."""
    validation: int | None = None
    """Training images held out (default: 5,000 of CIFAR, 10,000 of ImageNet, else a tenth)."""


def variants(settings: Tune, options: TrainingOptions) -> list[Variant]:
    """Every combination of a rate and a decay for every chosen network."""
    dataset = options.dataset or "cifar10"
    options = replace(options, epochs=options.epochs or EPOCHS.get(dataset))
    if dataset.startswith("digits"):
        rows = digits_variants(options)
    elif dataset == "imagenet":
        rows = table2_variants(Table2(), options)
    else:
        rows = table1_variants(Table1(settings.padding), options)  # type: ignore[arg-type]
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
        for lr, decay in itertools.product(lrs, chosen):
            wake = replace(row.settings.optimisation, lr=lr, weight_decay=decay)
            data = replace(row.settings.data, validation=held)
            name = f"{row.name}-lr{lr:g}-wd{decay:g}"
            found.append(Variant(name, replace(row.settings, optimisation=wake, data=data)))
    return found


def run(grid: Tune, options: TrainingOptions) -> Report:
    """Search learning rate and weight decay on a validation split, as the paper does.

    Args:
        grid: The grid.
        options: What to train on, how long, and where results go.
    """
    rows = variants(grid, options)
    folder, outcomes = run_variants("tune", rows, replace(options, variants=None), (0,))
    found = report("tune", folder, outcomes, {})
    best: dict[str, tuple[float, str]] = {}
    for outcome in outcomes:
        network = outcome.variant.name.rsplit("-lr", 1)[0]
        score = float(outcome.last("top1").mean())
        best[network] = max(best.get(network, (-1.0, "")), (score, outcome.variant.name))
    chosen = [[network, name, f"{100 * score:.2f}"] for network, (score, name) in best.items()]
    found.lines += ["", *table(["network", "best on validation", "top-1"], chosen)]
    found.values["best"] = {network: name for network, (_, name) in best.items()}
    return found
