"""Supp. Fig. 4: computational cost against the rank, counted while it is spent.

Claim: the cost of input-dependent low-rank layers and of convolutions with as many parameters grows
with the rank, that of a fixed low-rank layer does not, since it can be converted into a locally
connected layer, which computes as much as a convolution.

Products are counted as they are dispatched (torch's FLOP counter; a multiplication and an addition
are two), of the locally connected layer in its reference form; peaks of live tensors are measured.
Element by element operations are not counted. Memory is that of a training step beyond what was
alive before, weights' gradients included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from analysis import figures
from analysis.training.figures import Point, against
from experiments.common.options import RunOptions
from experiments.common.result import Report, refuse_existing, results_folder, table
from experiments.performance.measure import peak_memory
from neurosim.errors import require
from neurosim.files import write_csv
from neurosim.models import lrlc
from neurosim.nn import to_local


@dataclass(frozen=True)
class Costs:
    """Which networks."""

    ranks: tuple[int, ...] = (1, 2, 4, 8)
    """Spatial ranks of the third layer."""
    batch: int = 16
    """Images in the training step whose memory and products are measured."""
    size: int = 32
    """Side of the images."""

    def check(self) -> None:
        """Refuse what makes no sense."""
        valid = self.ranks and all(rank >= 1 for rank in self.ranks)
        require(valid, "--ranks", self.ranks, "one or more, >= 1")
        require(self.batch >= 1, "--batch", self.batch, ">= 1")


@dataclass(frozen=True)
class Cost:
    """What a network costs."""

    network: str
    rank: int
    parameters: int
    inference: float  # MFLOP per image
    training: float  # of a step, per image; NaN for a network that is not trained
    memory: float  # MiB, at the worst moment of a step


def networks(rank: int, size: int) -> dict[str, nn.Module]:
    """Networks of this rank; only the converted one is not for training."""
    low = lrlc(layer="low-rank", rank=rank, input_size=size)
    return {
        "conv": lrlc(layer="conv", input_size=size),
        "low-rank": low,
        "low-rank, converted": to_local(low, (1, 3, size, size), skip=2, backend="naive"),
        "input-dependent": lrlc(layer="input-dependent", rank=rank, input_size=size),
        "wide": lrlc(layer="wide", rank=rank, input_size=size),
    }


def flops(work: Callable[[], Any]) -> int:
    """Operations of the products that a call dispatches."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def cost(name: str, rank: int, model: nn.Module, x: Tensor) -> Cost:
    """Count and measure one network."""
    target = torch.zeros(len(x), dtype=torch.long)
    inference = flops(lambda: model(x[:1])) / 1e6
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if name == "low-rank, converted":
        return Cost(name, rank, parameters, inference, math.nan, math.nan)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        functional.cross_entropy(model(x), target).backward()

    training = flops(step) / len(x) / 1e6
    model.zero_grad(set_to_none=True)
    return Cost(name, rank, parameters, inference, training, peak_memory(step, "cpu"))


def run(costs: Costs, options: RunOptions) -> Report:
    """Supp. Fig. 4: FLOPs of inference and training, and memory, against the rank; measured.

    Args:
        costs: Which networks.
        options: Where results go.
    """
    costs.check()
    options.check()
    folder = results_folder(options.out, "lrlc-flops")
    path = folder / "lrlc-flops.csv"
    stem = folder / "lrlc-flops"
    refuse_existing([path, *figures.figure_paths(stem)], overwrite=options.overwrite)
    torch.manual_seed(options.seed)
    x = torch.randn(costs.batch, 3, costs.size, costs.size)
    found = [
        cost(name, rank, model, x)
        for rank in costs.ranks
        for name, model in networks(rank, costs.size).items()
    ]
    header = ["network", "rank", "parameters", "inference, MFLOP", "training, MFLOP",
              "training, MiB"]  # fmt: skip
    rows = [
        [c.network, str(c.rank), str(c.parameters), f"{c.inference:.1f}", f"{c.training:.1f}",
         f"{c.memory:.1f}"]
        for c in found
    ]  # fmt: skip
    write_csv(path, header, rows)
    lines = {
        name: [Point(c.rank, c.inference, math.nan) for c in found if c.network == name]
        for name in dict.fromkeys(c.network for c in found)
    }
    drawn = figures.save(against(lines, "spatial rank", "inference, MFLOP per image"), stem)
    return Report(
        "lrlc-flops", folder, drawn, table(header, rows), {"costs": [vars(c) for c in found]},
        table=path,
    )  # fmt: skip
