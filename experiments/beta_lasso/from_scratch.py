"""From a fully connected start to shared weights: learn locality, then sleep. (A study of ours.)

Claim: a network that begins fully connected can learn by itself both things that make a
convolution, one after the other: where to look, by beta-LASSO, and to look for the same thing
everywhere, by sleep. No paper has joined the two.

1. S-FC learns by beta-LASSO. Its units begin without a place, and its filters become local.
2. Every unit is given the place of a map where a receptive field covers most of its weight, and
   the channel whose filters resemble its own (`neurosim.nn.arrange`); outputs stay as they are.
   Weights outside of the fields are lost: how many, and at what cost in accuracy, is printed
   beside what units in an order of chance would lose.
3. What is left is a locally connected layer with the connections that were learned, and no others.
   It goes on learning, awake, and sleeps after every batch: neurons of a grid take their mean.

Beside it: S-FC by SGD, S-LOCAL as designed by hand with the same sleeps, and S-CONV. Even kernels
have stride 2 in common with their size, so that grids have a period of half a kernel and many
members on a small map; the default is 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from experiments.beta_lasso.measures import accuracy, mean_with_interval
from experiments.beta_lasso.setting import Lasso, first_and_last
from experiments.common.derived import derived
from experiments.common.networks import restore
from experiments.common.options import TrainingOptions
from experiments.common.result import Report, results_folder, table
from experiments.common.variants import Variant, remove_checkpoints, report, run_file, run_variants
from neurosim.errors import require
from neurosim.files import write_csv
from neurosim.nn import Dense, arrange, restrict, to_local
from neurosim.nn.arrange import assign, covered, magnitude
from neurosim.nn.dense import UnitNorm
from neurosim.nn.masked import set_pattern
from neurosim.training import SleepSettings


@dataclass(frozen=True)
class FromScratch:
    """What happens after the fully connected beginning."""

    sharing: int = 60
    """Epochs of wake and sleep after the conversion (--epochs are those before it)."""
    sharing_lr: float = 1e-2
    """Learning rate (of AdamW) of these."""
    every: int = 1
    """Batches between sleeps."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        require(self.sharing >= 1, "--sharing", self.sharing, ">= 1")
        require(self.every >= 1, "--every", self.every, ">= 1")


@dataclass(frozen=True)
class Conversion:
    """A fully connected network that became local."""

    seed: int
    dense: float  # top-1 accuracy before
    local: float  # and after, with what was lost
    unordered: float  # share of |w| in receptive fields, units in the order they had
    arranged: float  # and at their places
    chance: float  # the same of filters whose pixels were shuffled
    connections: float  # share of the fields' connections that are left


SMALL = Lasso(channels=8, kernel=6, l1=3e-5, first=20.0, lr=0.5, pad=4)


def beginnings(lasso: Lasso, options: TrainingOptions) -> list[Variant]:
    """S-CONV by SGD, S-FC by SGD and by beta-LASSO."""
    base = lasso.base(options, epochs=200, default="digits-translated")
    if options.batch_size is None and options.dataset is None:
        base = replace(base, optimisation=replace(base.optimisation, batch_size=60))
    plain = lasso.row("shallow", "dense", base).settings
    sparse = first_and_last(lasso.lasso(plain))
    conv = lasso.row("shallow", "conv", base).settings
    return [
        Variant("S-CONV", conv),
        Variant("S-FC-sgd", plain),
        Variant("S-FC-lasso", sparse),
    ]


def continuations(study: FromScratch, lasso: Lasso, start: Variant) -> list[Variant]:
    """What the learned layer goes on to do, and one that was local by design."""
    wake = replace(
        start.settings.optimisation, optimizer="adamw", l1=0.0, l1_first=None,
        lr=study.sharing_lr, weight_decay=1e-2, epochs=study.sharing, lr_schedule="constant",
    )  # fmt: skip
    record = replace(start.settings.record, snapshot_every=None, snapshot_layers=("*",))
    network = lasso.network("shallow", "local")
    awake = replace(start.settings, optimisation=wake, network=network, record=record)
    sleeps = replace(awake, sleep=SleepSettings(sleep="instant", every=study.every))
    return [
        Variant("learned-awake", awake),
        Variant("learned-sleeps", sleeps),
        Variant("S-LOCAL-awake", awake),
        Variant("S-LOCAL-sleeps", sleeps),
    ]


def variants(study: FromScratch, options: TrainingOptions, lasso: Lasso) -> list[Variant]:
    """All that is trained, from its own beginning or from what was learned."""
    starts = beginnings(lasso, options)
    return [*starts, *continuations(study, lasso, starts[-1])]


