"""Table 3: networks that share weights in their sleep are a little more like the ventral stream.

Claim: of ResNet-18 (0.5x width) trained on ImageNet, locally connected networks that sleep every
1 or 10 batches fit V1, V2, V4, IT and behaviour better on average (0.396, 0.385) than their
convolutional twin (0.357); without sleep they fit worse (0.349).

The paper's numbers come from Brain-Score's private benchmarks. Here the same models are scored on
whatever is at hand: Brain-Score's public assemblies, each in a folder of its name with its .nc
file, its .csv file and its images, and two free data sets. What is missing is named. Absolute
numbers cannot be compared between columns of different benchmarks, differences between models
can.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from analysis.benchmark.assemblies import read_folder
from analysis.benchmark.candidates import Candidate, Network, pixels
from analysis.benchmark.datasets import cowley2023, kriegeskorte2008
from analysis.benchmark.form import Benchmark
from analysis.benchmark.scoring import Score, Scoring, score
from analysis.representations.activations import Extraction, block_names
from analysis.representations.stimuli import View
from experiments.common.networks import candidate
from experiments.common.result import Report, table
from experiments.common.scores import report, scores_folder
from neurosim.data.sources import data_folder
from neurosim.errors import InvalidArgument, require
from neurosim.models import resnet18
from neurosim.progress import StatusLine

COLUMNS = ("average", "V1", "V2", "V4", "IT", "behaviour")
PUBLISHED = {
    "conv": (0.357, 0.493, 0.313, 0.459, 0.370, 0.148),
    "lc": (0.349, 0.542, 0.291, 0.448, 0.354, 0.108),
    "ws1": (0.396, 0.512, 0.339, 0.468, 0.406, 0.255),
    "ws10": (0.385, 0.508, 0.322, 0.478, 0.399, 0.216),
    "ws100": (0.351, 0.523, 0.293, 0.467, 0.370, 0.101),
}


class Source(NamedTuple):
    """A benchmark that can be scored if its files are there."""

    regions: str
    place: str  # folder of an assembly, or file of a data set
    read: Callable[[Path], Benchmark]


ASSEMBLIES = (
    Source("V1, V2", "FreemanZiemba2013.public", read_folder),
    Source("V4, IT", "MajajHong2015.public", read_folder),
    Source("behaviour", "Rajalingham2018.public", read_folder),
)
DATASETS = (
    Source("V4", "macaque_v4.npz", partial(cowley2023, session="210325")),
    Source("IT", "primate_it_92.npz", kriegeskorte2008),
)
UNREADABLE = "V1 (Marques2020): distributions of single-neuron properties, which are not scored"


@dataclass(frozen=True)
class Table3:
    """What is scored."""

    models: tuple[str, ...] = ()
    """Rows as NAME=CHECKPOINT, such as conv=runs/table2/conv-seed0.h5 (default: networks with
    new weights, convolutional and local)."""
    layers: tuple[str, ...] | None = None
    """Layers that may stand for a region (default: the outputs of all blocks)."""
    assemblies: Path | None = None
    """Folder of Brain-Score's public assemblies, each in a folder of its name."""
    pool: int | None = 7
    """Average larger maps down to so many rows and columns before comparing."""
    size: int = 64
    """Size of images for networks with new weights."""


@dataclass(frozen=True)
class TableOptions:
    """Where data are and results go."""

    data: Path | None = None
    """Folder of data sets (default: $NEUROSIM_DATA)."""
    device: str = "cpu"
    """Where networks compute."""
    out: Path | None = None
    """Folder for activations, tables and figure (default: runs/table3, or the next free one)."""
    overwrite: bool = False
    """Replace tables that are already in the folder; activations there are used again."""
    quiet: bool = False
    """No progress and no table, only errors."""
    json: bool = False
    """Print the results as JSON on standard output instead of a table."""


def run(table3: Table3, options: TableOptions) -> Report:
    """Table 3: how brain-like convolutional, local and sleeping networks are.

    Args:
        table3: What is scored.
        options: Where data are and results go.
    """
    present, missing = find_sources(table3.assemblies, options.data)
    if not present:
        raise InvalidArgument("no benchmark was found: " + "; ".join(missing))
    candidates = rows(table3, options)
    folder = scores_folder("table3", options.out, overwrite=options.overwrite)
    line = StatusLine(quiet=options.quiet)
    scores: list[Score] = []
    for source, path in present:
        benchmark = source.read(path)
        found = score(candidates, benchmark, None, Scoring(), folder=folder, tell=line.say)
        scores += [replace(s, region=f"{s.region} {benchmark.name}") for s in found]
    result = report("table3", folder, scores)
    result.lines += ["", "missing:", *(f"  {what}" for what in missing)]
    result.lines += ["", "the paper, on Brain-Score's private benchmarks:", *published()]
    result.values |= {"missing": missing, "published": {
        name: dict(zip(COLUMNS, row, strict=True)) for name, row in PUBLISHED.items()
    }}  # fmt: skip
    return result


def rows(table3: Table3, options: TableOptions) -> list[Candidate]:
    """The models: those given, or twins with new weights; and the pixels."""
    settings = Extraction(pool=table3.pool)
    if not table3.models:
        return [*untrained(table3, settings, options.device), pixels()]
    found: list[Candidate] = []
    for pair in table3.models:
        name, equals, place = pair.partition("=")
        require(equals and name and place, "--models", pair, "pairs such as conv=CHECKPOINT")
        network = candidate(place, table3.layers, settings=settings, device=options.device)
        found.append(replace(network, name=name))
    return [*found, pixels()]


def untrained(table3: Table3, settings: Extraction, device: str) -> list[Network]:
    """The paper's architecture with new weights, from the same seed."""
    found = []
    for name in ("conv", "local"):
        torch.manual_seed(0)
        module = resnet18(
            classes=1000, connectivity=name, input_size=table3.size, in_channels=3, width=0.5
        )
        layers = table3.layers or tuple(block_names(module))
        view = View((table3.size, table3.size))
        found.append(Network(f"untrained {name}", module, layers, view, settings, device))
    return found


def find_sources(
    assemblies: Path | None, data: Path | None
) -> tuple[list[tuple[Source, Path]], list[str]]:
    """What is there, and a line for each that is not."""
    present, missing = [], []
    for source in ASSEMBLIES:
        path = assemblies / source.place if assemblies else None
        if path is not None and path.is_dir():
            present.append((source, path))
        else:
            where = f"no folder {path}" if path else "--assemblies was not given"
            missing.append(f"{source.regions} ({source.place}): {where}")
    for source in DATASETS:
        path = data_folder(data) / source.place
        if path.is_file():
            present.append((source, path))
        else:
            missing.append(f"{source.regions} ({source.place}): not in {path.parent}")
    return present, [*missing, UNREADABLE]


def published() -> Sequence[str]:
    """The paper's table."""
    numbers = [[name, *(f"{value:.3f}" for value in row)] for name, row in PUBLISHED.items()]
    return table(["model", *COLUMNS], numbers)
