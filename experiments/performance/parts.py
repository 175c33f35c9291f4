"""What the parts of a benchmark have in common."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.performance.machine import machine
from experiments.report import as_json, table


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


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """A parser that explains itself by the docstring of its script; all of them have --out."""
    summary, _, details = (doc or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for the numbers, as text and JSON")
    return parser


def keep(out: Path | None, stem: str, lines: Sequence[str], results: dict[str, Any]) -> None:
    """Write STEM.txt and STEM.json, with what they were measured on, if there is a folder."""
    if out is None:
        return
    about = machine()
    if (torch := sys.modules.get("torch")) is not None:
        about |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{stem}.txt").write_text("\n".join(lines) + "\n")
    (out / f"{stem}.json").write_text(as_json({"machine": about} | results) + "\n")