def run(study: FromScratch, options: TrainingOptions, lasso: Lasso = SMALL) -> Report:
    """Start fully connected, learn locality by beta-LASSO, then sleep to share weights.

    On the built-in translated digits unless told otherwise; about two minutes on a CPU. On a GPU:
        neurosim reproduce from-scratch --dataset cifar10 --channels 64 --kernel 8 --epochs 400
            --sharing 100 --lr 0.1 --l1 2e-5 --batch-size 512 --sharing-lr 1e-3

    Args:
        study: What happens after the beginning.
        options: What to train on, how long (the beginning), and where results go.
        lasso: The penalty and the size of the network.
    """
    study.check()
    lasso.check()
    options.check()
    name = "from-scratch"
    folder = results_folder(options.out, name)
    here = replace(options, out=folder, keep_checkpoints=True)
    starts = beginnings(lasso, options)
    _, begun = run_variants(name, starts, replace(here, variants=None), (0,))
    found = [
        Conversion(**derived(path, "conversion", partial(convert, path, options.data, curves.seed)))
        for path, curves in zip(begun[-1].files, begun[-1].runs, strict=True)
    ]

    @cache
    def learned(seed: int) -> nn.Module:
        return localise(restore(run_file(folder, starts[-1].name, seed))[1]).network

    def network(variant: Variant, seed: int) -> nn.Module | None:
        return deepcopy(learned(seed)).train() if variant.name.startswith("learned") else None

    rows = continuations(study, lasso, starts[-1])
    _, ended = run_variants(name, rows, here, (0,), network=network)
    outcomes = [*begun, *ended]
    remove_checkpoints(outcomes, options)
    result = report(name, folder, outcomes, {})
    columns = [field.name for field in fields(Conversion)]
    write_csv(folder / f"{name}-conversion.csv", columns, [astuple(one) for one in found])
    result.lines += ["", *_lines(found)]
    result.values["conversions"] = [asdict(one) for one in found]
    return result


def convert(run_file: Path, data: Path | None, seed: int) -> dict[str, Any]:
    """What becomes of the network of a finished run as `localise` changes it: a `Conversion`."""
    _, network = restore(run_file)
    dense = accuracy(run_file, data, "test", network).top1
    local, unordered, arranged, chance = localise(network)
    first: Any = local.get_submodule("conv1")
    found = Conversion(
        seed,
        dense,
        accuracy(run_file, data, "test", local).top1,
        unordered,
        arranged,
        chance,
        float((first.weight != 0).float().mean()),
    )
    return asdict(found)


class Localised(NamedTuple):
    """A network whose first layer has become local; shares of |w| in its receptive fields."""

    network: nn.Module
    unordered: float
    arranged: float
    chance: float


def localise(network: nn.Module) -> Localised:
    """The network with a locally connected first layer, as it has learned it."""
    assert isinstance(network, nn.Sequential)
    layer, norm, after = network.conv1, network.norm1, network.linear2
    assert isinstance(layer, Dense)
    assert isinstance(norm, UnitNorm)
    assert isinstance(after, nn.Linear)
    unordered, chance = _inside(layer), _inside(shuffled(layer), best=True)
    arrange(layer, norm, after)
    arranged = _inside(layer)
    restrict(layer)
    local = to_local(network, (1, *layer.input_shape), init="copy")
    first: Any = local.get_submodule("conv1")
    set_pattern(first, weights=first.weight != 0)
    return Localised(local, unordered, arranged, chance)


def _inside(layer: Dense, *, best: bool = False) -> float:
    """Share of |w| in the receptive fields of the places where units are, or would be best."""
    places = covered(layer)
    units, count = places.shape
    order = assign(places, units // count) if best else torch.arange(units)
    at = torch.arange(units) % count
    return float(
        places[order.to(places.device), at.to(places.device)].sum() / magnitude(layer).sum()
    )


def shuffled(layer: Dense, seed: int = 0) -> Dense:
    """The layer with every filter's pixels in an order of its own."""
    other, drawn = deepcopy(layer), np.random.default_rng(seed)
    channels, *space = layer.input_shape
    weight = other.weight.detach().view(len(layer.weight), channels, -1)
    keys = torch.from_numpy(drawn.random((len(weight), 1, np.prod(space, dtype=int))))
    order = keys.argsort(-1).to(weight.device).expand_as(weight)
    other.weight.data.copy_(weight.gather(2, order).flatten(1))
    return other


def _lines(found: Sequence[Conversion]) -> list[str]:
    """What the conversion kept, mean over seeds."""
    header = ["", "mean over seeds"]
    rows = [
        ["S-FC by beta-LASSO, top-1", [100 * one.dense for one in found], 2],
        ["as a local layer, top-1", [100 * one.local for one in found], 2],
        ["|w| in receptive fields, units in any order", [one.unordered for one in found], 3],
        ["|w| in receptive fields, units at their places", [one.arranged for one in found], 3],
        ["the same, if filters' pixels are shuffled", [one.chance for one in found], 3],
        ["connections left of the fields'", [one.connections for one in found], 3],
    ]
    return table(header, [[str(a), mean_with_interval(b, c)] for a, b, c in rows])  # type: ignore[arg-type]
