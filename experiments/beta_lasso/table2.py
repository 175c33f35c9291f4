"""Table 2: fully connected networks by beta-LASSO come close to locally connected ones.

Claim: the embedding of S-CONV in a fully connected network is far better trained by beta-LASSO
than by SGD; an l1 penalty alone (beta 0) does part of it, the threshold (beta 50) the rest.
Published accuracies are those after 4,000 epochs.

The penalty is chosen for every beta from --grid on training images that are held out; the rest of
the settings is in `experiments.beta_lasso.setting`. Printed besides are what is left of every
layer, how local the first one's filters are, and the bounds of Theorems 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from experiments.beta_lasso.measures import (
    bounds,
    bounds_table,
    remains,
    remains_table,
    write_remains,
)
from experiments.beta_lasso.published import COLUMNS, cells
from experiments.beta_lasso.setting import Lasso, first_and_last
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, results_folder, table
from experiments.common.variants import Variant, remove_checkpoints, report, run_variants
from neurosim.errors import require
from neurosim.training import TrainSettings


@dataclass(frozen=True)
class Table2:
    """What is compared, and how penalties are chosen."""

    betas: tuple[float, ...] = (0.0, 1.0, 50.0)
    """Thresholds."""
    grid: tuple[float, ...] = ()
    """Penalties to choose from, for every beta by itself (default: --l1 for all)."""
    held_out: int = 5000
    """Training images that penalties are chosen on."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        for name in ("betas", "grid"):
            values = getattr(self, name)
            least = all(value >= 0 for value in values)
            require(least and len(set(values)) == len(values), f"--{name}", values, ">= 0, once")
        require(self.held_out >= 1, "--held-out", self.held_out, ">= 1")


def variants(
    study: Table2,
    lasso: Lasso,
    options: TrainingOptions,
    chosen: Mapping[float, float] = MappingProxyType({}),
) -> list[Variant]:
    """S-CONV, S-LOCAL, 3-FC and S-FC by SGD, then S-FC by beta-LASSO.

    Penalties are those that were `chosen` by beta, and --l1 for the others.
    """
    base = lasso.base(options)
    others = [("shallow", "conv"), ("shallow", "local"), ("perceptron", "dense")]
    rows = [lasso.row(model, kind, base) for model, kind in others]
    plain = lasso.row("shallow", "dense", base)
    rows.append(replace(plain, settings=first_and_last(plain.settings)))
    for beta in study.betas:
        settings = lasso.lasso(plain.settings, beta, chosen.get(beta))
        name = f"S-FC-beta{beta:g}"
        published = cells(base.data.dataset, f"S-FC beta{beta:g}")
        rows.append(Variant(name, first_and_last(settings), published))
    return rows


def run(study: Table2, lasso: Lasso, options: TrainingOptions) -> Report:
    """Table 2: S-FC by SGD and by beta-LASSO, 400 epochs unless told otherwise, beside the paper.

    A small one for a CPU:
        neurosim reproduce betalasso-table2 --dataset mnist --channels 4 --subset 10000
            --epochs 30 --batch-size 100 --grid 1e-4 3e-4 --seeds 0 1 2

    Args:
        study: What is compared.
        lasso: The penalty and sizes.
        options: What to train on, how long, and where results go.
    """
    study.check()
    lasso.check()
    options.check()
    name = "betalasso-table2"
    folder = results_folder(options.out, name)
    here = replace(options, out=folder, keep_checkpoints=True)
    chosen, searched = search(study, lasso, replace(here, out=folder / "search"))
    rows = variants(study, lasso, options, chosen)
    _, outcomes = run_variants(name, rows, here, (0,))
    found = report(name, folder, outcomes, COLUMNS)
    dense = [o for o in outcomes if o.variant.name.startswith("S-FC")]
    if dense:
        left = remains(dense)
        write_remains(folder / f"{name}-weights.csv", left)
        lengths = {o.variant.name: bounds(o.files[0], options.data) for o in dense}
        found.lines += [*searched, "", *remains_table(left), "", *bounds_table(lengths)]
        found.values |= {"chosen": chosen, "weights": [vars(one) for one in left]}
        found.values["bounds"] = {key: vars(value) for key, value in lengths.items()}
    remove_checkpoints(outcomes, options)
    return found


def search(
    study: Table2, lasso: Lasso, options: TrainingOptions
) -> tuple[dict[float, float], list[str]]:
    """The penalty for every beta that is best on images held out, and the table of all."""
    wanted = options.variants
    betas = [b for b in study.betas if wanted is None or f"S-FC-beta{b:g}" in wanted]
    if len(study.grid) < 2 or not betas:
        return dict.fromkeys(study.betas, (study.grid or (lasso.l1,))[0]), []
    base = lasso.base(options)
    base = replace(base, data=replace(base.data, validation=study.held_out, test_subset=None))
    rows, of = [], {}
    for beta in betas:
        for l1 in study.grid:
            settings: TrainSettings = lasso.lasso(base, beta, l1)
            rows.append(Variant(f"beta{beta:g}-l1_{l1:g}", settings))
            of[rows[-1].name] = beta, l1
    seeds = (options.seeds or (0,))[:1]
    quick = replace(options, variants=None, seeds=seeds, keep_checkpoints=False)
    _, outcomes = run_variants("search", rows, quick, seeds)
    best: dict[float, tuple[float, float]] = {}
    lines = []
    for outcome in outcomes:
        beta, l1 = of[outcome.variant.name]
        top1 = float(outcome.last("top1").mean())
        lines.append([f"{beta:g}", f"{l1:g}", f"{100 * top1:.2f}"])
        best[beta] = max(best.get(beta, (-1.0, 0.0)), (top1, l1))
    header = ["beta", "l1", "top-1 on images held out"]
    return {beta: l1 for beta, (_, l1) in best.items()}, ["", *table(header, lines)]
