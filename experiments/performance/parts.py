"""What the parts of a benchmark have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.report import table


@dataclass(frozen=True)
class Findings:
    """What a part measured, to print and to keep."""

    lines: list[str]
    values: dict[str, Any]


class Disagreement(Exception):
    """Fast and plain results differ by more than they may."""


def listed(title: str, values: dict[str, float]) -> Findings:
    """One line for every value."""
    rows = [[name, f"{value:.4g}"] for name, value in values.items()]
    return Findings(table([title, ""], rows), values)


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value


def own_peak() -> float:
    """MiB that this process has held at most; NaN where there is no /proc (Linux has it).

    getrusage would do everywhere, but remembers what the parent held before the fork.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
