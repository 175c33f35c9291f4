"""How fast and how small the analysis of weights and representations is, beside plain references.

    python -m experiments.performance.analysis [--parts pls distances cka file] [--quick]

Every part first compares results with the reference; one that disagrees is reported as failed
and no speed of it counts.

    pls        PLS with 25 components beside scikit-learn's; at least 20 times faster, below 6 GB
    distances  between filters of ResNet-20 at all radii beside the loop over pairs; 100 times
    cka        10,000 x 25,088 activations without a matrix of features x features
    file       analysing a run file of 5 GB in less than 1 GB
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common.result import as_json
from experiments.performance.parts import Disagreement, Findings, command_line, execute, keep
from experiments.performance.representations import cka, pls
from experiments.performance.trajectories import distances, file
from neurosim.errors import require_choice

PARTS: dict[str, Callable[[bool], Findings]] = {
    "pls": pls,
    "distances": distances,
    "cka": cka,
    "file": file,
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    parts: tuple[str, ...] = tuple(PARTS)
    quick: bool = False
    out: Path | None = None


def main(options: Options) -> int:
    """Measure, print, keep; 1 if a part disagrees with its reference."""
    for part in options.parts:
        require_choice("--parts", part, PARTS)
    failed, lines = [], []
    results: dict[str, Any] = {"quick": options.quick}
    for part in options.parts:
        try:
            found = PARTS[part](options.quick)
        except Disagreement as error:
            failed.append(part)
            text = ["", f"{part}: failed, {error}: no speed is measured"]
        else:
            results[part] = found.values
            text = ["", *found.lines]
        print("\n".join(text), flush=True)
        lines += text
    print(as_json(results))
    keep(options.out, "analysis-cpu", lines[1:], results)
    return 1 if failed else 0


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--parts", nargs="+", default=tuple(PARTS), help="what to measure (all)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, a few seconds")
    execute(parser, Options, main)
