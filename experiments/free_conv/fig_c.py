"""Figs. C.1 and C.2: free networks do well without most of their connections.

Claim: with every connection absent with some probability, for life, free networks lose little
until most are absent; then accuracy falls fast. The published code crosses probabilities 0 to
0.99 with translations of 0 to 0.4, and severs inputs where its text severs weights (`--sever`).
Neurons may lose all their inputs: that is said when it happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from experiments.common.result import Report
from experiments.free_conv.protocol import STRENGTHS, FreeOptions, Result, cells, run_cells
from experiments.free_conv.results import report
from experiments.free_conv.study import strengths
from neurosim.errors import require

DRAWN = ("acc", "val_acc", "translation", "rotation", "noise", "edge_noise")


@dataclass(frozen=True)
class Connections:
    """How many connections are absent."""

    probabilities: tuple[float, ...] = STRENGTHS
    """Probabilities that a connection is absent, at least 0 and below 1."""

    def check(self) -> None:
        """Refuse what is no probability."""
        for value in self.probabilities:
            require(0 <= value < 1, "--probabilities", value, "at least 0 and below 1")
        require(self.probabilities, "--probabilities", self.probabilities, "one or more")


def run(connections: Connections, options: FreeOptions) -> Report:
    """Figs. C.1 and C.2: accuracies by the share of absent connections, at five translations.

    Args:
        connections: How many connections are absent.
        options: What to train on, how long, and where results go.
    """
    connections.check()
    wanted = cells(
        ("mnist", "cifar10"),
        ("fcn",),
        ("vcp",),
        options,
        (0.0, 0.1, 0.2, 0.3, 0.4),
        connections.probabilities,
    )
    folder, results = run_cells("free-figC", wanted, options)
    shown = ("val_acc", "translation")
    return report("free-figC", folder, results, shown, options, _figures(results, options))


def _figures(results: Sequence[Result], options: FreeOptions) -> dict[str, Figure]:
    """One for every data set and translation, a line per probability."""
    found: dict[str, list[Result]] = {}
    for result in results:
        stem = f"free-figC-{Path(result.cell.dataset).stem}-translation{result.cell.aug:g}"
        found.setdefault(stem, []).append(result)
    return {
        stem: strengths(group, DRAWN, options, lambda cell: cell.vcp, "absent", columns=2)
        for stem, group in found.items()
    }
